"""What is seen of each ink on one unit, measured: its thinnest line, and spots too small for the press.

Lines are measured between their two edges, where these run side by side: along rows and columns of a fine raster, each
run of ink from edge to edge, its length turned square to the edges. Tips and corners, whose edges do not face each
other, are not lines. Edges are taken from where the fields cross zero, so widths are good to a fraction of a sample.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.cells import MARGIN
from halfdrop.models.fields import CLEARED_SAMPLES, Fields, band_samples
from halfdrop.models.lattice import extend_unit, fit_to_lattice, sample_weights

Floats = NDArray[np.float32]

RASTER = 512
"""Samples along a unit on which lines are measured."""

RIM = 64
"""Samples of its neighbours round it: a line that crosses the border is whole."""

FACING = -0.85
"""Two edges face each other if the cosine between their normals is below this: within 30 degrees."""

RUNS_MIN = 3
"""A line is one if so many runs have its width: one alone is a nick."""


def visible_depths(depths: Floats) -> Floats:
    """Return [1 + layers, ...]: how deep each place lies in what is seen of the ground and of each layer.

    depths: [layers, ...], how deep it lies in each layer, whatever is above; the lowest first.
    """
    layers = len(depths)
    visible = np.empty((layers + 1, *depths.shape[1:]), np.float32)
    bare = np.full(depths.shape[1:], np.inf, np.float32)  # how far everything above is away
    for layer in reversed(range(layers)):
        np.minimum(depths[layer], bare, out=visible[layer + 1])
        np.minimum(bare, -depths[layer], out=bare)
    visible[0] = bare
    return visible


def thinnest_lines(fields: Fields, repeat: Repeat, unit_mm: float) -> list[float | None]:
    """Return the width in mm of the thinnest line of the ground and of each layer, where it is seen; None: no lines.

    fields: the layers with ink. Lines are told up to half a unit.
    """
    depths = _raster(fields, repeat)
    return [_thinnest(plane, unit_mm / RASTER) for plane in visible_depths(depths)]


def drop_specks(fields: Fields, repeat: Repeat, unit_mm: float, smallest_mm: float) -> tuple[Fields, list[int]]:
    """Return the fields without spots and holes that are smaller than `smallest_mm` across and along, and how many of
    them each layer had."""
    grid = fields.shape[-1]
    sample_mm = unit_mm / grid
    fitted, lattice = fit_to_lattice(fields, repeat.normalise())
    margin = ceil(smallest_mm / sample_mm) + 2
    if smallest_mm < sample_mm or margin >= grid:
        return fields, [0] * len(fields)  # nothing on the grid is so small
    cleared, counts = fields.copy(), []
    least = np.float32(CLEARED_SAMPLES / band_samples(fields))
    # Fields that had to be slanted to fit are still on the straight torus themselves.
    pad = ((0, 0), (margin, margin), (margin, margin))
    extended = extend_unit(fields, lattice, margin) if fitted is fields else np.pad(fields, pad, mode="wrap")
    for layer, wide in enumerate(extended):
        specks = 0
        for is_ink in (True, False):
            labels, _ = ndimage.label((wide > 0) == is_ink, structure=np.ones((3, 3)))
            for number, (down, across) in enumerate(ndimage.find_objects(labels), start=1):
                tall_mm, wide_mm = ((span.stop - span.start) * sample_mm for span in (down, across))
                if max(tall_mm, wide_mm) >= smallest_mm or _touches(down, len(wide)) or _touches(across, len(wide)):
                    continue
                speck = (labels == number)[margin:-margin, margin:-margin]
                if speck.any():
                    depth = np.maximum(np.abs(cleared[layer][speck]), least)
                    cleared[layer][speck] = -depth if is_ink else depth
                    specks += 1
        counts.append(specks)
    return cleared, counts


def _touches(span: slice, length: int) -> bool:
    return bool(span.start == 0 or span.stop == length)


def _raster(fields: Fields, repeat: Repeat) -> Floats:
    """Return [layers, RASTER + 2 RIM, ...]: depths, in samples of the raster, of a unit and the rim round it."""
    fitted, lattice = fit_to_lattice(fields, repeat.normalise())
    grid = fitted.shape[-1]
    rim = ceil(RIM * grid / RASTER) + MARGIN
    wide = extend_unit(fitted, lattice, rim)
    places = (np.arange(-RIM, RASTER + RIM) + 0.5) * (grid / RASTER)
    weights = sample_weights(places, rim, grid).astype(np.float32)
    depths: Floats = (weights @ wide @ weights.T * (BAND_PX * RASTER / GRID_PX)).astype(np.float32)
    return depths


def _thinnest(depths: Floats, sample_mm: float) -> float | None:
    """Return the width of the thinnest line of what lies deeper than 0."""
    if not np.isfinite(depths).all():
        return None  # bare ground
    slope_y, slope_x = np.gradient(depths)
    length = np.maximum(np.hypot(slope_x, slope_y), np.float32(1e-6))
    normal_x, normal_y = slope_x / length, slope_y / length
    widths = np.concatenate(
        [_runs(depths, normal_x, normal_y), _runs(depths.T, normal_y.T, normal_x.T)]  # along rows, then columns
    )
    if len(widths) < RUNS_MIN:
        return None
    return round(float(np.partition(widths, RUNS_MIN - 1)[RUNS_MIN - 1]) * sample_mm, 3)


def _runs(depths: Floats, along: Floats, aside: Floats) -> Floats:
    """Return the widths, in samples, of all runs along rows that go from one edge to another that faces it.

    along, aside: the edges' normals in the direction of the rows and square to it.
    """
    steps = np.diff(np.pad(depths > 0, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first_at = np.nonzero(steps == 1)
    _, beyond = np.nonzero(steps == -1)
    is_whole = (first_at > 0) & (beyond < depths.shape[1])  # others begin before the raster, or end after it
    row, start, end = row[is_whole], first_at[is_whole] - 1, beyond[is_whole] - 1
    before, first = depths[row, start], depths[row, start + 1]
    last, after = depths[row, end], depths[row, end + 1]
    lengths = (end - start - 1) + first / (first - before) + last / (last - after)
    facing = along[row, start] * along[row, end + 1] + aside[row, start] * aside[row, end + 1]
    square = np.abs(along[row, start] - along[row, end + 1]) / 2
    widths: Floats = (lengths * square)[(facing < FACING) & (square > 0.5)].astype(np.float32)
    return widths
