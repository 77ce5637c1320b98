"""Plates to pixels: lay the unit on its lattice, upsample its fields, threshold them and fill with colour.

A *tile* is the square that holds `repeat.units` units in each direction and wraps plainly in x and y. Preview and
master are the same composition at two sizes. All functions take the fields as decoded from the plates and fit them
to the lattice themselves.

Upsampling is bicubic and separable, so a tile is a product of matrices; the columns (or rows) of a drop differ only
in the phase of one of them. A tile often repeats itself inside: only the *cell*, its smallest part that repeats in
whole pixels, is computed, and that in strips that fit the processor's cache. Coverage is rounded to 8 bits once;
nearly all pixels then are plain palette colours, and blending is left to the few on an edge.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, gcd, lcm

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.lattice import extend_unit, fit_to_lattice, sample_weights

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

MARGIN = 2
"""Samples that bicubic interpolation needs beyond the unit."""

UNIT_MIN_PX = 64
"""Below this many pixels a unit is computed larger and averaged: coarser sampling than the fields' grid aliases."""

STRIP_SAMPLES = 1 << 18
"""Pixels in a strip: a float32 buffer of 1 MiB, which stays in the second-level cache."""

AHEAD = 2
"""Strips that each thread may be ahead of the reader, which bounds what waits in memory."""

PROOF_TILE_MAX_PX = 1024
"""Side of one of the nine tiles of a proof: 3072 px in all fill any screen."""

OnRows = Callable[[int, int], None]
"""Told (rows done, rows in all) after each strip; may raise to stop the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Full-width rows of a tile."""

    top_px: int
    rgb: Bytes
    """[rows, size, 3] sRGB."""
    coverage: Bytes
    """[used layers, rows, size], 255 where the layer covers the whole pixel; in the order of `used_layers`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """A part of the cell with one phase: rows_matrix @ columns_matrix[layer] is its coverage, still unclamped."""

    top: int
    left: int
    rows_matrix: Floats
    columns_matrix: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cell:
    """The smallest part of a tile that repeats in whole pixels, and how to compute it."""

    height: int
    width: int
    down: int
    across: int
    """How often the cell lies below and beside itself in the tile."""
    oversampling: int
    """Heights, widths and blocks are in samples; this many squared make a pixel."""
    blocks: tuple[_Block, ...]
    layers: int


def used_layers(fields: Fields) -> tuple[int, ...]:
    """Return the layers that have ink anywhere, from the bottom up; 0 is the first above the ground."""
    return tuple(layer for layer, field in enumerate(fields) if field.max() > 0)


def compose_tile(
    fields: Fields,
    palette: Sequence[str],
    repeat: Repeat,
    size_px: int,
    *,
    threads: int = 1,
    on_rows: OnRows | None = None,
) -> Bytes:
    """Return the tile, [size, size, 3] sRGB.

    fields: [layers, 64, 64] on the unit's own torus. palette: "#rrggbb", the ground and then a colour per layer.
    """
    cell = _plan_cell(fields, repeat, size_px)
    colours = _parse_palette(palette, fields)
    tile = np.empty((size_px, size_px, 3), np.uint8)
    height, width = cell.height // cell.oversampling, cell.width // cell.oversampling
    for strip in _map_ahead(lambda rows: _compose_rows(cell, colours, rows), _strip_rows(cell), threads):
        tile[strip.top_px : strip.top_px + len(strip.rgb), :width] = strip.rgb
        if on_rows:
            on_rows(strip.top_px + len(strip.rgb), height)
    for across in range(1, cell.across):
        tile[:height, across * width : (across + 1) * width] = tile[:height, :width]
    for down in range(1, cell.down):
        tile[down * height : (down + 1) * height] = tile[:height]
    return tile


def compose_layers(fields: Fields, repeat: Repeat, size_px: int, *, threads: int = 1) -> Bytes:
    """Return the separations, [used layers, size, size]: each layer's coverage, 255 = full, whatever lies above it."""
    cell = _plan_cell(fields, repeat, size_px)
    colours = np.zeros((cell.layers + 1, 3), np.uint8)
    layers = np.empty((cell.layers, size_px, size_px), np.uint8)
    height, width = cell.height // cell.oversampling, cell.width // cell.oversampling
    for strip in _map_ahead(lambda rows: _compose_rows(cell, colours, rows), _strip_rows(cell), threads):
        for across in range(cell.across):
            place = np.s_[:, strip.top_px : strip.top_px + len(strip.rgb), across * width : (across + 1) * width]
            layers[place] = strip.coverage
    for down in range(1, cell.down):
        layers[:, down * height : (down + 1) * height] = layers[:, :height]
    return layers


