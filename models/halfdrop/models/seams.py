"""Do borders show? What is torn along every unit's border, against what is torn along lines inside it.

Crisp artwork is made of steps, and many an exact drawing has an edge of its own along the border of its unit, so the
height of a step says nothing. What gives a seam away is that neither side foresees it. A field is a distance: it tells
the pixels ahead whether an edge is coming. So each side's fields are continued over the border in a straight line. A
step in the tile is foreseen if the left side or the right makes it by itself, or if both together make it and meet in
the middle; the rest is *unforeseen*: a torn stripe, an edge that is off by a pixel, in either direction.

A corner may be unforeseen too, so the border is held against the worst of the parallel lines inside the unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.lattice import extend_unit, fit_to_lattice, sample_weights

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

FORGIVEN_PX = 0.25
"""Two sides meet if they differ by this many grid pixels: a distance field bends by as much beside a corner."""

FLOOR_LEVELS = 0.1
"""Added to both sides of the ratio: below this mean step nobody sees anything, and plain tiles have none at all."""

_NOTHING = np.zeros((), np.float32)

CUT_PIXELS_MAX = 1 << 13
"""Pixels of lines inside that are looked at for each axis; of a large unit fewer lines are cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plane:
    """A tile turned so that columns of units are what is shifted, and what it was made from."""

    tile: Bytes
    cell: Floats
    """[layers, rows + 2 margin, columns + 2 margin]: what repeats, with its true neighbours round it, in bands."""
    margin: int
    colours: Floats
    """[1 + layers, 3] levels."""
    shift: float
    cells: int
    """Cells across the tile: its units, or half of them where every other one is flipped."""
    borders: tuple[int, ...]
    """Where in a cell units meet, in samples."""
    is_mirror: bool

    @property
    def samples(self) -> int:
        """Samples along each side of a cell."""
        return int(self.cell.shape[-1]) - 2 * self.margin

    @property
    def pitch_px(self) -> float:
        """Pixels along each side of a cell."""
        return len(self.tile) / self.cells

    @property
    def unit_px(self) -> float:
        return self.pitch_px / len(self.borders)


def seam_ratio(tile: Bytes, fields: Fields, palette: Sequence[str], repeat: Repeat) -> float:
    """Return how far the units' borders stand out in a tile; at most about 1 where none shows, worse axis.

    tile: [size, size, 3] sRGB. fields, palette and repeat: what it was composed from, as `renderer.compose_tile` takes
    them; fields may have any square grid. The ratio is (own + unforeseen at the borders) / (own + unforeseen at the
    worst parallel line inside), where own is the pattern's mean step from pixel to pixel. A tile that is torn along
    its borders goes far beyond 1.
    """
    plane = _make_plane(tile, fields, palette, repeat)
    cuts = _inner_cuts(plane)
    inside = [_measure(plane, is_across, 0, 0, cuts, reads_tile=False) for is_across in (True, False)]
    own = float(np.mean([steps for _, steps in inside])) + FLOOR_LEVELS
    return max(
        (own + _border_unforeseen(plane, is_across)) / (own + float(unforeseen.max()))
        for is_across, (unforeseen, _) in zip((True, False), inside, strict=True)
    )


def _border_unforeseen(plane: _Plane, is_across: bool) -> float:
    """Return the mean unforeseen step, in levels, over all borders of one orientation in the tile."""
    lines = [
        _measure(plane, is_across, place, row, plane.borders, reads_tile=True)[0]
        for place in range(plane.cells)
        for row in range(plane.cells)
    ]
    return float(np.mean(lines))


def _make_plane(tile: Bytes, fields: Fields, palette: Sequence[str], repeat: Repeat) -> _Plane:
    used = [layer for layer, field in enumerate(fields) if field.max() > 0]
    cell, lattice = fit_to_lattice(fields[used], repeat.normalise())
    samples = cell.shape[-1]
    margin = 2 + ceil(samples * lattice.units / len(tile))
    is_mirror = lattice.layout == "mirror"
    if is_mirror:
        cell = np.concatenate([cell, cell[..., ::-1]], axis=-1)
        cell = np.concatenate([cell, cell[..., ::-1, :]], axis=-2)
        extended = np.pad(cell, ((0, 0), (margin, margin), (margin, margin)), mode="wrap")
    else:
        extended = extend_unit(cell, lattice, margin)
    if lattice.shift and lattice.shifted_axis == "rows":
        extended, tile = extended.swapaxes(-1, -2), tile.swapaxes(0, 1)
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in palette], np.float32)
    return _Plane(
        tile=tile,
        cell=extended.astype(np.float32),
        margin=margin,
        colours=colours[[0, *(layer + 1 for layer in used)]],
        shift=float(lattice.shift),
        cells=lattice.units // 2 if is_mirror else lattice.units,
        borders=(0, samples) if is_mirror else (0,),
        is_mirror=is_mirror,
    )


