"""The noise that belongs to a seed: numpy's own generator, so that hub and edge start from the same numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPE = (4, 64, 64)
"""Plates, rows and columns of a unit's fields."""


def seeded_noise(seed: int) -> NDArray[np.float32]:
    """Return standard normal noise [4, 64, 64] for a seed of 0 or above."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(SHAPE, np.float32)