def compose_strips(
    fields: Fields, palette: Sequence[str], repeat: Repeat, size_px: int, *, threads: int = 1
) -> Iterator[Strip]:
    """Yield the tile and its separations from top to bottom, in strips of a few dozen rows.

    Memory stays at a few strips whatever the size; a cell that lies below itself is computed anew each time.
    """
    cell = _plan_cell(fields, repeat, size_px)
    colours = _parse_palette(palette, fields)
    height = cell.height // cell.oversampling
    for down in range(cell.down):
        for strip in _map_ahead(lambda rows: _compose_rows(cell, colours, rows), _strip_rows(cell), threads):
            yield Strip(
                top_px=strip.top_px + down * height,
                rgb=np.tile(strip.rgb, (1, cell.across, 1)),
                coverage=np.tile(strip.coverage, (1, 1, cell.across)),
            )


def compose_proof(fields: Fields, palette: Sequence[str], repeat: Repeat, size_px: int) -> Bytes:
    """Return three by three tiles, each of `size_px` or PROOF_TILE_MAX_PX, whichever is less."""
    return np.tile(compose_tile(fields, palette, repeat, min(size_px, PROOF_TILE_MAX_PX)), (3, 3, 1))


def seam_ratio(tile: Bytes, repeat: Repeat) -> float:
    """Return the mean colour step across the units' borders over that of the steepest lines inside; worse axis.

    Every border of a unit in the tile counts: inside it lie the true lattice neighbours, and the tile's own edges are
    wrapped. As many of the steepest lines inside are taken as there are borders, because crisp artwork has few, high
    steps: a check whose edge falls on the border is no seam. Up to about 1.0 no border shows; a torn pattern without
    strong lines along the border goes far beyond.
    """
    units, size_px = repeat.normalise().units, len(tile)
    borders = np.array([ceil((2 * size_px * unit - units) / (2 * units)) for unit in range(units)])
    worst = 0.0
    for axis in (0, 1):
        steps = _mean_steps(tile, axis)
        inside = np.sort(np.delete(steps, borders))[-units:].mean()
        at_borders = steps[borders].mean()
        worst = max(worst, float(at_borders / inside) if inside > 0 else float(at_borders > 0))
    return worst


def _mean_steps(tile: Bytes, axis: int) -> NDArray[np.float64]:
    """Return, for each row (axis 0) or column (axis 1), the mean step from the one before it, wrapped; in levels."""
    lines = tile.swapaxes(0, axis)
    before = lines[-1].astype(np.int16)
    steps = np.empty(len(lines))
    for place, line in enumerate(lines):
        now = line.astype(np.int16)
        steps[place] = np.abs(now - before).mean()
        before = now
    return steps


