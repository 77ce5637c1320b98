"""The thinnest line or gap of a plate: what a screen cannot hold, a needle cannot set.

Along the middle of a stroke the distance to its edge has a ridge, as high as half the stroke is wide. Ridges lower
than the limit are counted; towards the tip of a leaf the distance falls, so tips have no ridge and are no strokes. A
few samples of ridge are forgiven: the last pixels of a slender tip."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.printing import MM_PER_INCH
from halfdrop.hub.gates.specimen import Specimen

HALF_COVERED = 128
FORGIVEN = 0.02
"""Length of thin ridge that is let pass, as a share of the plate's outline over two: the length if all were strokes."""

FORGIVEN_SAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class Thinnest:
    """The thinnest stroke that was found."""

    width_px: float
    plate: int
    """Which of the plates with ink, from 0 at the bottom."""

    is_gap: bool
    thin: NDArray[np.bool_]
    """[unit, unit], of the cell's first unit: the middles of what is thinner than was looked for; none: all is wide."""


def measure_stroke(specimen: Specimen, least_mm: float) -> Thinnest:
    """Return the thinnest stroke of all plates, looked for up to a little above `least_mm`.

    A width is a whole number of pixels, within one: at the size and resolution of the files.
    """
    least_px = least_mm * specimen.dpi / MM_PER_INCH
    nothing = np.zeros((0, 0), np.bool_)
    found = Thinnest(width_px=float(np.ceil(least_px)), plate=0, is_gap=False, thin=nothing)
    reach = int(np.ceil(least_px / 2)) + 1
    for place, plane in enumerate(specimen.compose_plates()):
        unit = -(-len(plane) // specimen.closed)
        rows = np.arange(-reach - 1, unit + reach + 1) % len(plane)
        ink = plane[rows[:, None], rows] >= HALF_COVERED
        for is_gap in (False, True):
            width_px, thin = _thinnest(~ink if is_gap else ink, least_px, reach)
            if width_px < found.width_px:
                found = Thinnest(width_px=width_px, plate=place, is_gap=is_gap, thin=thin)
    return found


def _thinnest(ink: NDArray[np.bool_], least_px: float, reach: int) -> tuple[float, NDArray[np.bool_]]:
    """Return the width of the thinnest strokes and where they are; least_px, rounded up, where none is thinner.

    ink: a unit with reach + 1 pixels of its neighbours round it.
    """
    inner = slice(reach + 1, -reach - 1)
    outline = sum(int((np.diff(ink[inner, inner], axis=axis)).sum()) for axis in (0, 1))
    allowed = FORGIVEN_SAMPLES + FORGIVEN * outline / 2
    squared = _squared_distance(ink, reach)
    thin_up_to = _ridge(squared)
    for width in range(1, int(np.ceil(least_px))):
        # A stroke of `width` pixels has its middle at most (width + 1) / 2 from the nearest bare pixel.
        thin = thin_up_to & (4.0 * squared[1:-1, 1:-1] <= (width + 1) ** 2)
        if int(thin.sum()) > allowed:
            return float(width), thin
    return float(np.ceil(least_px)), np.zeros((0, 0), np.bool_)


def _squared_distance(ink: NDArray[np.bool_], reach: int) -> NDArray[np.uint16]:
    """Return [unit + 2, unit + 2]: each pixel's squared distance to the nearest bare one, 0 if it is bare itself; more
    than reach² where there is none within reach."""
    side = len(ink) - 2 * reach
    bare = ~ink
    span = range(-reach, reach + 1)
    offsets = sorted((dy * dy + dx * dx, dy, dx) for dy in span for dx in span if dy * dy + dx * dx <= reach * reach)
    squared = np.full((side, side), reach * reach + 2 * reach + 1, np.uint16)
    is_open = np.ones((side, side), np.bool_)
    for number, dy, dx in offsets:  # the nearest first, so that the first to meet a pixel counts
        met = bare[reach + dy : reach + dy + side, reach + dx : reach + dx + side] & is_open
        squared[met] = number
        is_open &= ~met
    return squared


def _ridge(squared: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return [unit, unit]: inked pixels than which none of the eight neighbours is deeper inside."""
    rows = np.maximum(np.maximum(squared[:-2], squared[1:-1]), squared[2:])
    deepest = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    middle = squared[1:-1, 1:-1]
    is_ridge: NDArray[np.bool_] = (middle > 0) & (middle >= deepest)
    return is_ridge


def as_mm(width_px: float, dpi: float) -> float:
    """Return a width in print."""
    return width_px * MM_PER_INCH / dpi
