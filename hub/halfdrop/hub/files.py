"""Pixels to files: PNG through libvips, with the print resolution and the provenance inside.

The same pixels always give the same bytes: no times, no names of machines.
"""

import numpy as np
import pyvips
from numpy.typing import NDArray

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.models.provenance import describe_provenance

DPI = 300
"""Digital textile print; rotary mills ask for 360 and set it themselves."""

COMPRESSION = 3
"""zlib's level: flat artwork hardly shrinks further, and level 6 takes twice the time."""

_MM_PER_INCH = 25.4
_OPTIONS = {"compression": COMPRESSION, "filter": "none"}

# libvips would keep finished images for a next request that never comes.
pyvips.cache_set_max(0)


def encode_picture(pixels: NDArray[np.uint8], spec: PatternSpec) -> bytes:
    """Return the PNG of [height, width, 3] sRGB pixels, with its profile, 300 dpi and the spec in its XMP."""
    height, width, _ = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels), width, height, 3, "uchar")
    image = at_print_resolution(image, "srgb")
    image.set_type(pyvips.GValue.blob_type, "xmp-data", describe_provenance(spec))
    return bytes(image.write_to_buffer(".png", profile="srgb", **_OPTIONS))


def encode_coverage(plane: NDArray[np.uint8]) -> bytes:
    """Return the greyscale PNG of [height, width] coverage: 255 where the ink covers all of a pixel, 300 dpi."""
    height, width = plane.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(plane), width, height, 1, "uchar")
    return bytes(at_print_resolution(image, "b-w").write_to_buffer(".png", **_OPTIONS))


def at_print_resolution(image: pyvips.Image, interpretation: str, *, dpi: int = DPI) -> pyvips.Image:
    """Return the image with its kind and its resolution said."""
    return image.copy(interpretation=interpretation, xres=dpi / _MM_PER_INCH, yres=dpi / _MM_PER_INCH)
