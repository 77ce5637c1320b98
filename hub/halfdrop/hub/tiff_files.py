"""Pixels to TIFF, the form that mills take in: tiled, deflated, at its physical size.

Three kinds. RGB, with its profile: what the master shows. Indexed: each pixel one ink, without soft edges, for colour
houses that count screens. Separated: a channel for each ink, named as in the PDF, 255 where it covers all of a pixel.
The same pixels always give the same bytes.
"""

from collections.abc import Sequence

import numpy as np
import pyvips
from numpy.typing import NDArray

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.hub.files import DPI, at_print_resolution
from halfdrop.hub.spot_inks import name_inks
from halfdrop.hub.tiff_writer import PALETTE, SEPARATED, TILE_PX, Value, write_tiff
from halfdrop.models.provenance import describe_provenance

HALF_COVERED = 128
"""From here on a pixel of an indexed file belongs to the layer."""

_COLOUR_MAP, _INK_SET, _INK_NAMES, _INKS, _XMP = 320, 332, 333, 334, 700
_NOT_CMYK = 2


def encode_tiff(pixels: NDArray[np.uint8], spec: PatternSpec, *, dpi: int = DPI) -> bytes:
    """Return the TIFF of [height, width, 3] sRGB pixels, with its profile and the spec in its XMP."""
    height, width, _ = pixels.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels), width, height, 3, "uchar")
    image = at_print_resolution(image, "srgb", dpi=dpi)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", describe_provenance(spec))
    return bytes(
        image.tiffsave_buffer(
            tile=True,
            tile_width=TILE_PX,
            tile_height=TILE_PX,
            compression="deflate",
            predictor="horizontal",
            profile="srgb",
            resunit="inch",
        )
    )


def encode_indexed_tiff(
    planes: Sequence[NDArray[np.uint8]],
    layers: Sequence[int],
    palette: Sequence[str],
    spec: PatternSpec,
    *,
    size_px: int,
    dpi: int = DPI,
) -> bytes:
    """Return the indexed TIFF: each pixel is the place in the palette of the uppermost layer that covers half of it.

    planes: [height, width] coverage of each layer with ink, the lowest first; layers: which layers those are.
    """
    indices = np.zeros((size_px, size_px), np.uint8)
    for layer, plane in zip(layers, planes, strict=True):
        indices[plane >= HALF_COVERED] = layer + 1
    colours = np.zeros((3, 256), np.uint16)
    for place, colour in enumerate(palette):
        colours[:, place] = np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8).astype(np.uint16) * 257
    tags: dict[int, Value] = {_COLOUR_MAP: colours.ravel().tolist(), _XMP: describe_provenance(spec)}
    return write_tiff(indices[..., None], photometric=PALETTE, dpi=dpi, tags=tags)


def encode_separated_tiff(
    planes: Sequence[NDArray[np.uint8]],
    layers: Sequence[int],
    palette: Sequence[str],
    spec: PatternSpec,
    *,
    size_px: int,
    dpi: int = DPI,
) -> bytes:
    """Return the TIFF of N channels, one for each layer with ink, in the order of printing; the ground is none.

    A pattern without ink is its ground alone.

    planes, layers: as in `encode_indexed_tiff`.
    """
    inks = name_inks(list(palette))
    printed = [inks[layer + 1] for layer in layers] or inks[:1]
    names = b"".join(ink.name.encode() + b"\0" for ink in printed)
    channels = list(planes) or [np.full((size_px, size_px), 255, np.uint8)]
    tags: dict[int, Value] = {
        _INK_SET: _NOT_CMYK,
        _INK_NAMES: names,
        _INKS: len(printed),
        _XMP: describe_provenance(spec),
    }
    return write_tiff(np.stack(channels, axis=-1), photometric=SEPARATED, dpi=dpi, tags=tags)
