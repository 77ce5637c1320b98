"""A tile taken apart: the smallest part of it that must be computed, as products of matrices.

Bicubic upsampling is separable, so coverage is rows_matrix @ field @ columns_matrix; the matrices hold the phase at
which each row and column of pixels reads its unit. In a drop the columns of units (or the rows) differ only in the
phase of one of the two. Phases are kept in whole numbers until the last division, so that any fraction is exact at any
size.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil, gcd, lcm

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields, band_samples
from halfdrop.models.lattice import extend_unit, fit_to_lattice, sample_weights

Floats = NDArray[np.float32]

MARGIN = 2
"""Samples that bicubic interpolation needs beyond the unit."""

KEPT_SAMPLES_MAX, KEPT_WEIGHTS = 512, 64
"""Tables of weights that are kept: how long they may be and how many; 18 MiB at most, on a grid of 128."""

UNIT_MIN_PX = 64
"""Below this many pixels a unit is computed larger and averaged: coarser sampling than the fields' grid aliases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A part of the cell with one phase: rows_matrix @ columns_matrix[layer] is its coverage, still unclamped."""

    top: int
    left: int
    rows_matrix: Floats
    columns_matrix: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """The smallest part of a tile that repeats in whole pixels, and how to compute it."""

    height: int
    width: int
    down: int
    across: int
    """How often the cell lies below and beside itself in the tile."""
    oversampling: int
    """Heights, widths and blocks are in samples; this many squared make a pixel."""
    blocks: tuple[Block, ...]
    layers: int

    @property
    def height_px(self) -> int:
        return self.height // self.oversampling

    @property
    def width_px(self) -> int:
        return self.width // self.oversampling


def plan_cell(fields: Fields, repeat: Repeat, size_px: int) -> Cell:
    """Return how to compute a tile of all layers of `fields`, [layers, grid, grid] on the unit's own torus."""
    fields, lattice = fit_to_lattice(fields, repeat.normalise())
    units = lattice.units
    oversampling = ceil(UNIT_MIN_PX * units / size_px)
    samples = size_px * oversampling
    whole = units // gcd(units, size_px)
    closed = 2 if lattice.layout == "mirror" else lattice.shift.denominator
    tall = whole if lattice.shift and lattice.shifted_axis == "columns" else lcm(whole, closed)
    wide = whole if lattice.shift and lattice.shifted_axis == "rows" else lcm(whole, closed)
    height, width = samples * tall // units, samples * wide // units
    unit = extend_unit(fields, lattice, MARGIN)
    return Cell(
        height=height,
        width=width,
        down=units // tall,
        across=units // wide,
        oversampling=oversampling,
        blocks=_plan_blocks(unit, lattice, samples, height, width, band=band_samples(fields)),
        layers=len(fields),
    )


def _plan_blocks(
    unit: Floats, lattice: Repeat, samples: int, height: int, width: int, *, band: float
) -> tuple[Block, ...]:
    """Return the cell's blocks: one, or with a drop one for each column (or row) of units.

    unit: extended by MARGIN. band: the fields' band in samples of their own grid.
    """
    grid = unit.shape[-1] - 2 * MARGIN
    slope = 255 * band * samples / (lattice.units * grid)

    def rows_at(shift: Fraction) -> Floats:
        weights = _weights(samples, height, lattice, shift, grid)
        return np.concatenate([np.float32(slope) * weights, np.full((height, 1), 128, np.float32)], axis=1)

    def columns_at(shift: Fraction) -> Floats:
        weights = _weights(samples, width, lattice, shift, grid)
        ones = np.ones((len(unit), 1, width), np.float32)
        return np.concatenate([unit @ weights.T, ones], axis=1)

    straight = Fraction(0)
    if lattice.shift == 0:
        return (Block(top=0, left=0, rows_matrix=rows_at(straight), columns_matrix=columns_at(straight)),)
    blocks = []
    if lattice.shifted_axis == "columns":
        columns = columns_at(straight)
        for place, (start, end) in enumerate(_unit_spans(samples, width, lattice.units)):
            rows = rows_at(lattice.shift * place % 1)
            blocks.append(Block(top=0, left=start, rows_matrix=rows, columns_matrix=columns[..., start:end]))
        return tuple(blocks)
    rows = rows_at(straight)
    for place, (start, end) in enumerate(_unit_spans(samples, height, lattice.units)):
        shifted = columns_at(lattice.shift * place % 1)
        blocks.append(Block(top=start, left=0, rows_matrix=rows[start:end], columns_matrix=shifted))
    return tuple(blocks)


def _unit_spans(samples: int, length: int, units: int) -> list[tuple[int, int]]:
    """Return where each unit starts and ends along `length` samples; a sample lies where its centre does."""
    count = units * length // samples
    edges = [ceil(Fraction(2 * samples * unit - units, 2 * units)) for unit in range(count + 1)]
    return list(pairwise(edges))


def _weights(samples: int, length: int, lattice: Repeat, shift: Fraction, grid: int) -> Floats:
    """Return [length, grid + 2 MARGIN]: what each sample of an extended unit contributes to each sample of a tile.

    Previews ask for the same few again and again, and would spend more time on them than on their pixels; those of a
    master are megabytes and soon made.
    """
    return (_kept_weights if length <= KEPT_SAMPLES_MAX else _make_weights)(samples, length, lattice, shift, grid)


def _make_weights(samples: int, length: int, lattice: Repeat, shift: Fraction, grid: int) -> Floats:
    places = _phases(samples, length, lattice, shift) * grid
    return sample_weights(places, MARGIN, grid).astype(np.float32)


_kept_weights = lru_cache(maxsize=KEPT_WEIGHTS)(_make_weights)


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
