"""Prompts as designers type them, with what each should give: never trained on."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutPrompt:
    """A prompt, and what its picture must show."""

    text: str
    kind: str
    """As in KIND_NAMES."""
    ground: str
    """A name of COLOURS_255, or '#rrggbb' where the prompt gives one; '' where it leaves the ground to the model."""
    colours: dict[str, str] = field(default_factory=dict)
    """By role: 'body' ('body 2' and 'body 3' of a kind in several colours), then details by the words of `present`."""
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    """Details denied, or not asked for of a kind that is drawn with and without."""
    layout: str = "straight"
    units: int = 4


HELD_OUT_PROMPTS: tuple[HeldOutPrompt, ...] = ()
