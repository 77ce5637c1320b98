"""What a mill asks of print files: the length of its repeat, its inks, how inks meet, the smallest thing it prints.

Lengths are millimetres. Everything is bounded here, at the edge's door and at the hub's: what a press cannot do is
refused with what it can.
"""

import re
from typing import Literal

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import normalise_palette

PrintFormat = Literal["pdf", "tiff", "tiff-indexed", "tiff-separated", "ai", "tiff-trapped", "webp", "inks"]
"""Files beyond the usual ones, in the order in which they are made.

A page with spot colours and layers; RGB, one ink a pixel, a channel for each ink; the page for Illustrator; channels
that are knocked out and trapped; WebP; what each ink is and covers, as data.
"""

MM_PER_INCH = 25.4
DPI = 300.0
"""Of files for which no repeat is given. Digital textile print; rotary mills ask for 360."""

DPI_MIN, DPI_MAX = 20.0, 2540.0
"""Wall paper at its coarsest; a film for engraving at its finest."""

REPEAT_MIN_MM, REPEAT_MAX_MM = 5.0, 5000.0
MILL_REPEATS_MAX = 32
TOLERANCE_MM = 0.05
"""Two lengths are one within this: a tenth of a pixel at 300 dpi rounds to it."""

TRAP_MAX_MM, FEATURE_MAX_MM = 2.0, 5.0
INKS_MAX = 16
COLOURWAYS_MAX = 8
MORE_FILES_MAX = 64
"""Files of an order beyond the usual ones, over all its colourways."""

_PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}")


class PrintOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How files are to be printed; `printing` of an order."""

    repeat_mm: float | None = None
    """Length of one tile on the cloth, 5 to 5000 mm. The resolution follows from it and the size in pixels; absent: 300
    pixels to the inch."""

    mill_repeats_mm: tuple[float, ...] = ()
    """Lengths that the mill's screens have, such as 640. A repeat is allowed if some whole number of it is as long."""

    inks_max: int = INKS_MAX
    """Inks that the press takes, ground included, 1 to 16. A pattern with more is refused, not reduced."""

    trap_mm: float = 0.2
    """How far a lighter ink runs on under a darker neighbour, 0 to 2 mm; in "tiff-trapped"."""

    min_feature_mm: float = 0.3
    """The thinnest line that the mill prints, 0 to 5 mm. Spots that are smaller in every direction are left out of
    "tiff-trapped"; what is thinner is told in "inks"."""

    profile: str = ""
    """Name of an ICC profile that the hub has, for "tiff-cmyk": up to 64 letters, digits, _ and -."""


def check_printing(options: PrintOptions, *, size_px: int) -> PrintOptions:
    """Return `options` if files of `size_px` can be printed so. Raises InvalidInput otherwise."""
    if options.repeat_mm is not None:
        _check("printing.repeat_mm", options.repeat_mm, REPEAT_MIN_MM, REPEAT_MAX_MM)
        check_repeat(options.repeat_mm, options.mill_repeats_mm)
        dpi = dpi_of(options, size_px)
        if not DPI_MIN <= dpi <= DPI_MAX:
            low, high = (size_px * MM_PER_INCH / edge for edge in (DPI_MAX, DPI_MIN))
            allowed = f"{low:.1f} to {high:.0f} mm for {size_px} px ({DPI_MIN:g} to {DPI_MAX:g} pixels to the inch)"
            raise InvalidInput("printing.repeat_mm", got=options.repeat_mm, allowed=allowed)
    elif options.mill_repeats_mm:
        raise InvalidInput("printing.repeat_mm", got="nothing", allowed="a length in mm, beside mill_repeats_mm")
    _check("printing.inks_max", options.inks_max, 1, INKS_MAX)
    _check("printing.trap_mm", options.trap_mm, 0, TRAP_MAX_MM)
    _check("printing.min_feature_mm", options.min_feature_mm, 0, FEATURE_MAX_MM)
    if not _PROFILE_NAME.fullmatch(options.profile):
        allowed = "a name of up to 64 letters, digits, _ and -"
        raise InvalidInput("printing.profile", got=options.profile, allowed=allowed)
    return options


def check_repeat(repeat_mm: float, mill_repeats_mm: tuple[float, ...]) -> None:
    """Raise InvalidInput, with the nearest length that would do, if no screen of the mill takes whole repeats."""
    if len(mill_repeats_mm) > MILL_REPEATS_MAX:
        got, allowed = len(mill_repeats_mm), f"up to {MILL_REPEATS_MAX} lengths"
        raise InvalidInput("printing.mill_repeats_mm", got=got, allowed=allowed)
    for place, length_mm in enumerate(mill_repeats_mm):
        _check(f"printing.mill_repeats_mm[{place}]", length_mm, REPEAT_MIN_MM, REPEAT_MAX_MM)
    if not mill_repeats_mm:
        return
    fitting = [_nearest_part(repeat_mm, length_mm) for length_mm in mill_repeats_mm]
    nearest_mm = min(fitting, key=lambda part_mm: abs(part_mm - repeat_mm))
    if abs(nearest_mm - repeat_mm) > TOLERANCE_MM:
        lengths = ", ".join(f"{length_mm:g}" for length_mm in sorted(mill_repeats_mm))
        allowed = f"{lengths} mm or a whole part of one; the nearest is {nearest_mm:g} mm"
        raise InvalidInput("printing.repeat_mm", got=f"{repeat_mm:g}", allowed=allowed)


def dpi_of(options: PrintOptions, size_px: int) -> float:
    """Return pixels to the inch of a tile of `size_px`."""
    return DPI if options.repeat_mm is None else size_px * MM_PER_INCH / options.repeat_mm


def check_colourways(colourways: tuple[tuple[str, ...], ...], *, formats: int) -> tuple[tuple[str, ...], ...]:
    """Return the palettes in lower case. Raises InvalidInput for too many of them, or what no palette can be.

    formats: how many files beyond the usual ones each colourway has.
    """
    if len(colourways) > COLOURWAYS_MAX:
        raise InvalidInput("colourways", got=len(colourways), allowed=f"up to {COLOURWAYS_MAX} palettes")
    files = count_more_files(formats=formats, colourways=len(colourways))
    if files > MORE_FILES_MAX:
        allowed = f"up to {MORE_FILES_MAX}: fewer colourways or fewer formats"
        raise InvalidInput("colourways", got=f"{files} files beside the usual ones", allowed=allowed)
    palettes = []
    for place, colours in enumerate(colourways):
        if not colours:
            raise InvalidInput(f"colourways[{place}]", got="no colours", allowed='colours such as "#1a2b3c"')
        try:
            palettes.append(normalise_palette(colours))
        except InvalidInput as error:
            field = error.field.replace("palette", f"colourways[{place}]")
            raise InvalidInput(field, got=error.got, allowed=error.allowed) from error
    return tuple(palettes)


def count_more_files(*, formats: int, colourways: int) -> int:
    """Return how many files an order has beyond the usual ones: each colourway has a master and a drawing, too."""
    return formats * (1 + colourways) + 2 * colourways


def _nearest_part(repeat_mm: float, length_mm: float) -> float:
    """Return the whole part of `length_mm` that is nearest to `repeat_mm`."""
    times = max(1, int(length_mm / repeat_mm))
    return min((length_mm / count for count in (times, times + 1)), key=lambda part_mm: abs(part_mm - repeat_mm))


def _check(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise InvalidInput(field, got=value, allowed=f"{low:g} to {high:g}")
