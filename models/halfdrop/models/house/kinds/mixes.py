"""Two motifs in one unit: the first in the middle, the second in the deepest hollow between its neighbours.

Where that hollow lies depends on the lattice: on the corners of the straight unit, and half-way up the drop on the
border between two columns of a drop. Each motif keeps two of its layers; a third has no plate left.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from halfdrop.models.house.kinds.catalogue import SET_MOTIFS, stack_layers
from halfdrop.models.house.kinds.drawing import Canvas, Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import ABSENT, GRID, REACH_PX

LAYERS_EACH = 2
GAP_PX = 3.0
"""Least distance between the two motifs' circles, in grid pixels."""
PARTNERS = tuple(name for name in SET_MOTIFS if name not in {"rings", "snowflakes", "suns"})
"""Motifs that stay whole at half their size: the others have lines that would become too thin."""


def draw_mix(dice: Dice) -> tuple[Tensor, list[Traits], str]:
    """Return units of two motifs, their traits, and the first motif's kind.

    The dice decide which two; they are the same for the whole batch. The first traits' `partner` is the second
    motif's, its layers counted as in the shared unit.
    """
    first_kind, second_kind = dice.words.sample(PARTNERS, 2)
    across, down = hollow(dice.canvas)
    room_px = GRID * distance_to_middle(dice.canvas) - GAP_PX
    share = dice.words.uniform(0.44, 0.62)
    first = _shrunk(first_kind, dice, min(1.0, room_px / REACH_PX * share))
    second = _shrunk(second_kind, dice.moved(across, down), min(1.0, room_px / REACH_PX * (1 - share)))
    traits = [
        replace(one, partner=_counted_from(other, LAYERS_EACH))
        for one, other in zip(first.traits, second.traits, strict=True)
    ]
    return stack_layers([*first.layers, *second.layers], dice.canvas), traits, first_kind


def hollow(canvas: Canvas) -> tuple[float, float]:
    """Return the place, across and down the unit, that is farthest from the middles of all units."""
    along = -_gentlest(canvas) / 2 % 1
    return (0.0, along) if canvas.axis == "columns" else (along, 0.0)


def distance_to_middle(canvas: Canvas) -> float:
    """Return how far the hollow is from the nearest middle, in units."""
    return math.hypot(0.5, 0.5 - abs(_gentlest(canvas)) / 2)


def _gentlest(canvas: Canvas) -> float:
    """Return the drop from -1/2 to 1/2 that gives the same lattice: seven eighths down is one eighth up."""
    return canvas.drop if canvas.drop <= 0.5 else canvas.drop - 1


def _shrunk(kind: str, dice: Dice, scale: float) -> Drawing:
    """Return a motif at a part of its size, with the layers that it may keep."""
    drawing = SET_MOTIFS[kind](dice.scaled(scale))
    size = (dice.count, dice.canvas.grid, dice.canvas.grid)
    layers = [(layer * scale).expand(size) for layer in drawing.layers[:LAYERS_EACH]]
    layers += [torch.full(size, ABSENT)] * (LAYERS_EACH - len(layers))
    traits = [
        replace(each, details=tuple(detail for detail in each.details if detail.layer < LAYERS_EACH))
        for each in drawing.traits
    ]
    return Drawing(layers=layers, traits=traits)


def _counted_from(traits: Traits, first_layer: int) -> Traits:
    return replace(
        traits,
        body=tuple(layer + first_layer for layer in traits.body),
        details=tuple(replace(detail, layer=detail.layer + first_layer) for detail in traits.details),
    )
