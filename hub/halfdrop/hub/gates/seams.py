"""Seams: does a border between two units show? Measured against the true neighbours of the lattice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.pixel_seams import border_step_ratio
from halfdrop.models.seams import seam_ratio

Bytes = NDArray[np.uint8]

PLATE_INKS = ("#000000", "#ffffff")


def measure_seams(tile: Bytes, repeat: Repeat, fields: Fields | None, palette: Sequence[str]) -> float:
    """Return how far borders stand out, at most about 1 where none shows: from the fields where there are any."""
    if fields is None:
        return border_step_ratio(tile, repeat)
    return seam_ratio(tile, fields, palette, repeat)


def measure_plate_seams(plane: Bytes, repeat: Repeat, field: NDArray[np.float32]) -> float:
    """Return the same of one plate: [size, size] coverage that was composed of `field`, [grid, grid]."""
    tile = np.repeat(plane[..., None], 3, axis=2)
    return seam_ratio(tile, field[None], PLATE_INKS, repeat)


def unlike_borders(tile: Bytes, repeat: Repeat) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean step, in levels, into each row and into each column from the one before it, wrapped."""
    pixels = tile.astype(np.int16)
    down = np.abs(pixels - np.roll(pixels, 1, axis=0)).mean(axis=(1, 2))
    across = np.abs(pixels - np.roll(pixels, 1, axis=1)).mean(axis=(0, 2))
    return down, across


def borders_px(size_px: int, units: int) -> list[int]:
    """Return the pixels before which units begin, in rows as in columns."""
    return [-(-(2 * size_px * unit - units) // (2 * units)) % size_px for unit in range(units)]
