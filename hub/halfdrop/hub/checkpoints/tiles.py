"""A drawn unit laid as a tile, and with its neighbours round it, by moving pixels only."""

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.repeats import Repeat

Bytes = NDArray[np.uint8]


def lay_tile(unit: Bytes, repeat: Repeat) -> Bytes:
    """Return [units × H, units × W, 3]: the tile, which wraps plainly in x and y.

    unit: [H, W, 3] sRGB, drawn for this repeat. Raises InvalidInput where the drop is not a whole number of pixels.
    """
    normal = repeat.normalise()
    if normal.layout == "mirror":
        pair = np.concatenate([unit, unit[:, ::-1]], axis=1)
        cell = np.concatenate([pair, pair[::-1]], axis=0)
        return np.tile(cell, (normal.units // 2, normal.units // 2, 1))
    moved_axis, laid_axis = (1, 0) if normal.shifted_axis == "rows" else (0, 1)
    drop_px = _drop_px(unit.shape[moved_axis], normal)
    strips = [np.roll(unit, drop_px * place, axis=moved_axis) for place in range(normal.units)]
    strip = np.concatenate(strips, axis=laid_axis)
    return np.concatenate([strip] * normal.units, axis=moved_axis)


def with_neighbours(unit: Bytes, repeat: Repeat, margin: int) -> Bytes:
    """Return [H + 2 margin, W + 2 margin, ...]: the unit with the borders of its true neighbours round it.

    margin: up to the unit's side. Raises InvalidInput where the drop is not a whole number of pixels.
    """
    normal = repeat.normalise()
    rest = ((0, 0),) * (unit.ndim - 2)
    if normal.layout == "mirror":
        return np.pad(unit, ((margin, margin), (margin, margin), *rest), mode="symmetric")
    moved_axis, laid_axis = (1, 0) if normal.shifted_axis == "rows" else (0, 1)
    drop_px = _drop_px(unit.shape[moved_axis], normal)
    length = unit.shape[laid_axis]
    before = np.roll(unit, -drop_px, moved_axis).take(range(length - margin, length), laid_axis)
    after = np.roll(unit, drop_px, moved_axis).take(range(margin), laid_axis)
    wide = np.concatenate([before, unit, after], axis=laid_axis)
    padding = [(0, 0), (0, 0), *rest]
    padding[moved_axis] = (margin, margin)
    return np.pad(wide, padding, mode="wrap")


def reduce_unit(unit: Bytes, size_px: int) -> Bytes:
    """Return the unit with its sides divided by the largest power of two that leaves at least `size_px`: each pixel is
    the mean of a square of them, so the lattice stays exact."""
    by = 1
    while len(unit) // (2 * by) >= size_px and len(unit) % (2 * by) == 0:
        by *= 2
    if by == 1:
        return unit
    side = len(unit) // by
    means = unit.reshape(side, by, side, by, -1).mean(axis=(1, 3))
    reduced: Bytes = np.rint(means).astype(np.uint8)
    return reduced


def _drop_px(side_px: int, repeat: Repeat) -> int:
    drop_px = side_px * repeat.shift
    if drop_px.denominator != 1:
        allowed = f"a multiple of {repeat.shift.denominator} px along the drop"
        raise InvalidInput("unit", got=side_px, allowed=allowed)
    return int(drop_px)
