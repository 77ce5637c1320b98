"""A LoRA to draw with: a value, so that who asks needs no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraChoice:
    """A file and how strongly it counts."""

    file: Path
    weight: float = 1.0
    """-4 to 4; 1 is as it was trained, 0 is without it."""
