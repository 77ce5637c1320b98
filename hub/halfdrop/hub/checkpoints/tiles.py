"""A drawn unit laid as a tile, by moving pixels only."""

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
    drop_px = unit.shape[moved_axis] * normal.shift
    if drop_px.denominator != 1:
        allowed = f"a multiple of {normal.shift.denominator} px along the drop"
        raise InvalidInput("unit", got=unit.shape[moved_axis], allowed=allowed)
    strips = [np.roll(unit, int(drop_px) * place, axis=moved_axis) for place in range(normal.units)]
    strip = np.concatenate(strips, axis=laid_axis)
    return np.concatenate([strip] * normal.units, axis=moved_axis)
