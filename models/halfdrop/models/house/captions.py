"""Sentences for drawn units: what a designer would type, in many forms, and the palette that it means.

Layout, count and scale are never said: they are arithmetic, and are taken out of a prompt before the model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from halfdrop.models.house.kinds.drawing import Detail, Traits
from halfdrop.models.house.kinds.fields import PLATES
from halfdrop.models.house.palettes import DEFAULT_COLOURS, Rgb, draw_names, ground_for, mixed, rgb

NO_GROUND_CHANCE = 0.1
NO_COLOUR_CHANCE = 0.05
DUO_CHANCE = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A sentence with the five colours it means; `is_used` masks the colours that can be seen."""

    text: str
    palette: tuple[Rgb, ...]
    is_used: tuple[bool, ...]


def caption(traits: Traits, words: random.Random) -> Caption:
    """Return one sentence for the traits with colours drawn at random."""
    names = draw_names(words)
    has_choices = any(detail.is_optional for detail in traits.details)
    if words.random() < NO_COLOUR_CHANCE and not has_choices and len(traits.body) == 1:
        names = list(DEFAULT_COLOURS)
        text = _join(*traits.adjectives, traits.noun)
    elif words.random() < NO_GROUND_CHANCE:
        # The body decides the ground; details that were drawn on it stay apart from the body at least.
        names[0] = ground_for(names[traits.body[0] + 1])
        text = _without_ground(traits, names, words)
    elif traits.names_ground and not traits.details and words.random() < DUO_CHANCE:
        text = _join(*traits.adjectives, names[traits.body[0] + 1], "and", names[0], traits.noun)
    else:
        text = _with_ground(traits, names, words)
    return Caption(text=text, palette=_palette(traits, names), is_used=_used(traits))


def _with_ground(traits: Traits, names: list[str], words: random.Random) -> str:
    ground, colours = names[0], _body_colours(traits, names)
    adjectives, tail = _join(*traits.adjectives), _tail(traits.details, names, words)
    form = words.randrange(6)
    if form == 0:
        return _join(adjectives, colours, traits.noun, tail, "on", ground)
    if form == 1:
        return _join(colours, adjectives, traits.noun, tail, f"on a {ground} background")
    if form == 2:
        place = words.choice(["background", "ground"])
        return _join(ground, place, "with", adjectives, colours, traits.noun, tail)
    if form == 3:
        comma = f", {tail}" if tail else ""
        return _join(f"seamless {traits.noun} pattern,", adjectives, colours, "on", ground + comma)
    if form == 4:
        return _join(adjectives, traits.noun, "in", colours, tail, "on", ground)
    return _join(colours, adjectives, traits.noun, "on", ground, tail)


def _without_ground(traits: Traits, names: list[str], words: random.Random) -> str:
    colours, tail = _body_colours(traits, names), _tail(traits.details, names, words)
    if words.random() < 0.5:
        return _join(*traits.adjectives, colours, traits.noun, tail)
    return _join(colours, *traits.adjectives, traits.noun, tail)


def _body_colours(traits: Traits, names: list[str]) -> str:
    *first, last = (names[layer + 1] for layer in traits.body)
    return f"{', '.join(first)} and {last}" if first else last


def _tail(details: tuple[Detail, ...], names: list[str], words: random.Random) -> str:
    phrases = [words.choice(detail.phrases).format(names[detail.layer + 1]) for detail in details]
    words.shuffle(phrases)
    return ", ".join(phrases)


def _palette(traits: Traits, names: list[str]) -> tuple[Rgb, ...]:
    colours = [rgb(name) for name in names]
    if traits.is_blended:
        # Layers 0 and 1 are the single passes of the cloth; the colour named is that of their crossing.
        colours[1] = colours[2] = mixed(colours[0], colours[3])
    return tuple(colours)


def _used(traits: Traits) -> tuple[bool, ...]:
    layers = set(traits.body) | {detail.layer for detail in traits.details}
    if traits.is_blended:
        layers |= {0, 1}
    return (True, *(layer in layers for layer in range(PLATES)))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
