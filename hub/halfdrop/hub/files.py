"""Pixels to files: PNG and WebP through libvips, with the print resolution and the provenance inside.

The same pixels always give the same bytes: no times, no names of machines.
"""

import numpy as np
import pyvips
from numpy.typing import NDArray

from halfdrop.contracts.printing import DPI

COMPRESSION = 3
"""zlib's level: flat artwork hardly shrinks further, and level 6 takes twice the time."""

WEBP_MAX_PX = 16383
WEBP_EFFORT = 0
"""Of 6: flat artwork becomes a tenth smaller with more, and takes five times as long."""

_MM_PER_INCH = 25.4
_OPTIONS = {"compression": COMPRESSION, "filter": "none"}

# libvips would keep finished images for a next request that never comes.
pyvips.cache_set_max(0)


def encode_picture(pixels: NDArray[np.uint8], xmp: bytes, *, dpi: float = DPI) -> bytes:
    """Return the PNG of [height, width, 3] sRGB pixels, with its profile, its resolution and its provenance."""
    image = _image_of(pixels, "srgb", xmp, dpi)
    return bytes(image.write_to_buffer(".png", profile="srgb", **_OPTIONS))


def encode_coverage(plane: NDArray[np.uint8], xmp: bytes, *, dpi: float = DPI) -> bytes:
    """Return the greyscale PNG of [height, width] coverage: 255 where the ink covers all of a pixel."""
    return bytes(_image_of(plane, "b-w", xmp, dpi).write_to_buffer(".png", **_OPTIONS))


def encode_webp(pixels: NDArray[np.uint8], xmp: bytes, *, dpi: float = DPI) -> bytes:
    """Return the lossless WebP of [height, width, 3] sRGB pixels. Raises ValueError where WebP ends, at 16383 px."""
    height, width, _ = pixels.shape
    if max(height, width) > WEBP_MAX_PX:
        raise ValueError(f"{width} x {height} px; WebP holds up to {WEBP_MAX_PX} px")
    image = _image_of(pixels, "srgb", xmp, dpi)
    return bytes(image.write_to_buffer(".webp", lossless=True, effort=WEBP_EFFORT, profile="srgb"))


def at_print_resolution(image: pyvips.Image, interpretation: str, *, dpi: float = DPI) -> pyvips.Image:
    """Return the image with its kind and its resolution said."""
    return image.copy(interpretation=interpretation, xres=dpi / _MM_PER_INCH, yres=dpi / _MM_PER_INCH)


def _image_of(pixels: NDArray[np.uint8], interpretation: str, xmp: bytes, dpi: float) -> pyvips.Image:
    """Return libvips' view of [height, width] or [height, width, bands], with what the file shall say."""
    height, width, *bands = pixels.shape
    memory = np.ascontiguousarray(pixels)
    image = pyvips.Image.new_from_memory(memory, width, height, bands[0] if bands else 1, "uchar")
    image = at_print_resolution(image, interpretation, dpi=dpi)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    return image
