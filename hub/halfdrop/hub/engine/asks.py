"""What is asked of the models: values, so that who asks needs no torch."""

from dataclasses import dataclass

from halfdrop.contracts.imported import PAINTED_GUIDANCE, PAINTED_STEPS
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
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


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitAsk:
    """One unit in pixels, of a user's checkpoint."""

    prompt: str
    size_px: int
    seed: int = 0
    negative_prompt: str = ""
    repeat: Repeat = STRAIGHT
    guidance_scale: float = PAINTED_GUIDANCE
    num_inference_steps: int = PAINTED_STEPS
    loras: tuple[LoraChoice, ...] = ()
    saved: SamplerState | None = None
    """As of a HouseAsk."""
