"""The torus of a lattice, as the numbers the denoiser is given: whose neighbours its convolutions read beyond the
unit's border, the phases of its attention, and the drop itself.

In a drop by d the point (u + 1, v + d) is the point (u, v) again (`kinds.drawing.Canvas`), so what stands beyond the
right border is the left border's, d lower. Pure numpy: training, hub and edge compute the same numbers from a repeat.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import DROP_DENOMINATOR_MAX, Axis, Repeat

Floats = NDArray[np.float32]

SIDE = 16
"""Cells along each side of the grid that the denoiser's convolutions work on."""
TOKENS = 8
"""Tokens along each side."""
HEAD_WIDTH = 32
TURNS_MAX = 4
"""Attention turns its phases 1 to 4 times round the torus."""

Lattice = tuple[Axis, Fraction]
"""What is shifted, and by how much."""

STRAIGHT: Lattice = ("columns", Fraction(0))

LATTICES: tuple[Lattice, ...] = (
    STRAIGHT,
    *(
        (axis, Fraction(part, whole))
        for axis in ("columns", "rows")
        for whole in range(2, DROP_DENOMINATOR_MAX + 1)
        for part in range(1, whole)
        if math.gcd(part, whole) == 1
    ),
)
"""Every lattice that can be ordered, the straight one first; training draws by index."""


class Torus(NamedTuple):
    """What the denoiser is told of a lattice."""

    ring: Floats
    """[68, 256]: the cells round a grid of 16 by 16, as weights of the cells in it: row above, left, right, below."""
    cos: Floats
    """[64, 32]: cosines of the tokens' phases."""
    sin: Floats
    """[64, 32]: sines."""
    drop: Floats
    """[4]: sine and one minus cosine of a turn by the drop, for columns and for rows; zero on the straight torus."""


def lattice_of(repeat: Repeat) -> Lattice:
    """Return a repeat's lattice; a mirror's units close on the straight torus, because their neighbours are flipped."""
    return (repeat.shifted_axis, repeat.shift) if repeat.shift else STRAIGHT


@lru_cache(maxsize=len(LATTICES))
def torus_of(lattice: Lattice) -> Torus:
    """Return the torus of a lattice. The arrays are shared between callers: do not write to them."""
    cos, sin = _phases(lattice)
    turn = 2 * math.pi * float(lattice[1])
    told = [math.sin(turn), 1 - math.cos(turn)]
    drop = [*told, 0.0, 0.0] if lattice[0] == "columns" else [0.0, 0.0, *told]
    return Torus(ring=_ring(lattice), cos=cos, sin=sin, drop=np.array(drop, np.float32))


def _ring(lattice: Lattice) -> Floats:
    around = [-1, *range(SIDE), SIDE]
    places = [(-1, x) for x in around]
    places += [(y, -1) for y in range(SIDE)] + [(y, SIDE) for y in range(SIDE)]
    places += [(SIDE, x) for x in around]
    weights = np.zeros((len(places), SIDE, SIDE), np.float32)
    axis, drop = lattice
    for row, (y, x) in zip(weights, places, strict=True):
        # Units passed on the way out move the other coordinate; a drop that is no whole number of cells lies between
        # two of them.
        if axis == "columns":
            moved, fixed = y - x // SIDE * drop * SIDE, x % SIDE
        else:
            moved, fixed = x - y // SIDE * drop * SIDE, y % SIDE
        cell = math.floor(moved)
        for place, weight in ((cell, 1 - (moved - cell)), (cell + 1, moved - cell)):
            where = (place % SIDE, fixed) if axis == "columns" else (fixed, place % SIDE)
            row[where] += float(weight)
    return weights.reshape(len(places), SIDE * SIDE)


def _phases(lattice: Lattice) -> tuple[Floats, Floats]:
    turns = np.arange(HEAD_WIDTH // 4) % TURNS_MAX + 1
    down, across = np.meshgrid(np.arange(TOKENS) / TOKENS, np.arange(TOKENS) / TOKENS, indexing="ij")
    axis, drop = lattice[0], float(lattice[1])
    if axis == "columns":
        down = down - drop * across
    else:
        across = across - drop * down
    angles = 2 * math.pi * np.concatenate([across.reshape(-1, 1) * turns, down.reshape(-1, 1) * turns], axis=1)
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
