"""The order in which the ONNX denoiser holds a unit: a row of 64 numbers for each of its 16 by 16 cells.

A cell is 4 by 4 grid pixels of four plates. The four cells of a token lie next to each other, so that 256 rows of
cells are 64 rows of tokens without a number being moved, and a 3 by 3 convolution is a product with rows picked by a
fixed table: `NEIGHBOURS`. Plates are brought into this order before the first step of sampling and out of it after the
last; what happens between steps does not ask where a number lies.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from halfdrop.models.house.torus import HEAD_WIDTH, LATTICES, SIDE, TOKENS, Lattice, torus_of

Floats = NDArray[np.float32]

CELLS = SIDE * SIDE
PLATES = 4
CELL_PX = 4
"""Side of a cell in grid pixels."""
CELL_VALUES = PLATES * CELL_PX * CELL_PX
TOKEN_CELLS = CELLS // TOKENS**2

GRID_AXES = (PLATES, TOKENS, 2, CELL_PX, TOKENS, 2, CELL_PX)
"""A unit [4, 64, 64] taken apart: plate, then token, cell and pixel down, then the same across."""
ROW_AXES = (1, 4, 2, 5, 0, 3, 6)
"""Token down and across, cell down and across; then plate, pixel down and across."""

CELL_ORDER = np.arange(CELLS).reshape(TOKENS, 2, TOKENS, 2).transpose(0, 2, 1, 3).ravel()
"""[256]: of each row, the cell's place when cells are counted from left to right and downwards."""


def to_rows(fields: Floats) -> Floats:
    """Return fields [4, 64, 64] as rows of cells [256, 64]."""
    return np.ascontiguousarray(fields.reshape(GRID_AXES).transpose(ROW_AXES)).reshape(CELLS, CELL_VALUES)


def to_fields(rows: Floats) -> Floats:
    """Return rows of cells [256, 64] as fields [4, 64, 64]."""
    taken_apart = rows.reshape([GRID_AXES[axis] for axis in ROW_AXES])
    side = SIDE * CELL_PX
    return np.ascontiguousarray(taken_apart.transpose(np.argsort(ROW_AXES))).reshape(PLATES, side, side)


@lru_cache(maxsize=len(LATTICES))
def lattice_inputs(lattice: Lattice) -> dict[str, Floats]:
    """Return what the ONNX denoiser is told of a lattice. The arrays are shared between callers: do not write to them.

    ring [68, 60]: `Torus.ring`, of the border cells alone and in the order of `BORDER`, since no other has a part in
    it. cos and sin [64, 16]: half of the torus's, whose halves are the same. drop [1, 4].
    """
    torus, half = torus_of(lattice), HEAD_WIDTH // 2
    return {
        "ring": np.ascontiguousarray(torus.ring[:, CELL_ORDER[BORDER]]),
        "cos": np.ascontiguousarray(torus.cos[:, :half]),
        "sin": np.ascontiguousarray(torus.sin[:, :half]),
        "drop": torus.drop[None],
    }


def _border() -> NDArray[np.int64]:
    down, across = np.divmod(CELL_ORDER, SIDE)
    last = SIDE - 1
    return np.flatnonzero((down == 0) | (down == last) | (across == 0) | (across == last))


def _neighbours() -> NDArray[np.int64]:
    """Number the cells and then the ring's, as `Torus.ring` orders them, and pick a window of three by three."""
    numbers = np.empty((SIDE + 2, SIDE + 2), np.int64)
    numbers[1:-1, 1:-1].flat[CELL_ORDER] = np.arange(CELLS)
    ring = CELLS + np.arange(4 * SIDE + 4)
    numbers[0], numbers[-1] = ring[: SIDE + 2], ring[-SIDE - 2 :]
    numbers[1:-1, 0], numbers[1:-1, -1] = ring[SIDE + 2 : 2 * SIDE + 2], ring[2 * SIDE + 2 : 3 * SIDE + 2]
    windows = np.lib.stride_tricks.sliding_window_view(numbers, (3, 3)).reshape(CELLS, 9)
    return windows[CELL_ORDER].ravel()


BORDER = _border()
"""[60]: the rows whose cells lie along the unit's border."""
NEIGHBOURS = _neighbours()
"""[256 × 9]: for each row the rows of the 3 by 3 cells round it; from 256 on, those of the ring."""
