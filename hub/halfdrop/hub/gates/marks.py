"""Pictures of what did not pass: the pattern paled, and what is wrong with it in magenta."""

import numpy as np
from numpy.typing import NDArray

from halfdrop.hub.gates.repeats import Likeness
from halfdrop.hub.gates.seams import borders_px, unlike_borders
from halfdrop.hub.gates.specimen import Bytes, Specimen
from halfdrop.hub.gates.stroke import Thinnest

MARK = np.array([230, 0, 120], np.uint8)
PICTURE_PX = 768
"""About as large as the pictures are; a report is looked at on a screen."""

PALE = 0.35
"""What is left of the pattern's contrast to white."""

LINE_PX = 2
SHOWN_STEP = 1.5
"""A border is marked where its step exceeds the mean step of all lines by this factor."""


def draw_plain(specimen: Specimen) -> Bytes:
    """Return the tile as it is: of a blank one there is nothing to mark."""
    return _fit(specimen.tile)


def draw_seams(tile: Bytes, specimen: Specimen) -> Bytes:
    """Return the tile with those borders of units marked that stand out; all of them where none does by itself."""
    picture, units = _pale(_fit(tile)), specimen.repeat.units
    down, across = unlike_borders(tile, specimen.repeat)
    scale = len(picture) / len(tile)
    borders = borders_px(len(tile), units)
    bad_down, bad_across = ([at for at in borders if steps[at] > SHOWN_STEP * steps.mean()] for steps in (down, across))
    if not bad_down and not bad_across:
        bad_down = bad_across = borders
    for at in bad_across:
        _mark_lines(picture.swapaxes(0, 1), round(at * scale))
    for at in bad_down:
        _mark_lines(picture, round(at * scale))
    return picture


def draw_repeats(specimen: Specimen, likeness: Likeness) -> Bytes:
    """Return the tile with two places framed that are alike and should not be."""
    picture = _pale(_fit(specimen.tile))
    unit_px = len(picture) / specimen.repeat.units
    side = max(8, round(unit_px / 2))
    for units_down, units_across in ((0.25, 0.25), (0.25 + likeness.down, 0.25 + likeness.across)):
        top, left = round(units_down * unit_px), round(units_across * unit_px)
        _mark_frame(picture, top, left, side)
    return picture


def draw_stroke(plane: Bytes, thinnest: Thinnest) -> Bytes:
    """Return the plate's first unit with the thin places marked, each large enough to be seen."""
    unit = len(thinnest.thin)
    step = max(1, unit // PICTURE_PX)
    side = unit // step
    cut = (slice(0, side * step), slice(0, side * step))
    ink = plane[:unit, :unit][cut].reshape(side, step, side, step).mean(axis=(1, 3))
    thin = thinnest.thin[cut].reshape(side, step, side, step).any(axis=(1, 3))
    wide = thin.copy()
    for dy in range(-LINE_PX, LINE_PX + 1):
        for dx in range(-LINE_PX, LINE_PX + 1):
            wide |= np.roll(thin, (dy, dx), axis=(0, 1))
    picture = _pale(np.repeat((255 - ink).astype(np.uint8)[..., None], 3, axis=2))
    picture[wide] = MARK
    return picture


def _fit(tile: Bytes) -> Bytes:
    """Return the tile, every n-th pixel of a large one: edges stay what they are."""
    step = max(1, len(tile) // PICTURE_PX)
    return np.ascontiguousarray(tile[::step, ::step])


def _pale(tile: Bytes) -> Bytes:
    pale: Bytes = np.rint(255 - (255 - tile.astype(np.float32)) * PALE).astype(np.uint8)
    return pale


def _mark_lines(rows: NDArray[np.uint8], at: int) -> None:
    for offset in range(-LINE_PX // 2, LINE_PX - LINE_PX // 2):
        rows[(at + offset) % len(rows)] = MARK


def _mark_frame(picture: Bytes, top: int, left: int, side: int) -> None:
    size = len(picture)
    rows, columns = (np.arange(start, start + side) % size for start in (top, left))
    for line in range(LINE_PX):
        picture[rows[line], columns] = picture[rows[-1 - line], columns] = MARK
        picture[rows, columns[line]] = picture[rows, columns[-1 - line]] = MARK
