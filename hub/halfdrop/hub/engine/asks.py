"""What is asked of the house model: a value, so that who asks needs no torch."""

from dataclasses import dataclass

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.saved_work import SamplerState

STRAIGHT = Repeat()


@dataclass(frozen=True, kw_only=True, slots=True)
class HouseAsk:
    """One unit's plates."""

    prompt: str
    """Exact colours in it are drawn by the names of others, as at the edge."""

    negative_prompt: str = ""
    seed: int = 0
    repeat: Repeat = STRAIGHT
    guidance_scale: float = 0.0
    num_inference_steps: int = 2
    saved: SamplerState | None = None
    """Where an earlier try stood; what this model would not have come to itself is ignored."""
