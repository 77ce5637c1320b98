"""Does a drawing still tile? Three by three of it, rasterised by librsvg, held against as many tiles of pixels.

Tracing is free to move edges a little, everywhere alike. What must not be is that it moves them more where tiles meet:
a spline that ends at the border, a hairline between two shapes. So the worst line at a join is held against the worst
line inside.
"""

import re

import numpy as np
import pyvips
from numpy.typing import NDArray

from halfdrop.contracts.errors import PermanentError

Bytes = NDArray[np.uint8]

CHECKED_PX = 384
"""Side of one of the nine tiles."""

JOIN_MAX = 1.5
"""Above this ratio a join shows. Drawings of plates stay below 1.1; one with a hairline is beyond 5."""

NEAR_PX = 2
"""So many lines on either side of a join belong to it."""

FLOOR_LEVELS = 1.0
"""Added to both sides of the ratio: nobody sees a mean difference below it."""

_ROOT = re.compile(rb"^.*?<svg\b[^>]*?viewBox=\"([^\"]+)\"[^>]*>(.*)</svg>\s*$", re.DOTALL)


def join_ratio(svg: bytes, tile: Bytes) -> float:
    """Return how far a drawing departs from its tile where nine of them meet, over how far it does inside; worse axis.

    tile: [size, size, 3] sRGB, what the drawing should show. Raises ValueError for what is no SVG with a viewBox.
    """
    size_px = len(tile)
    shown = rasterise_nine(svg, size_px).astype(np.float32)
    apart = np.abs(shown - np.tile(tile, (3, 3, 1))).mean(axis=-1)
    joins = np.zeros(3 * size_px, np.bool_)
    for join in (size_px, 2 * size_px):
        joins[join - NEAR_PX : join + NEAR_PX] = True
    ratios = []
    for lines in (apart.mean(axis=0), apart.mean(axis=1)):
        inside = lines[NEAR_PX:-NEAR_PX][~joins[NEAR_PX:-NEAR_PX]]
        ratios.append((float(lines[joins].max()) + FLOOR_LEVELS) / (float(inside.max()) + FLOOR_LEVELS))
    return max(ratios)


def check_tiling(svg: bytes, tile: Bytes) -> bytes:
    """Return `svg` if nine of it join as the tiles do. Raises PermanentError(vector-seams) otherwise."""
    ratio = join_ratio(svg, tile)
    if ratio > JOIN_MAX:
        detail = f"drawing: where tiles meet it departs {ratio:.2f} times as far as inside; allowed: {JOIN_MAX}"
        raise PermanentError(detail, code="vector-seams")
    return svg


def rasterise_nine(svg: bytes, tile_px: int) -> Bytes:
    """Return three by three of a drawing as [3 tile_px, 3 tile_px, 3], on magenta: what is not covered shows."""
    found = _ROOT.match(svg)
    if not found:
        raise ValueError("got no SVG with a viewBox")
    box, content = found[1].decode(), found[2].decode()
    laid = "".join(
        f'<svg x="{across * tile_px}" y="{down * tile_px}" width="{tile_px}" height="{tile_px}" viewBox="{box}">'
        '<use xlink:href="#the-tile"/></svg>'
        for down in range(3)
        for across in range(3)
    )
    whole = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{3 * tile_px}" height="{3 * tile_px}"><defs><g id="the-tile">{content}</g></defs>{laid}</svg>'
    )
    image = pyvips.Image.svgload_buffer(whole.encode(), unlimited=True)
    drawn: Bytes = image.flatten(background=[255, 0, 255]).numpy()[..., :3]
    return drawn
