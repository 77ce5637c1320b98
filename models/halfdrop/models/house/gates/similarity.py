"""How alike two pictures are: SSIM and PSNR, each written once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""[height, width, 3], sRGB."""

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
LEVELS = 255.0


def ssim(first: Picture, second: Picture) -> float:
    """Return the mean structural similarity of two pictures of the same size, 1 for equal ones.

    Z. Wang et al., IEEE Trans. Image Processing 13 (2004): an 11 × 11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03,
    over each channel and the windows that lie inside; the mean of all.
    """
    one, other = (picture.astype(np.float32) for picture in (first, second))
    mean_one, mean_other = _blur(one), _blur(other)
    variance_one = _blur(one * one) - mean_one**2
    variance_other = _blur(other * other) - mean_other**2
    covariance = _blur(one * other) - mean_one * mean_other
    c1, c2 = (K1 * LEVELS) ** 2, (K2 * LEVELS) ** 2
    likeness = (2 * mean_one * mean_other + c1) * (2 * covariance + c2)
    scale = (mean_one**2 + mean_other**2 + c1) * (variance_one + variance_other + c2)
    return float((likeness / scale).mean(dtype=np.float64))


def psnr_db(first: Picture, second: Picture) -> float:
    """Return the peak signal-to-noise ratio; equal pictures have 90 dB."""
    error = np.square(first.astype(np.float32) - second.astype(np.float32)).mean()
    return float(10 * np.log10(LEVELS**2 / max(float(error), LEVELS**2 * 1e-9)))


def box_shrink(picture: Picture, size_px: int) -> Picture:
    """Return a square picture averaged down to a size that divides its own."""
    times = len(picture) // size_px
    assert times * size_px == len(picture), (picture.shape, size_px)
    means = picture.reshape(size_px, times, size_px, times, 3).mean(axis=(1, 3), dtype=np.float32)
    shrunk: Picture = np.rint(means).astype(np.uint8)
    return shrunk


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [height - 10, width - 10, 3]: the Gaussian window's means."""
    taps = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    taps = (taps / taps.sum()).astype(np.float32)
    height, width = len(values) - WINDOW + 1, values.shape[1] - WINDOW + 1
    down = np.zeros((height, *values.shape[1:]), np.float32)
    for place, tap in enumerate(taps):
        down += tap * values[place : place + height]
    across = np.zeros((height, width, 3), np.float32)
    for place, tap in enumerate(taps):
        across += tap * down[:, place : place + width]
    return across
