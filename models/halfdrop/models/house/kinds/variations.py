"""Ways to draw one motif that have a word of their own: how it stands, how full its unit is, how it is filled."""

from __future__ import annotations

from dataclasses import replace

from halfdrop.models.house.kinds.catalogue import SET_MOTIFS
from halfdrop.models.house.kinds.drawing import Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import outline

TILT = 0.42
"""Radians that a tilted motif leans to the right."""
UPSIDE_DOWN = 3.141592653589793
SPARSE_SCALE = 0.62
"""Size of a motif that leaves most of its unit to the ground."""
LINE_HALF_WIDTH_PX = 1.8

TILTED, INVERTED, SPARSE, HOLLOW = "tilted", "upside-down", "sparse", "hollow"

_ROUND = frozenset({"dots", "rings", "daisies", "suns", "pluses", "crosses"})
_LEANING = frozenset({"leaves", "stars", "blossoms", "snowflakes", "clouds", "squares", "diamonds"})
"""Motifs that a half turn leaves nearly as they are, or makes something that nobody calls upside down."""
_OUTLINED_WELL = frozenset({"stars", "hearts", "diamonds", "squares", "pluses", "clouds", "raindrops", "moons"})

VARIED: dict[str, tuple[str, ...]] = {
    TILTED: tuple(name for name in SET_MOTIFS if name not in _ROUND | {"leaves", "diamonds", "squares"}),
    INVERTED: tuple(name for name in SET_MOTIFS if name not in _ROUND | _LEANING),
    SPARSE: tuple(name for name in SET_MOTIFS if name not in {"snowflakes", "suns", "leaves"}),
    HOLLOW: tuple(name for name in SET_MOTIFS if name in _OUTLINED_WELL),
}
"""Which motifs are drawn in which way."""


def draw_varied(kind: str, way: str, dice: Dice) -> Drawing:
    """Return a set motif drawn in one of the ways of VARIED, which its traits then say."""
    assert kind in VARIED[way], (kind, way)
    if way == SPARSE:
        drawing = SET_MOTIFS[kind](dice.scaled(SPARSE_SCALE))
        layers = [layer * SPARSE_SCALE for layer in drawing.layers]
    elif way == HOLLOW:
        drawing = SET_MOTIFS[kind](dice)
        layers = [outline(drawing.layers[0] - LINE_HALF_WIDTH_PX, LINE_HALF_WIDTH_PX)]
    else:
        drawing = SET_MOTIFS[kind](dice.turned(TILT if way == TILTED else UPSIDE_DOWN))
        layers = drawing.layers
    return Drawing(layers=layers, traits=[_said(each, way) for each in drawing.traits])


def _said(traits: Traits, way: str) -> Traits:
    details = () if way == HOLLOW else traits.details
    return replace(traits, adjectives=(way, *traits.adjectives), details=details)
