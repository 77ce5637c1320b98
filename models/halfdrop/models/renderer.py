"""Plates to pixels: lay the unit on its lattice, upsample its fields, threshold them and fill with colour.

A *tile* is the square that holds `repeat.units` units in each direction and wraps plainly in x and y. Preview and
master are the same composition at two sizes. All functions take the fields as decoded from the plates and fit them
to the lattice themselves.

A tile often repeats itself inside: only the *cell*, its smallest part that repeats in whole pixels, is computed
(`cells`), and that in strips that fit the processor's cache. Coverage is rounded to 8 bits once; nearly all pixels
then are plain palette colours, and blending is left to the few on an edge.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.cells import Cell, plan_cell
from halfdrop.models.fields import Fields

Bytes = NDArray[np.uint8]
Result = TypeVar("Result")

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

    fields: [layers, grid, grid] on the unit's own torus. palette: "#rrggbb", the ground and then a colour per layer.
    """
    used = used_layers(fields)
    cell, colours = plan_cell(fields[list(used)], repeat, size_px), _parse_palette(palette, used)
    tile = np.empty((size_px, size_px, 3), np.uint8)
    height, width = cell.height_px, cell.width_px
    for strip in _compose_cell(cell, colours, threads):
        tile[strip.top_px : strip.top_px + len(strip.rgb), :width] = strip.rgb
        if on_rows:
            on_rows(strip.top_px + len(strip.rgb), height)
    lay_cells(tile, cell)
    return tile


def compose_layers(
    fields: Fields, repeat: Repeat, size_px: int, *, threads: int = 1, on_rows: OnRows | None = None
) -> Bytes:
    """Return the separations, [used layers, size, size]: each layer's coverage, 255 = full, whatever lies above it."""
    cell = plan_cell(fields[list(used_layers(fields))], repeat, size_px)
    layers = np.empty((cell.layers, size_px, size_px), np.uint8)
    height, width, top_px = cell.height_px, cell.width_px, 0
    for strip in _map_ahead(lambda rows: _average(_cover(cell, rows), cell.oversampling), strip_rows(cell), threads):
        below_px = top_px + strip.shape[1]
        for across in range(cell.across):
            layers[:, top_px:below_px, across * width : (across + 1) * width] = strip
        top_px = below_px
        if on_rows:
            on_rows(top_px, height)
    for down in range(1, cell.down):
        layers[:, down * height : (down + 1) * height] = layers[:, :height]
    return layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Covered:
    """A tile before it has colours: what each layer covers of its cell. Any palette fills it, nothing is drawn anew."""

    cell: Cell
    coverage: Bytes
    """[used layers, height, width] samples of the cell, 255 = full."""
    used: tuple[int, ...]
    """Which layers those are."""
    size_px: int


def cover_tile(
    fields: Fields, repeat: Repeat, size_px: int, *, threads: int = 1, on_rows: OnRows | None = None
) -> Covered:
    """Return what each layer with ink covers of a tile; `paint_tile` and `layer_of` make pixels of it."""
    used = used_layers(fields)
    cell = plan_cell(fields[list(used)], repeat, size_px)
    coverage = np.empty((cell.layers, cell.height, cell.width), np.uint8)
    done = 0
    for strip in _map_ahead(lambda rows: _cover(cell, rows), strip_rows(cell), threads):
        coverage[:, done : done + strip.shape[1]] = strip
        done += strip.shape[1]
        if on_rows:
            on_rows(done, cell.height)
    return Covered(cell=cell, coverage=coverage, used=used, size_px=size_px)


