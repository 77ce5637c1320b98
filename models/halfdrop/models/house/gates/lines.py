"""Thin lines: are stems, veins, outlines and lattices whole where the true motif has them whole?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.models.house.gates.contours import FINE_GRID, enlarge
from halfdrop.models.house.gates.exact import Likeness

THIN_PX = 2.6
"""A line is thin if its half width is at most this many grid pixels."""
REACH_PX = 2.0
"""A centre line is where the field falls off on both sides over this distance; a drawn one may run as far beside it."""
FALL = 0.6
"""Least fall off the centre line, per pixel: an exact line has 1."""
EVEN = 0.29
"""Most change of a line's half width along it, per pixel: tips of stars and leaves taper faster."""
GAP_PX = 1.0
"""A line is broken when it has no ink over this length."""
END_PX = 2.5
"""What is missing at the end of a line makes it shorter, not broken."""
SHORTEST_PX = 4.0
"""What is shorter is no line."""

Bools = NDArray[np.bool_]
Places = NDArray[np.float32]

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))
"""The directions in which a line is crossed; the line itself runs at right angles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinLines:
    """What became of a unit's thin lines."""

    lines: int
    broken: int


def count_broken_lines(fields: NDArray[np.float32], likeness: Likeness) -> ThinLines:
    """Return how many thin lines the true motif has, and how many of them are interrupted in the drawn unit.

    fields: [4, N, N], any grid N. A line is a connected centre line on the torus: a stem, a ring, a whole lattice. It
    is walked along; wherever no ink crosses it within 2 grid pixels to either side, ink is missing, and missing ink
    over a grid pixel of its length breaks it. What an upper layer hides is not looked at.
    """
    drawn, true = enlarge(fields), likeness.at(FINE_GRID).numpy()
    lines, broken = 0, 0
    for layer, field in enumerate(true):
        normals = _centre_lines(field * BAND_PX)
        for upper in true[layer + 1 :]:
            normals[upper > 0] = -1
        for line in _connected(normals >= 0):
            if len(line) < SHORTEST_PX * FINE_GRID / GRID_PX:
                continue
            lines += 1
            broken += _missing(line, normals, drawn[layer], field) >= GAP_PX * FINE_GRID / GRID_PX
    return ThinLines(lines=lines, broken=broken)


def _centre_lines(field_px: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return [grid, grid]: the index in STEPS of the direction across a thin line at its centre, -1 elsewhere."""
    step = FINE_GRID // GRID_PX
    found = np.full(field_px.shape, -1, np.int8)
    strongest = np.zeros(field_px.shape, np.float32)
    thin = (field_px > 0) & (field_px <= THIN_PX)
    for index, (down, across) in enumerate(STEPS):
        reach = round(REACH_PX * step / float(np.hypot(down, across)))
        length_px = float(np.hypot(down, across)) * reach / step

        def at(times: int, down: int = down, across: int = across) -> NDArray[np.float32]:
            return np.roll(field_px, (-down * times, -across * times), (0, 1))

        def beside(times: int, down: int = down, across: int = across) -> NDArray[np.float32]:
            return np.roll(field_px, (-across * times, down * times), (0, 1))

        fall = (field_px - np.maximum(at(reach), at(-reach))) / length_px
        change = np.maximum(np.abs(beside(reach) - field_px), np.abs(beside(-reach) - field_px)) / length_px
        is_crest = (field_px >= at(1)) & (field_px >= at(-1))
        here = thin & is_crest & (fall > FALL) & (change < EVEN) & (fall > strongest)
        found[here], strongest[here] = index, fall[here]
    return found


def _connected(where: Bools) -> list[NDArray[np.int64]]:
    """Return the connected parts (corners count, the torus wraps) as lists of places [n, 2]."""
    grid = len(where)
    places = np.argwhere(where)
    owner = {(int(row), int(column)): index for index, (row, column) in enumerate(places)}
    parent = list(range(len(places)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    # Centre lines found in pixels have holes of one: neighbours two apart are joined as well.
    reach = [(down, across) for down in range(3) for across in range(-2, 3) if (down, across) > (0, 0)]
    for (row, column), index in owner.items():
        for down, across in reach:
            other = owner.get(((row + down) % grid, (column + across) % grid))
            if other is not None:
                parent[root(index)] = root(other)
    groups: dict[int, list[int]] = {}
    for index in range(len(places)):
        groups.setdefault(root(index), []).append(index)
    return [places[members] for members in groups.values()]


def _missing(
    line: NDArray[np.int64], normals: NDArray[np.int8], drawn: NDArray[np.float32], true: NDArray[np.float32]
) -> int:
    """Return how many samples of a line, what lies near its true ends left out, have no ink across them."""
    grid, step = len(drawn), FINE_GRID // GRID_PX
    across = np.array(STEPS, np.float64)[normals[line[:, 0], line[:, 1]]]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    along = np.stack([-across[:, 1], across[:, 0]], axis=1)

    def at(field: NDArray[np.float32], offsets: NDArray[np.float64]) -> NDArray[np.float32]:
        rows, columns = (np.rint(line + offsets).astype(np.int64) % grid).T
        values: NDArray[np.float32] = field[rows, columns]
        return values

    reach, end = REACH_PX * step, END_PX * step
    is_bare = np.all([at(drawn, across * away) <= 0 for away in np.arange(-reach, reach + 0.5, 0.5)], axis=0)
    is_end = np.minimum(at(true, along * end), at(true, along * -end)) <= 0
    return int((is_bare & ~is_end).sum())
