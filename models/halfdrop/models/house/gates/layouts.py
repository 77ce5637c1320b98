"""Count and layout, found back from the pixels of a tile."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.gates.similarity import Picture

SAME = 0.98
"""Correlation of a tile with itself, moved by a vector of its lattice: what arithmetic lays is equal to the pixel."""
REPEATED = 0.8
"""The same within a unit, where a model drew the parts that should be equal."""
PERIODS_MAX = 24
DROPS = tuple(Fraction(part, whole) for whole in (2, 3, 4) for part in range(1, whole) if np.gcd(part, whole) == 1)


def has_layout(tile: Picture, repeat: Repeat, *, is_set_motif: bool) -> bool:
    """Return whether a tile, moved by the vectors of a lattice, lies on itself.

    size / units must hold every shift in whole pixels. Of set motifs the tile must also lie on itself by no other drop
    and not straight: all-over kinds may (stripes do under any drop along them). Ruled all-overs that half a unit maps
    onto themselves are laid straight whatever the drop (`lattice.fit_to_lattice`): that is right as well.
    """
    lattice = repeat.normalise()
    unit_px = len(tile) // lattice.units
    alike = _autocorrelation(tile)
    if lattice.layout == "mirror":
        flips = _likeness(tile, tile[::-1]), _likeness(tile, tile[:, ::-1])
        return bool(min(*flips, alike[0, 2 * unit_px % len(tile)], alike[2 * unit_px % len(tile), 0]) >= SAME)
    asked = _vector(lattice.shift, lattice.shifted_axis == "rows", unit_px)
    along = (0, unit_px) if lattice.shifted_axis == "rows" and lattice.shift else (unit_px, 0)
    if not is_set_motif:
        straight = min(_at(alike, (unit_px, 0)), _at(alike, (0, unit_px)))
        return max(straight, min(_at(alike, asked), _at(alike, along))) >= SAME
    others: Iterable[tuple[int, int]] = (
        _vector(shift, is_rows, unit_px) for shift in (Fraction(0), *DROPS) for is_rows in (False, True)
    )
    # Straight is a vector of every lattice one unit across if no unit is dropped: it counts where it is not asked.
    wrong = [vector for vector in others if not _is_on(vector, lattice, unit_px)]
    return min(_at(alike, asked), _at(alike, along)) >= SAME and all(_at(alike, vector) < SAME for vector in wrong)


def count_periods(tile: Picture) -> tuple[int, int]:
    """Return how often a tile repeats down and across: the largest counts at which it lies on itself, or nearly.

    1 to 24. Where nothing changes along an axis (upright stripes, downwards) it is 24.
    """
    alike = _autocorrelation(tile)
    size = len(tile)

    def most(lags: NDArray[np.float64]) -> int:
        for count in range(PERIODS_MAX, 1, -1):
            if all(_near(lags, size * turn / count) >= REPEATED for turn in (1, 2)):
                return count
        return 1

    return most(alike[:, 0]), most(alike[0])


def _near(lags: NDArray[np.float64], place: float) -> float:
    """Return the correlation at a lag that may lie between pixels: the greater of the two beside it."""
    below = int(np.floor(place))
    return float(max(lags[below % len(lags)], lags[(below + 1) % len(lags)]))


def _vector(shift: Fraction, is_rows: bool, unit_px: int) -> tuple[int, int]:
    """Return (down, across) in pixels from a unit to the next in its row, or in its column where rows are shifted."""
    moved = round(shift * unit_px)
    return (unit_px, moved) if is_rows else (moved, unit_px)


def _is_on(vector: tuple[int, int], lattice: Repeat, unit_px: int) -> bool:
    """Return whether a vector leads from a unit to another one of the lattice."""
    down, across = (Fraction(length, unit_px) for length in vector)
    if lattice.shifted_axis == "rows":
        down, across = across, down
    return across.denominator == 1 and (down - lattice.shift * across).denominator == 1


def _at(alike: NDArray[np.float64], vector: tuple[int, int]) -> float:
    return float(alike[vector[0] % len(alike), vector[1] % len(alike)])


def _autocorrelation(tile: Picture) -> NDArray[np.float64]:
    """Return [size, size]: the correlation of a tile with itself, moved down and across; 1 at nothing."""
    values = tile.astype(np.float64)
    values -= values.mean(axis=(0, 1))
    spectrum = np.fft.rfft2(values, axes=(0, 1))
    alike = np.fft.irfft2((np.abs(spectrum) ** 2).sum(-1), s=tile.shape[:2])
    power = float(alike[0, 0])
    return alike / power if power > 1e-6 else np.ones_like(alike)


def _likeness(first: Picture, second: Picture) -> float:
    one, other = (picture.astype(np.float64) - picture.mean(axis=(0, 1)) for picture in (first, second))
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / power if power > 1e-6 else 1.0