def paint_tile(covered: Covered, palette: Sequence[str], *, on_rows: OnRows | None = None) -> Bytes:
    """Return the tile, [size, size, 3] sRGB: to the bit what `compose_tile` returns."""
    cell, colours = covered.cell, _parse_palette(palette, covered.used)
    over = cell.oversampling
    tile = np.empty((covered.size_px, covered.size_px, 3), np.uint8)
    for rows in strip_rows(cell):
        rgb = _fill(covered.coverage[:, rows.start : rows.stop], colours)
        strip = np.moveaxis(_average(np.moveaxis(rgb, -1, 0), over), 0, -1)
        tile[rows.start // over : rows.stop // over, : cell.width_px] = strip
        if on_rows:
            on_rows(rows.stop, cell.height)
    lay_cells(tile, cell)
    return tile


def layer_of(covered: Covered, place: int) -> Bytes:
    """Return the separation of the layer `covered.used[place]`, [size, size]: to the bit that of `compose_layers`."""
    plane = np.empty((covered.size_px, covered.size_px), np.uint8)
    cell = covered.cell
    for rows in strip_rows(cell):
        strip = _average(covered.coverage[place : place + 1, rows.start : rows.stop], cell.oversampling)[0]
        plane[rows.start // cell.oversampling : rows.stop // cell.oversampling, : cell.width_px] = strip
    lay_cells(plane, cell)
    return plane


def lay_cells(tile: Bytes, cell: Cell) -> None:
    """Fill a tile from the cell in its upper left corner."""
    height, width = cell.height_px, cell.width_px
    for across in range(1, cell.across):
        tile[:height, across * width : (across + 1) * width] = tile[:height, :width]
    for down in range(1, cell.down):
        tile[down * height : (down + 1) * height] = tile[:height]


def compose_strips(
    fields: Fields, palette: Sequence[str], repeat: Repeat, size_px: int, *, threads: int = 1
) -> Iterator[Strip]:
    """Yield the tile and its separations from top to bottom, in strips of a few dozen rows.

    Memory stays at a few strips whatever the size; a cell that lies below itself is computed anew each time.
    """
    used = used_layers(fields)
    cell, colours = plan_cell(fields[list(used)], repeat, size_px), _parse_palette(palette, used)
    for down in range(cell.down):
        for strip in _compose_cell(cell, colours, threads):
            yield Strip(
                top_px=strip.top_px + down * cell.height_px,
                rgb=np.tile(strip.rgb, (1, cell.across, 1)),
                coverage=np.tile(strip.coverage, (1, 1, cell.across)),
            )


def compose_proof(fields: Fields, palette: Sequence[str], repeat: Repeat, size_px: int) -> Bytes:
    """Return three by three tiles, each of `size_px` or PROOF_TILE_MAX_PX, whichever is less."""
    return np.tile(compose_tile(fields, palette, repeat, min(size_px, PROOF_TILE_MAX_PX)), (3, 3, 1))


def _compose_cell(cell: Cell, colours: Bytes, threads: int) -> Iterator[Strip]:
    return _map_ahead(lambda rows: _compose_rows(cell, colours, rows), strip_rows(cell), threads)


def strip_rows(cell: Cell) -> Iterator[range]:
    """Yield the cell's rows, in samples, a strip at a time; a strip is whole in pixels."""
    rows = max(1, STRIP_SAMPLES // cell.width // cell.oversampling) * cell.oversampling
    for top in range(0, cell.height, rows):
        yield range(top, min(top + rows, cell.height))


def _compose_rows(cell: Cell, colours: Bytes, rows: range) -> Strip:
    coverage, over = _cover(cell, rows), cell.oversampling
    rgb = _fill(coverage, colours)
    planes = _average(np.moveaxis(rgb, -1, 0), over)
    return Strip(top_px=rows.start // over, rgb=np.moveaxis(planes, 0, -1), coverage=_average(coverage, over))


def _cover(cell: Cell, rows: range) -> Bytes:
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


def measure_depths(cell: Cell, rows: range) -> NDArray[np.float32]:
    """Return [layers, rows, width]: how deep each sample lies inside its layer, in samples; negative outside of it."""
    depths = np.empty((cell.layers, len(rows), cell.width), np.float32)
    for block in cell.blocks:
        start, end = max(rows.start, block.top), min(rows.stop, block.top + len(block.rows_matrix))
        if start < end:
            right = block.left + block.columns_matrix.shape[-1]
            target = depths[:, start - rows.start : end - rows.start, block.left : right]
            target[:] = block.rows_matrix[start - block.top : end - block.top] @ block.columns_matrix
    depths -= np.float32(128)
    depths /= np.float32(255)
    return depths


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
    """Return [n, height, width] means over squares of `over` samples, rounded to nearest."""
    if over == 1:
        return samples
    assert over <= 16, over  # the sums stay within 16 bits
    down = np.zeros((len(samples), samples.shape[1] // over, samples.shape[2]), np.uint16)
    for row in range(over):
        down += samples[:, row::over]
    total = np.full((*down.shape[:2], down.shape[2] // over), over * over // 2, np.uint16)
    for column in range(over):
        total += down[:, :, column::over]
    return (total // np.uint16(over * over)).astype(np.uint8)


def _parse_palette(palette: Sequence[str], used: Sequence[int]) -> Bytes:
    """Return [1 + used layers, 3] levels: the ground and the colours of the layers that have ink."""
    levels = np.array([list(bytes.fromhex(colour[1:])) for colour in palette], np.uint8)
    return levels[[0, *(layer + 1 for layer in used)]]


def _map_ahead(work: Callable[[range], Result], items: Iterable[range], threads: int) -> Iterator[Result]:
    """Yield work(item) in order, on `threads` threads, never more than a few items ahead of the reader."""
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="renderer") as pool:
        waiting: deque[Future[Result]] = deque()
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
