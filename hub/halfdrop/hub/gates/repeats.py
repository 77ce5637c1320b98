"""Visible repeat: is the pattern like itself where its lattice does not repeat it?

The autocorrelation of the tile is 1 at each step of its lattice. A peak elsewhere is a repeat that the lattice does
not imply: inside the unit (the unit holds the same motif four times: the repeat that is paid for is smaller), or
between units (a half-drop whose columns do not hang: it repeats straight)."""

from dataclasses import dataclass
from math import ceil, hypot

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.gates.specimen import Bytes, Specimen

UNIT_PX = 64
"""Pixels of a unit's side that are compared: a motif's outline stays, its edges do not matter."""

NEAR_UNITS = 0.18
"""So near to a step of the lattice a shift is that step: motifs are round, and overlap themselves a little way off."""

RING_UNITS, RING_HALF_PX = 0.08, 0.8
PROMINENCE = 0.01
"""A repeat is a peak: so far round it the likeness is less, by this much. Stripes are like themselves wherever one
moves along them; that is no repeat, and has no peak."""

FLAT_VARIANCE = 1.0
"""Of grey levels: below it there is nothing to be like."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """The most alike two places of the tile that should not be."""

    correlation: float
    """-1 to 1; 1: the same."""

    across: float
    """The shift between them, in units."""

    down: float


def measure_repeats(specimen: Specimen) -> Likeness:
    """Return the strongest repeat beyond the lattice's own; a correlation of 0 where there is none."""
    side_px = UNIT_PX * specimen.closed
    grey = grey_cell(specimen.cell, side_px)
    grey -= grey.mean()
    variance = float((grey * grey).mean())
    if variance < FLAT_VARIANCE:
        return Likeness(correlation=0.0, across=0.0, down=0.0)
    spectrum = np.abs(np.fft.fft2(grey)) ** 2
    correlation = np.fft.ifft2(spectrum).real / (variance * grey.size)
    is_repeat = _peaks(correlation) & ~_near_lattice(specimen.repeat, specimen.closed)
    peaks = np.where(is_repeat, correlation, 0)
    down, across = np.unravel_index(int(peaks.argmax()), peaks.shape)
    return Likeness(correlation=float(peaks.max()), across=float(across / UNIT_PX), down=float(down / UNIT_PX))


def _peaks(correlation: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where the correlation is higher than anywhere on a ring round it."""
    radius = RING_UNITS * UNIT_PX
    span = range(-ceil(radius) - 1, ceil(radius) + 2)
    ring = [(dy, dx) for dy in span for dx in span if abs(hypot(dy, dx) - radius) <= RING_HALF_PX]
    highest = np.max([np.roll(correlation, shift, axis=(0, 1)) for shift in ring], axis=0)
    is_peak: NDArray[np.bool_] = correlation > highest + PROMINENCE
    return is_peak


def grey_cell(cell: Bytes, side_px: int) -> NDArray[np.float64]:
    """Return a square picture in grey levels, averaged down (or repeated up) to side_px x side_px."""
    grey = cell.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])
    return _resample(_resample(grey, side_px).T, side_px).T


def _resample(rows: NDArray[np.float64], side_px: int) -> NDArray[np.float64]:
    """Return [side_px, …]: means over equal parts of the rows, however many there are."""
    edges = np.linspace(0, len(rows), side_px + 1)
    summed = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    whole = np.minimum(edges.astype(np.int64), len(rows) - 1)
    at_edges = summed[whole] + (edges - whole)[:, None] * rows[whole]
    return np.diff(at_edges, axis=0) * side_px / len(rows)


def _near_lattice(repeat: Repeat, closed: int) -> NDArray[np.bool_]:
    """Return [side, side]: shifts of the cell that are steps of its lattice, or near one.

    Of a mirror these are its units' as well: a motif that is its own reflection repeats there, and is none the worse.
    """
    places = np.arange(UNIT_PX * closed) / UNIT_PX
    down, across = np.meshgrid(places, places, indexing="ij")
    if repeat.shifted_axis == "rows":
        down, across = across, down
    near = np.zeros(down.shape, np.bool_)
    for column in range(closed):
        hangs = float(repeat.shift * column % 1)
        near |= _distance(across - column, closed) ** 2 + _distance(down - hangs, 1) ** 2 <= NEAR_UNITS**2
    return near


def _distance(places: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    return np.abs((places + period / 2) % period - period / 2)
