"""Attributes, measured on pictures and not read from plates: count, layout, colours by role, details.

Every attribute that a prompt decides is one question; `attribute_accuracy` is the share of right answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from halfdrop.contracts.plates import BAND_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.house.gates.asking import Asked, role_slots
from halfdrop.models.house.gates.layouts import count_periods, has_layout
from halfdrop.models.house.gates.similarity import Picture
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, SET_MOTIFS
from halfdrop.models.house.kinds.drawing import Traits
from halfdrop.models.house.palettes import COLOURS_255, Rgb
from halfdrop.models.renderer import compose_tile

UNIT_PX = 48
"""A unit in the tile whose layout is measured: halves, thirds, quarters and eighths of it are whole pixels."""
PICTURE_PX = 128
"""The picture of one unit in which colours are measured: two pixels to a sample."""
DEPTHS_PX = (1.2, 0.4)
"""A role's colour is read this far (or, of thin things, this far) from every edge, in grid pixels."""
POINTS_MIN = 5
EXACT_LEVELS = 12.0
"""A colour as near as this to the one asked for is right, whatever other name lies nearer."""
STRANGE_LEVELS = 48.0
"""A colour farther than this from all that a unit may show is a layer too many."""
FLAT_LEVELS = 6
PRESENT_SHARE, STRANGE_SHARE = 0.3, 0.006
"""A detail is there if it shows on this share of its true area; one too many if it shows on this share of the unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One question, and whether the picture answers it as asked."""

    attribute: str
    """count, layout, ground, body, detail colour, detail present, or nothing else."""
    is_right: bool
    colour: str = ""
    """The name of the colour asked for, where the question is of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueUnit:
    """An exact unit that shows what a drawn one should, where it should: its likeness, or one of its free form."""

    plates: Tensor
    """[4, 64, 64]."""
    traits: Traits


def measure_attributes(fields: Fields, palette: Sequence[str], asked: Asked, true: TrueUnit) -> list[Answer]:
    """Return an answer for every attribute that the prompt decides.

    fields, palette: of the drawn unit; only `compose_tile` reads them, everything is measured on its pictures.
    """
    answers = _measure_repeat(fields, palette, asked, true)
    picture = compose_tile(fields, palette, Repeat(units=1), PICTURE_PX)
    slots = role_slots(true.traits)
    known = {role: _levels(colour) for role, colour in asked.colours.items() if role in slots}
    seen = _seen_layers(true.plates.numpy())
    if asked.kind not in FREE_FORMS:
        for role, levels in known.items():
            found = _colour_where(picture, seen, slots[role])
            if found is not None:
                is_right = _is_named(found, levels)
                answers.append(Answer(attribute=_attribute(role), is_right=is_right, colour=_name(levels)))
    shares = _shares(picture, known)
    for role, levels in known.items():
        expected = float((seen[DEPTHS_PX[1]] == slots[role]).mean())
        if expected > 0 and (asked.kind in FREE_FORMS or role in asked.present):
            is_right = shares[role] >= PRESENT_SHARE * expected
            what = "detail present" if role in asked.present else _attribute(role)
            answers.append(Answer(attribute=what, is_right=is_right, colour=_name(levels)))
    if set(slots) <= set(known):
        answers.append(Answer(attribute="nothing else", is_right=shares["strange"] <= STRANGE_SHARE))
    return answers


def _measure_repeat(fields: Fields, palette: Sequence[str], asked: Asked, true: TrueUnit) -> list[Answer]:
    size_px = asked.repeat.units * UNIT_PX
    tile = compose_tile(fields, palette, asked.repeat, size_px)
    is_set_motif = asked.kind in SET_MOTIFS
    answers = [Answer(attribute="layout", is_right=has_layout(tile, asked.repeat, is_set_motif=is_set_motif))]
    if asked.kind not in FREE_FORMS:
        exact = compose_tile(true.plates.numpy(), palette, asked.repeat, size_px)
        answers.append(Answer(attribute="count", is_right=count_periods(tile) == count_periods(exact)))
    return answers


def _attribute(role: str) -> str:
    if role in ("ground", "overprint"):
        return role
    return "body" if role.startswith("body") else "detail colour"


def _seen_layers(plates: NDArray[np.float32]) -> dict[float, NDArray[np.int64]]:
    """Return for each of DEPTHS_PX which palette slot is seen at each sample, -1 where an edge is nearer than that."""
    top = np.zeros(plates.shape[1:], np.int64)
    for layer, field in enumerate(plates):
        top[field > 0] = layer + 1
    nearest = np.full(top.shape, np.inf)
    for layer, field in enumerate(plates):
        # An edge under a layer that covers it is not seen.
        nearest = np.where(top <= layer + 1, np.minimum(nearest, np.abs(field) * BAND_PX), nearest)
    return {depth: np.where(nearest > depth, top, -1) for depth in DEPTHS_PX}


def _colour_where(picture: Picture, seen: dict[float, NDArray[np.int64]], slot: int) -> NDArray[np.float64] | None:
    """Return the median colour where a role should be seen, or None where there is next to nothing of it."""
    step = PICTURE_PX // len(seen[DEPTHS_PX[0]])
    for depth in DEPTHS_PX:
        where = seen[depth] == slot
        if where.sum() >= POINTS_MIN:
            found: NDArray[np.float64] = np.median(picture[step // 2 :: step, step // 2 :: step][where], axis=0)
            return found
    return None


def _shares(picture: Picture, known: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return which share of the picture is nearest to each role's colour, and which share is "strange".

    Only flat pixels count, so that the blends on edges do not.
    """
    wide = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="wrap").astype(np.int16)
    around = [wide[2:, 1:-1], wide[:-2, 1:-1], wide[1:-1, 2:], wide[1:-1, :-2]]
    steps = np.max([np.abs(beside - picture).max(axis=-1) for beside in around], axis=0)
    pixels = picture[steps <= FLAT_LEVELS].astype(np.float64)
    distances = np.stack([np.linalg.norm(pixels - levels, axis=1) for levels in known.values()])
    is_strange = distances.min(axis=0) > STRANGE_LEVELS
    count = len(picture) ** 2
    shares = {}
    for role, levels in known.items():
        # Roles may share a colour: what is as near as the nearest belongs to each of them.
        is_nearest = np.linalg.norm(pixels - levels, axis=1) <= distances.min(axis=0) + 1e-6
        shares[role] = float((is_nearest & ~is_strange).sum() / count)
    return shares | {"strange": float(is_strange.sum() / count)}


def _is_named(found: NDArray[np.float64], levels: NDArray[np.float64]) -> bool:
    """Return whether a colour is the one asked for: nearer to it than to any other name, or as good as equal."""
    distance = float(np.linalg.norm(found - levels))
    others = (np.linalg.norm(found - np.array(other)) for other in COLOURS_255.values())
    return distance <= EXACT_LEVELS or all(distance <= other + 1e-6 for other in others)


def _name(levels: NDArray[np.float64]) -> str:
    """Return the colour's name, or its nearest."""
    return min(COLOURS_255, key=lambda name: float(np.linalg.norm(np.array(COLOURS_255[name]) - levels)))


def _levels(colour: Rgb) -> NDArray[np.float64]:
    return np.array(colour) * 255
