"""Near-copies: how alike are two patterns, wherever on the cloth one starts to look?

A print is a small grey picture of the smallest square that wraps plainly. Moved on its torus it is the same pattern,
so two prints are compared at all shifts at once (a product of Fourier transforms); light and dark exchanged is the
same too. To find candidates among millions without reading them, a print has a *sketch*: one bit for each of the
lowest frequencies, whether it is strong or weak. A shift changes phases, not strengths."""

import numpy as np
from numpy.typing import NDArray

from halfdrop.hub.gates.repeats import grey_cell
from halfdrop.hub.gates.specimen import Bytes

PRINT_PX = 32
PRINT_BYTES = PRINT_PX * PRINT_PX
SKETCH_REACH = 6
"""Frequencies up to six waves across the square."""

SKETCH_BITS = (2 * SKETCH_REACH + 1) * (SKETCH_REACH + 1) - SKETCH_REACH - 1
"""Half the plane, the other half being its mirror image, without the mean: 84."""

SKETCH_DIGITS = -(-SKETCH_BITS // 4)
COMPARED_REACH, FINER = 11, 4
"""Waves of a print that are compared, and steps to a pixel by which it is moved."""

FLAT_DEVIATION = 1.0
"""Of grey levels: what hardly differs from its mean is like everything and nothing."""


def take_print(cell: Bytes) -> NDArray[np.uint8]:
    """Return [PRINT_PX, PRINT_PX] grey levels of the smallest square that wraps plainly."""
    return np.clip(np.rint(grey_cell(cell, PRINT_PX)), 0, 255).astype(np.uint8)


def sketch_of(printed: NDArray[np.uint8]) -> int:
    """Return the sketch, SKETCH_BITS long; the same for every shift of the print, and for its negative."""
    strength = np.abs(np.fft.fft2(printed.astype(np.float64)))
    reach = SKETCH_REACH
    across = np.arange(-reach, reach + 1)
    half = [strength[0, 1 : reach + 1], *(strength[down, across] for down in range(1, reach + 1))]
    strengths = np.concatenate(half)
    assert len(strengths) == SKETCH_BITS, len(strengths)
    bits = strengths > np.median(strengths)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def sketch_distance(one: int, other: int) -> int:
    """Return how many bits differ."""
    return (one ^ other).bit_count()


def print_distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return 0 for the same pattern, wherever it starts, to 1 for nothing alike.

    Shifts are tried in quarters of a print's pixel, and only waves that it holds safely are compared.
    """
    a, b = (_band(np.fft.fft2(printed.astype(np.float64) - printed.mean())) for printed in (one, other))
    scale = float(np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum()))
    if scale < (PRINT_BYTES * FLAT_DEVIATION) ** 2:
        return 1.0
    side = PRINT_PX * FINER
    waves = np.arange(-COMPARED_REACH, COMPARED_REACH + 1) % side
    spectrum = np.zeros((side, side), np.complex128)
    spectrum[np.ix_(waves, waves)] = a * np.conj(b)
    correlation = np.fft.ifft2(spectrum).real * (side * side / scale)
    return float(np.clip(1 - np.abs(correlation).max(), 0, 1))


def _band(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return [n, n]: the waves up to COMPARED_REACH across and down."""
    waves = np.arange(-COMPARED_REACH, COMPARED_REACH + 1)
    return spectrum[np.ix_(waves, waves)]
