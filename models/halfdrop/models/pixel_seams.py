"""Seams of a tile of which nothing but its pixels is known: what a user's checkpoint painted.

Where there are fields, `seams` says more: it knows which steps were meant.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat

Bytes = NDArray[np.uint8]

FLOOR_LEVELS = 0.1
"""A mean step that nobody sees: stripes have no steps at all along themselves, and a torn border must still show."""


def border_step_ratio(tile: Bytes, repeat: Repeat) -> float:
    """Return the mean colour step across the units' borders over that of the steepest lines inside; worse axis.

    Every border of a unit in the tile counts: inside it lie the true lattice neighbours, and the tile's own edges are
    wrapped. As many of the steepest lines inside are taken as there are borders, because crisp artwork has few, high
    steps: a check whose edge falls on the border is no seam. Up to about 1.0 no border shows; a torn pattern without
    strong lines along the border goes far beyond.
    """
    units, size_px = repeat.normalise().units, len(tile)
    borders = np.array([ceil((2 * size_px * unit - units) / (2 * units)) for unit in range(units)])
    return max(_border_ratio(steps, borders) for steps in _mean_steps(tile))


def _border_ratio(steps: NDArray[np.float64], borders: NDArray[np.int64]) -> float:
    inside = np.sort(np.delete(steps, borders))[-len(borders) :].mean()
    at_borders = steps[borders].mean()
    return float(at_borders / max(inside, FLOOR_LEVELS))


def _mean_steps(tile: Bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each row and for each column, the mean step from the one before it, wrapped; in levels."""
    rows = np.ascontiguousarray(tile).reshape(len(tile), -1)
    down, across = np.empty(len(rows)), np.zeros(rows.shape[1], np.uint32)
    above = rows[-1]
    for place, row in enumerate(rows):
        down[place] = _steps(row, above).mean()
        across[3:] += _steps(row[3:], row[:-3])
        across[:3] += _steps(row[:3], row[-3:])
        above = row
    return down, across.reshape(-1, 3).mean(axis=1) / len(rows)


def _steps(one: Bytes, other: Bytes) -> Bytes:
    return np.maximum(one, other) - np.minimum(one, other)
