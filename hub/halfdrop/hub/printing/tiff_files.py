"""Pixels to TIFF, the form that mills take in: tiled, deflated, at its physical size.

Three kinds. RGB, with its profile: what the master shows. Indexed: each pixel one ink, without soft edges, for colour
houses that count screens. Separated: a channel for each ink, named as in the PDF, 255 where it covers all of a pixel.
The same pixels always give the same bytes.
"""

from collections.abc import Sequence

import numpy as np
import pyvips
from numpy.typing import NDArray

from halfdrop.hub.files import at_print_resolution
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.tiff_writer import PALETTE, SEPARATED, TILE_PX, Value, write_tiff

HALF_COVERED = 128
"""From here on a pixel of an indexed file belongs to the layer."""

_COLOUR_MAP, _INK_SET, _INK_NAMES, _INKS, _XMP = 320, 332, 333, 334, 700
_NOT_CMYK = 2

TIFF_OPTIONS = {
    "tile": True,
    "tile_width": TILE_PX,
    "tile_height": TILE_PX,
    "compression": "deflate",
    "predictor": "horizontal",
    "resunit": "inch",
}
"""How libvips writes those that it can."""


def encode_tiff(artwork: Artwork) -> bytes:
    """Return the TIFF of the tile in sRGB, with its profile."""
    return encode_rgb_tiff(artwork.tile(), dpi=artwork.dpi, xmp=artwork.xmp)


def encode_rgb_tiff(pixels: NDArray[np.uint8], *, dpi: float, xmp: bytes) -> bytes:
    """Return the TIFF of [height, width, 3] sRGB pixels, with its profile."""
    height, width, _ = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels), width, height, 3, "uchar")
    image = at_print_resolution(image, "srgb", dpi=dpi)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    return bytes(image.tiffsave_buffer(profile="srgb", **TIFF_OPTIONS))


def encode_indexed_tiff(artwork: Artwork) -> bytes:
    """Return the indexed TIFF: each pixel is the place in the palette of the uppermost layer that covers half of it."""
    indices = np.zeros((artwork.size_px, artwork.size_px), np.uint8)
    for place, layer in enumerate(artwork.layers):
        np.copyto(indices, layer + 1, where=artwork.plane(place) >= HALF_COVERED)
    return encode_indices(indices, artwork.palette, dpi=artwork.dpi, xmp=artwork.xmp)


def encode_indices(indices: NDArray[np.uint8], palette: Sequence[str], *, dpi: float, xmp: bytes) -> bytes:
    """Return the indexed TIFF of [height, width] places in a palette of up to 256 colours."""
    colours = np.zeros((3, 256), np.uint16)
    for place, colour in enumerate(palette):
        colours[:, place] = np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8).astype(np.uint16) * 257
    tags: dict[int, Value] = {_COLOUR_MAP: colours.ravel().tolist(), _XMP: xmp}
    return write_tiff(indices[..., None], photometric=PALETTE, dpi=dpi, tags=tags)


def encode_separated_tiff(artwork: Artwork) -> bytes:
    """Return the TIFF of a channel for each layer with ink, whatever lies above it, from the bottom up; the ground is
    none. A pattern without ink is its ground alone."""
    if not artwork.layers:
        full = np.full((artwork.size_px, artwork.size_px), 255, np.uint8)
        return encode_inks([full], [artwork.inks[0].name], dpi=artwork.dpi, xmp=artwork.xmp)
    names = [ink.name for ink in artwork.printed[1:]]
    return encode_inks(artwork.planes(), names, dpi=artwork.dpi, xmp=artwork.xmp)


def encode_inks(planes: Sequence[NDArray[np.uint8]], names: Sequence[str], *, dpi: float, xmp: bytes) -> bytes:
    """Return the TIFF of a channel for each plane of [height, width], 255 = full, in the order of printing."""
    tags: dict[int, Value] = {
        _INK_SET: _NOT_CMYK,
        _INK_NAMES: b"".join(name.encode() + b"\0" for name in names),
        _INKS: len(names),
        _XMP: xmp,
    }
    return write_tiff(np.stack(planes, axis=-1), photometric=SEPARATED, dpi=dpi, tags=tags)
