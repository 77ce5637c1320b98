"""Exact colours in a prompt: '#ff8800 stars on #102030'.

The model knows colours by name. So each exact colour goes to it as the nearest name that the prompt does not use
otherwise, and the slots of the palette that it then paints in that name's colour are given the exact one. Which role
a colour has is thus read by the model, as it is of names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from halfdrop.models.house.palettes import COLOUR_NAMES, COLOURS_255
from halfdrop.models.house.tokenizer import Tokenizer, fold

Levels = tuple[int, int, int]
"""sRGB, 0 to 255."""

HEX = re.compile(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})(?![0-9a-z])", re.IGNORECASE)
ROUNDED_LEVELS = 1
"""Greatest difference, in any channel, that rounding makes. The palette head chooses among exact colours
(`house.inks`): a slot has a name's colour, one half-way between two, or has nothing to do with either."""
INKS: tuple[Levels, ...] = (COLOURS_255["black"], COLOURS_255["white"])
"""What shades are mixed with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Substitution:
    """A name that stands for an exact colour '#rrggbb'."""

    name: str
    colour: str


def spell_hex(prompt: str) -> str:
    """Return the prompt with each exact colour as '#rrggbb' in lower case: one colour, one spelling."""
    return HEX.sub(lambda match: _six_digits(match[0]), prompt)


def known_names(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the names of colours that a model with this vocabulary knows."""
    return tuple(name for name in COLOUR_NAMES if not tokenizer.unknown_words(name))


def read_hex(prompt: str, names: Sequence[str] = COLOUR_NAMES) -> tuple[str, tuple[Substitution, ...]]:
    """Return the prompt with names for its exact colours, in parentheses, and which name stands for which.

    names: those that the model knows. A colour said twice has one name. Where more exact colours are said than there
    are names, the rest are left as they are.
    """
    tokens = set(fold(HEX.sub(" ", prompt)))
    free = [name for name in names if not set(fold(name)) <= tokens]
    chosen: dict[str, str] = {}
    for match in HEX.finditer(prompt):
        colour = _six_digits(match[0])
        if colour not in chosen and free:
            chosen[colour] = _nearest(_levels(colour), free)
            free.remove(chosen[colour])

    def name_of(match: re.Match[str]) -> str:
        # The parentheses keep a neighbour away: 'light #2060c0' must not become another name, 'light blue'.
        name = chosen.get(_six_digits(match[0]))
        return match[0] if name is None else f"({name})"

    named = HEX.sub(name_of, prompt)
    return named, tuple(Substitution(name=name, colour=colour) for colour, name in chosen.items())


def restore_hex(palette: Sequence[str], substitutions: Sequence[Substitution]) -> tuple[str, ...]:
    """Return the palette '#rrggbb' with each slot that was painted for a substituted name in its exact colour.

    Slots between two others (the single passes of a gingham) or a shade of one (camouflage named one colour) are
    mixed again from the exact colours.
    """
    drawn = [_levels(colour) for colour in palette]
    painted = {slot: _painted_for(levels, substitutions) for slot, levels in enumerate(drawn)}
    exact = [levels if (found := painted[slot]) is None else _levels(found.colour) for slot, levels in enumerate(drawn)]
    for slot, levels in enumerate(drawn):
        if painted[slot] is None and substitutions:
            exact[slot] = _mixed_again(levels, drawn, exact, [place for place, found in painted.items() if found])
    return tuple(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in exact)


def _six_digits(colour: str) -> str:
    digits = colour[1:].lower()
    return f"#{digits}" if len(digits) == 6 else "#" + "".join(digit * 2 for digit in digits)


def _painted_for(levels: Levels, substitutions: Sequence[Substitution]) -> Substitution | None:
    for each in substitutions:
        if _distance(levels, COLOURS_255[each.name]) <= ROUNDED_LEVELS:
            return each
    return None


def _mixed_again(levels: Levels, drawn: Sequence[Levels], exact: Sequence[Levels], painted: Sequence[int]) -> Levels:
    """Return the mixture anew of a painted slot with another slot or an ink that lies half-way, or the levels."""
    pairs = [(slot, other) for slot in painted for other in range(len(drawn)) if other != slot]
    mixtures = [(_between(drawn[a], drawn[b]), _between(exact[a], exact[b])) for a, b in pairs]
    mixtures += [(_between(drawn[a], ink), _between(exact[a], ink)) for a in painted for ink in INKS]
    if not mixtures:
        return levels
    before, after = min(mixtures, key=lambda mixture: _distance(levels, mixture[0]))
    return after if _distance(levels, before) <= ROUNDED_LEVELS else levels


def _nearest(levels: Levels, names: Sequence[str]) -> str:
    return min(names, key=lambda name: sum((a - b) ** 2 for a, b in zip(levels, COLOURS_255[name], strict=True)))


def _distance(first: Levels, second: Levels) -> int:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def _between(first: Levels, second: Levels) -> Levels:
    red, green, blue = ((a + b) // 2 for a, b in zip(first, second, strict=True))
    return red, green, blue


def _levels(colour: str) -> Levels:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
