"""What the gates ask for: held-out combinations of the grammar, and held-out prompts as people type them.

Both say what the picture must show. A layout and a scale are put into the grammar's prompts by turns, so that every
kind is asked for in every repeat; they reach the arithmetic and not the model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.captions import caption, detail_word
from halfdrop.models.house.gates.exact import draw_exact
from halfdrop.models.house.held_out_prompts import HELD_OUT_PROMPTS, HeldOutPrompt
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.kinds.drawing import Traits, seeded_words
from halfdrop.models.house.kinds.variations import VARIED
from halfdrop.models.house.palettes import COLOURS_255, Rgb
from halfdrop.models.phrases import read_phrases

SEED = 4242
"""The gates' own; training and judge have others. Whoever tunes by the gates should report another seed's figures."""

ASKED_REPEATS: tuple[tuple[str, Repeat], ...] = (
    ("", Repeat(units=4)),
    (", half-drop", Repeat(layout="half-drop", units=4)),
    (", brick layout, large", Repeat(layout="brick", units=2)),
    (", third drop", Repeat(layout="drop", drop="1/3", units=3)),
    (", mirrored", Repeat(layout="mirror", units=4)),
    (", large", Repeat(units=2)),
)
"""What is added to a prompt, and the lattice that must come of it."""

Source = Literal["grammar", "list"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A prompt, and what must come of it."""

    prompt: str
    """As typed, with layout and scale."""
    text: str
    """What of it reaches the model."""
    repeat: Repeat
    """The lattice asked for, in normal form."""
    kind: str
    source: Source
    colours: dict[str, Rgb]
    """By role: "ground", "body", "body 2", then details by their words. A role that is missing is open."""
    present: tuple[str, ...]
    """Details that must be there, by their words."""
    absent: tuple[str, ...]
    """Details that must not be there."""
    traits: Traits | None
    """The grammar's own description."""
    plates: Tensor | None
    """[4, 64, 64]: an exact unit that the prompt describes, where there is one."""


def ask(per_kind: int, seed: int = SEED, kinds: Sequence[str] = KIND_NAMES) -> list[Asked]:
    """Return `per_kind` prompts of each kind from the grammar, the same on every call with one seed.

    One in three set motifs is asked for in one of the ways of `variations`, if it has any.
    """
    words = seeded_words(seed)
    asked = []
    for number, kind in enumerate(kinds):
        ways = [way for way, varied in VARIED.items() if kind in varied]
        for place in range(per_kind):
            way = words.choice(ways) if ways and place % 3 == 2 else None
            plates, traits = draw_exact(kind, 1, seed=seed * 1000 + number * 100 + place, way=way)
            addition = ASKED_REPEATS[(place + number) % len(ASKED_REPEATS)]
            asked.append(_ask_grammar(kind, traits[0], plates[0], addition, words))
    return asked


def ask_list(prompts: Sequence[HeldOutPrompt] = HELD_OUT_PROMPTS) -> list[Asked]:
    """Return the prompts that people might type, put down before training."""
    return [_ask_written(prompt) for prompt in prompts if prompt.kind in KIND_NAMES]


def role_slots(traits: Traits) -> dict[str, int]:
    """Return the place in the palette, 0 to 4, of each role that a unit with these traits shows."""
    slots = {"ground": 0}
    for number, layer in enumerate(traits.body, 1):
        slots["body" if number == 1 else f"body {number}"] = layer + 1
    for detail in traits.details:
        slots[detail_word(detail)] = detail.layer + 1
    if traits.is_blended:
        slots["overprint"] = 1
    return slots


def _ask_grammar(
    kind: str, traits: Traits, plates: Tensor, addition: tuple[str, Repeat], words: random.Random
) -> Asked:
    said_of_repeat, repeat = addition
    said = caption(traits, words, from_held_out=True)
    details = tuple(detail_word(detail) for detail in traits.details)
    return Asked(
        prompt=said.text + said_of_repeat,
        text=read_phrases(said.text + said_of_repeat).prompt,
        repeat=repeat.normalise(),
        kind=kind,
        source="grammar",
        colours={role: said.palette[slot] for role, slot in role_slots(traits).items()},
        present=details,
        absent=(),
        traits=traits,
        plates=plates,
    )


def _ask_written(prompt: HeldOutPrompt) -> Asked:
    colours = {"ground": prompt.ground, **prompt.colours}
    read = read_phrases(prompt.text)
    repeat = read.repeat
    if prompt.layout != "drop":  # which drop is said in the text alone
        repeat = Repeat(layout=prompt.layout, units=prompt.units)  # type: ignore[arg-type]  # normalise() checks it
    return Asked(
        prompt=prompt.text,
        text=read.prompt,
        repeat=repeat.normalise(),
        kind=prompt.kind,
        source="list",
        colours={role: _rgb(colour) for role, colour in colours.items() if colour},
        present=prompt.present,
        absent=prompt.absent,
        traits=None,
        plates=None,
    )


def _rgb(colour: str) -> Rgb:
    levels = bytes.fromhex(colour[1:]) if colour.startswith("#") else bytes(COLOURS_255[colour])
    return levels[0] / 255, levels[1] / 255, levels[2] / 255