def _inner_cuts(plane: _Plane) -> tuple[int, ...]:
    """Return the lines inside the first cell, in samples, that the borders are held against."""
    allowed = [cut for cut in range(1, plane.samples) if cut not in plane.borders]
    count = min(len(allowed), max(12, int(CUT_PIXELS_MAX / plane.pitch_px)))
    return tuple(allowed[index * len(allowed) // count] for index in range(count))


def _measure(
    plane: _Plane, is_across: bool, place: int, row: int, cuts: Sequence[int], *, reads_tile: bool
) -> tuple[Floats, float]:
    """Return the mean unforeseen step of each of one cell's lines, [cuts], and the mean whole step, in levels.

    is_across: vertical lines, else level ones, in the `place`th column and `row`th row of cells. cuts: how far from
    the start of the cell they lie, in samples. reads_tile: take the steps of the tile, else those of its fields.
    """
    pitch, margin = plane.pitch_px, plane.margin
    over = max(1, ceil(GRID_PX / plane.unit_px))
    down = row + plane.shift * place
    start, begin, cell = (place, down, plane.cell) if is_across else (down, place, plane.cell.swapaxes(1, 2))
    cut = np.array(cuts)
    after = np.ceil((start + cut / plane.samples) * pitch - 0.5).astype(np.int64)
    along = np.arange(ceil(begin * pitch - 0.5), ceil((begin + 1) * pitch - 0.5))
    # 1. The fields along the lines, interpolated as the renderer does: [layers, positions, columns of the cell].
    finer = (along[:, None] + (np.arange(over) + 0.5) / over).ravel()
    lines = _weights((finer / pitch - begin) * plane.samples, plane) @ cell
    far_left, left, right, far_right = (lines[..., cut + margin + tap].swapaxes(1, 2) for tap in (-2, -1, 0, 1))

    # 2. What stands in the pixels on either side: drawn from both sides' fields, and from each side's alone.
    shares = (np.arange(over) + 0.5) / over
    before_at, after_at = (
        [((after + offset_px + share) / pitch - start) * plane.samples for share in shares] for offset_px in (-1, 0)
    )

    def drawn(places: list[NDArray[np.float64]]) -> Floats:
        columns = [(lines @ _weights(at, plane).T).swapaxes(1, 2) for at in places]
        return sum((_paint(column, plane, plane.unit_px * over, over) for column in columns), _NOTHING) / over

    def foreseen(near: Floats, slope: Floats, near_at: float, places: list[NDArray[np.float64]]) -> Floats:
        columns = [near + slope * (at - cut - near_at).astype(np.float32)[:, None] for at in places]
        return sum((_paint(column, plane, plane.unit_px * over, over) for column in columns), _NOTHING) / over

    step = drawn(after_at) - drawn(before_at)
    left_slope, right_slope = left - far_left, far_right - right
    from_left = foreseen(left, left_slope, -0.5, after_at) - foreseen(left, left_slope, -0.5, before_at)
    from_right = foreseen(right, right_slope, 0.5, after_at) - foreseen(right, right_slope, 0.5, before_at)
    half = np.float32(0.5)
    apart = _apart(left + half * left_slope, right - half * right_slope, plane, over)
    if plane.is_mirror:
        apart[np.isin(cut, plane.borders)] = 0  # reflections meet, whatever slant they come with
    # 3. Foreseen by one side; or made by both, which costs what they miss each other by.
    made = _read_step(plane.tile, is_across, after, along) if reads_tile else step
    unforeseen = np.minimum(
        np.minimum(np.abs(made - from_left).mean(axis=-1), np.abs(made - from_right).mean(axis=-1)),
        np.abs(made - step).mean(axis=-1) + apart,
    )
    return unforeseen.mean(axis=-1), float(np.abs(made).mean())


def _read_step(tile: Bytes, is_across: bool, after: NDArray[np.int64], along: NDArray[np.int64]) -> Floats:
    """Return [cuts, positions, 3]: the step into the pixels `after` each cut, on the tile's torus."""
    size = len(tile)
    second, first, positions = after[:, None] % size, (after - 1)[:, None] % size, along[None] % size
    if is_across:
        return tile[positions, second].astype(np.float32) - tile[positions, first]
    return tile[second, positions].astype(np.float32) - tile[first, positions]


def _apart(left: Floats, right: Floats, plane: _Plane, over: int) -> Floats:
    """Return [cuts, positions]: how differently the two sides end in the middle, at the softness of a grid pixel."""
    forgiven = np.float32(FORGIVEN_PX / BAND_PX)
    middle, gap = (left + right) / 2, right - left
    half = np.sign(gap) * np.maximum(np.abs(gap) - forgiven, 0) / 2
    ends = [_paint(middle + sign * half, plane, GRID_PX, over) for sign in (-1, 1)]
    apart: Floats = np.abs(ends[1] - ends[0]).mean(axis=-1)
    return apart


def _paint(values: Floats, plane: _Plane, unit_px: float, over: int) -> Floats:
    """Return [cuts, positions, 3] levels for fields [layers, cuts, positions * over] in bands."""
    coverage = np.clip(np.float32(0.5) + values * np.float32(BAND_PX * unit_px / GRID_PX), 0, 1)
    painted = np.broadcast_to(plane.colours[0], (*values.shape[1:], 3)).copy()
    for layer, cover in enumerate(coverage):
        painted += (plane.colours[layer + 1] - painted) * cover[..., None]
    if over == 1:
        return painted
    averaged: Floats = painted.reshape(len(painted), -1, over, 3).mean(axis=2)
    return averaged


def _weights(places: NDArray[np.float64], plane: _Plane) -> Floats:
    return sample_weights(places, plane.margin, plane.samples).astype(np.float32)