def _plan_cell(fields: Fields, repeat: Repeat, size_px: int) -> _Cell:
    lattice = repeat.normalise()
    units = lattice.units
    used = list(used_layers(fields))
    unit = extend_unit(fit_to_lattice(fields, lattice)[used], lattice, MARGIN)
    oversampling = ceil(UNIT_MIN_PX * units / size_px)  # at most 16: 64 px with 16 units, so uint16 holds the sums
    samples = size_px * oversampling
    whole = units // gcd(units, samples)
    closed = 2 if lattice.layout == "mirror" else lattice.shift.denominator
    tall = lcm(whole, closed if lattice.layout == "mirror" or lattice.shifted_axis == "rows" else 1)
    wide = lcm(whole, closed if lattice.layout == "mirror" or lattice.shifted_axis == "columns" else 1)
    # A cell must be whole in pixels, not only in samples.
    tall, wide = _in_whole_pixels(tall, units, size_px), _in_whole_pixels(wide, units, size_px)
    height, width = samples * tall // units, samples * wide // units
    return _Cell(
        height=height,
        width=width,
        down=units // tall,
        across=units // wide,
        oversampling=oversampling,
        blocks=_plan_blocks(unit, lattice, samples, height, width),
        layers=len(used),
    )


def _in_whole_pixels(cell_units: int, units: int, size_px: int) -> int:
    return lcm(cell_units, units // gcd(units, size_px))


def _plan_blocks(unit: Floats, lattice: Repeat, samples: int, height: int, width: int) -> tuple[_Block, ...]:
    """Return the cell's blocks: one, or with a drop one for each column (or row) of units."""
    slope = 255 * BAND_PX * samples / (lattice.units * GRID_PX)

    def rows_at(shift: Fraction) -> Floats:
        weights = sample_weights(_phases(samples, height, lattice, shift) * GRID_PX, MARGIN)
        return np.concatenate([slope * weights, np.full((height, 1), 128)], axis=1).astype(np.float32)

    def columns_at(shift: Fraction) -> Floats:
        weights = sample_weights(_phases(samples, width, lattice, shift) * GRID_PX, MARGIN).astype(np.float32)
        ones = np.ones((len(unit), 1, width), np.float32)
        return np.concatenate([unit @ weights.T, ones], axis=1)

    straight = Fraction(0)
    if lattice.shift == 0:
        return (_Block(top=0, left=0, rows_matrix=rows_at(straight), columns_matrix=columns_at(straight)),)
    blocks = []
    if lattice.shifted_axis == "columns":
        columns = columns_at(straight)
        for place, (start, end) in enumerate(_unit_spans(samples, width, lattice.units)):
            rows = rows_at(lattice.shift * place % 1)
            blocks.append(_Block(top=0, left=start, rows_matrix=rows, columns_matrix=columns[..., start:end]))
        return tuple(blocks)
    rows = rows_at(straight)
    for place, (start, end) in enumerate(_unit_spans(samples, height, lattice.units)):
        shifted = columns_at(lattice.shift * place % 1)
        blocks.append(_Block(top=start, left=0, rows_matrix=rows[start:end], columns_matrix=shifted))
    return tuple(blocks)


def _unit_spans(samples: int, length: int, units: int) -> list[tuple[int, int]]:
    """Return where each unit starts and ends along `length` samples; a sample lies where its centre does."""
    count = units * length // samples
    edges = [ceil(Fraction(2 * samples * unit - units, 2 * units)) for unit in range(count + 1)]
    return list(pairwise(edges))


def _phases(samples: int, length: int, lattice: Repeat, shift: Fraction) -> NDArray[np.float64]:
    """Return where in its unit, 0 to 1, each of `length` sample centres lies when the unit has moved on by `shift`.

    In whole numbers up to the last division, so that equal phases are equal to the bit.
    """
    whole = 2 * samples * shift.denominator
    centres = (2 * np.arange(length, dtype=np.int64) + 1) * (lattice.units * shift.denominator)
    moved = centres - 2 * samples * shift.numerator
    local = moved % whole
    if lattice.layout == "mirror":
        local = np.where(moved // whole % 2 == 1, whole - local, local)
    return local / whole


def _strip_rows(cell: _Cell) -> Iterator[range]:
    """Yield the cell's rows, in samples, a strip at a time; a strip is whole in pixels."""
    rows = max(1, STRIP_SAMPLES // cell.width // cell.oversampling) * cell.oversampling
    for top in range(0, cell.height, rows):
        yield range(top, min(top + rows, cell.height))


def _compose_rows(cell: _Cell, colours: Bytes, rows: range) -> Strip:
    coverage = _cover(cell, rows)
    rgb = _fill(coverage, colours)
    over = cell.oversampling
    if over > 1:
        rgb = _average(rgb[None], over)[0]
        coverage = _average(coverage[..., None], over)[..., 0]
    return Strip(top_px=rows.start // over, rgb=rgb, coverage=coverage)


def _cover(cell: _Cell, rows: range) -> Bytes:
    """Return [layers, rows, width] coverage: the distance to the edge in samples, clamped half a sample away."""
    coverage = np.empty((cell.layers, len(rows), cell.width), np.uint8)
    buffer = np.empty((len(rows), cell.width), np.float32)
    for layer in range(cell.layers):
        for block in cell.blocks:
            start, end = max(rows.start, block.top), min(rows.stop, block.top + len(block.rows_matrix))
            if start < end:
                columns = block.columns_matrix[layer]
                target = buffer[start - rows.start : end - rows.start, block.left : block.left + columns.shape[1]]
                np.matmul(block.rows_matrix[start - block.top : end - block.top], columns, out=target)
        np.clip(buffer, 0, 255.5, out=buffer)
        np.copyto(coverage[layer], buffer, casting="unsafe")
    return coverage


def _fill(coverage: Bytes, colours: Bytes) -> Bytes:
    """Return [rows, width, 3]: the layers painted over each other, from the bottom up, in sRGB as a printer would."""
    shape = coverage.shape[1:]
    top = np.zeros(shape, np.uint8)
    blended = np.zeros(shape, np.bool_)
    for layer, cover in enumerate(coverage):
        full = cover == 255
        np.maximum(top, full.view(np.uint8) * np.uint8(layer + 1), out=top)
        blended &= ~full
        blended |= cover + np.uint8(1) > 1  # 255 wraps to 0: neither bare nor full
    rgb = colours.take(top, axis=0, mode="clip")
    edges = np.flatnonzero(blended)
    paint = np.broadcast_to(colours[0].astype(np.float32), (len(edges), 3)).copy()
    for layer, cover in enumerate(coverage):
        share = cover.reshape(-1)[edges].astype(np.float32) / np.float32(255)
        paint += (colours[layer + 1] - paint) * share[:, None]
    rgb.reshape(-1, 3)[edges] = np.rint(paint).astype(np.uint8)
    return rgb


def _average(samples: Bytes, over: int) -> Bytes:
    """Return [n, height, width, channels] means over squares of `over` samples, rounded to nearest."""
    down = np.zeros((samples.shape[0], samples.shape[1] // over, *samples.shape[2:]), np.uint16)
    for row in range(over):
        down += samples[:, row::over]
    total = np.full((*down.shape[:2], down.shape[2] // over, samples.shape[3]), over * over // 2, np.uint16)
    for column in range(over):
        total += down[:, :, column::over]
    return (total // np.uint16(over * over)).astype(np.uint8)


def _parse_palette(palette: Sequence[str], fields: Fields) -> Bytes:
    """Return [1 + used layers, 3] levels: the ground and the colours of the layers that have ink."""
    levels = np.array([list(bytes.fromhex(colour[1:])) for colour in palette], np.uint8)
    return levels[[0, *(layer + 1 for layer in used_layers(fields))]]


def _map_ahead(work: Callable[[range], Strip], items: Iterable[range], threads: int) -> Iterator[Strip]:
    """Yield work(item) in order, on `threads` threads, never more than a few items ahead of the reader."""
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="renderer") as pool:
        waiting: deque[Future[Strip]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
