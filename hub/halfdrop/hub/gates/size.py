"""Size and resolution as the files themselves say them, against what was ordered.

Read back with libvips from the very bytes that were stored: a resolution that was lost on the way shows here.
"""

from dataclasses import dataclass

import pyvips

from halfdrop.contracts.printing import MM_PER_INCH
from halfdrop.contracts.templates import side_mm


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a raster file says of itself."""

    width_px: int
    height_px: int
    dpi: float


def read_measure(data: bytes) -> Measure:
    """Return width, height and resolution of a PNG or TIFF. Raises ValueError for what is neither."""
    try:
        image = pyvips.Image.new_from_buffer(data, "", access="sequential")
    except pyvips.Error as error:
        raise ValueError(f"not a picture: {error}") from error
    return Measure(width_px=image.width, height_px=image.height, dpi=image.xres * MM_PER_INCH)


def size_error_mm(measure: Measure, *, size_px: int, dpi: float) -> float:
    """Return by how much the file's longer error misses the ordered square, in mm of print."""
    wanted = side_mm(size_px, dpi)
    sides = (measure.width_px, measure.height_px)
    return max(abs(side_mm(side, measure.dpi) - wanted) if measure.dpi > 0 else wanted for side in sides)
