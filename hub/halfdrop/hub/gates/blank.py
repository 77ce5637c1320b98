"""Blank and broken pictures: nothing on them, or nothing but noise."""

import numpy as np
from numpy.typing import NDArray

from halfdrop.hub.gates.specimen import Bytes

FLAT_VARIANCE = 1.0
"""Of grey levels: below it there is no noise to speak of."""


def measure_ink(tile: Bytes) -> float:
    """Return the share of the tile that is not its commonest colour, 0 to 1."""
    colours = pack(tile)
    _, counts = np.unique(colours, return_counts=True)
    return 1 - float(counts.max()) / colours.size


def measure_noise(tile: Bytes) -> float:
    """Return how much of the picture's variance is between neighbouring pixels, 0 to 1; 1: each is drawn by chance.

    What a broken sampler leaves behind: NaN decoded to grey, latents that were never denoised.
    """
    grey = tile.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    variance = float(grey.var())
    if variance < FLAT_VARIANCE:
        return 0.0
    steps = [float(((grey - np.roll(grey, 1, axis=axis)) ** 2).mean()) for axis in (0, 1)]
    return min(1.0, min(steps) / (2 * variance))


def pack(tile: Bytes) -> NDArray[np.uint32]:
    """Return [height, width]: each pixel's colour as one number."""
    wide = tile.astype(np.uint32)
    packed: NDArray[np.uint32] = (wide[..., 0] << np.uint32(16)) | (wide[..., 1] << np.uint32(8)) | wide[..., 2]
    return packed
