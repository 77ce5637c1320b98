"""How a unit meets its neighbours: the fields' continuation beyond the unit, and their fit to the lattice.

In a drop the right-hand neighbour hangs lower. The house model draws free forms on the torus of their lattice, and
motifs with a clear margin do not mind; but plates may also come from elsewhere, or from the straight torus, where a
field leaves on the right and comes in again on the left at the same height. docs/adr/0004 explains what is done.
"""

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.plates import GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields, band_samples

LOWERINGS = 128
"""Matrices that move columns down which are kept: of each lattice one there and one back; 2 MiB on a grid of 64."""

TORN_SHARE = 0.02
"""Share of the border that may meet the wrong thing. A single line 1.5 grid pixels wide, torn once, is above it."""

LEAP_SAMPLES, LEAPING_SHARE = 2.0, 0.3
"""A distance changes by one sample's width from a sample to the next; free forms' are distances to first order only.

Measured on the house's free forms: on their own lattice a tenth of the border leaps at most, rarely a quarter; laid
on another, a fifth at least, and several times as much as on their own.
"""

ALIKE_SHARE = 0.4
"""A layer is symmetric under the shift if it differs from itself by at most this much of what chance would give.

Measured on the house's kinds: symmetric ones with edges 0.7 grid pixels off reach 0.4, others begin at 0.45.
"""


class Fitted(NamedTuple):
    """A unit's fields, and the lattice on which they continue over every border."""

    fields: Fields
    repeat: Repeat


def fit_to_lattice(fields: Fields, repeat: Repeat) -> Fitted:
    """Return fields and a lattice such that the fields continue over every border.

    Fields that do so already come back as they are: they run on over the shifted border (the model draws free forms
    on the torus of their lattice), or nothing crosses it, or what crosses it meets its like, or the shift is a
    symmetry of every layer (then only the model's wobble is left to differ, and interpolation closes that). Ruled
    fields that half a unit maps onto themselves are laid straight: that is the same drop, of a larger unit. What is
    left is sheared by the drop. The result belongs to this lattice only: fit each unit once, from its plates.
    """
    shift = repeat.shift
    if shift == 0:
        return Fitted(fields, repeat)
    upright = fields.swapaxes(-1, -2) if repeat.shifted_axis == "rows" else fields
    if (
        runs_on(upright, shift)
        or torn_share(upright, shift) <= TORN_SHARE
        or unlike_share(upright, shift) <= ALIKE_SHARE
    ):
        return Fitted(fields, repeat)
    if unlike_share(upright, Fraction(1, 2)) <= ALIKE_SHARE:
        return Fitted(fields, Repeat(units=repeat.units))
    sheared = _shear(upright, shift)
    return Fitted(np.ascontiguousarray(sheared.swapaxes(-1, -2)) if upright is not fields else sheared, repeat)


def runs_on(fields: Fields, shift: Fraction) -> bool:
    """Return whether the fields continue over the shifted border, and better than over the straight one."""
    shifted, straight = leaping_share(fields, shift), leaping_share(fields, Fraction(0))
    return shifted <= LEAPING_SHARE and shifted < straight / 2


def leaping_share(fields: Fields, shift: Fraction) -> float:
    """Return the share of the right border, 0 to 1, at which the next column's field, moved down by the shift, is
    farther off than a distance can change from one sample to the next; worst layer."""
    beyond = _lower(fields[..., :1], float(shift) * fields.shape[-2])
    steps = np.abs(beyond - fields[..., -1:]) * band_samples(fields)
    return float((steps > LEAP_SAMPLES).mean(axis=(-1, -2)).max(initial=0))


def torn_share(fields: Fields, shift: Fraction) -> float:
    """Return the share of the left and right border, 0 to 1, at which a shift of columns tears ink; worst layer.

    Only ink on both sides of the straight join counts: what merely touches the border from one side is a motif
    drawn a little too large, and slanting it would do more harm than the touch does. Edges that miss each other by
    one sample are forgiven: the model wobbles by as much.
    """
    crossing: Fields = np.clip(band_samples(fields) * np.minimum(fields[..., :1], fields[..., -1:]), 0, 1)
    return float(_differences(crossing, shift).mean(axis=(-1, -2)).max(initial=0))


def unlike_share(fields: Fields, shift: Fraction) -> float:
    """Return how much a layer differs from itself moved down by `shift`; 1 is what chance would give; worst layer."""
    inside: Fields = np.clip(0.5 + band_samples(fields) * fields, 0, 1)
    ink = inside.mean(axis=(-1, -2))
    chance = np.maximum(2 * ink * (1 - ink), 1 / fields.shape[-1] ** 2)
    return float((_differences(inside, shift).mean(axis=(-1, -2)) / chance).max(initial=0))


def extend_unit(fields: Fields, repeat: Repeat, margin: int) -> Fields:
    """Return [layers, grid + 2 margin, grid + 2 margin]: the unit with the borders of its true neighbours round it."""
    if repeat.layout == "mirror":
        return np.pad(fields, ((0, 0), (margin, margin), (margin, margin)), mode="symmetric")
    if repeat.shifted_axis == "rows":
        return _extend_columns(fields.swapaxes(-1, -2), repeat.shift, margin).swapaxes(-1, -2)
    return _extend_columns(fields, repeat.shift, margin)


def sample_weights(places: NDArray[np.float64], margin: int, grid: int = GRID_PX) -> NDArray[np.float64]:
    """Return [n, grid + 2 margin]: what each sample of an extended unit contributes to each of `places`.

    places: samples from the unit's border, so that sample 0 lies at 0.5; up to margin - 1.5 beyond the unit.
    """
    from_first = places - 0.5
    base = np.floor(from_first).astype(np.int64)
    weights = np.zeros((len(places), grid + 2 * margin))
    taps = base[:, None] + np.arange(-1, 3) + margin
    np.put_along_axis(weights, taps, _keys_weights(from_first - base), axis=1)
    return weights


def _differences(columns: Fields, shift: Fraction) -> Fields:
    """Return where columns of coverage and the same moved down differ by more than one sample along the column."""
    moved = _lower(columns, float(shift) * columns.shape[-2])
    torn: Fields = np.maximum(columns - _spread(moved), 0) + np.maximum(moved - _spread(columns), 0)
    return torn


def _spread(columns: Fields) -> Fields:
    """Return the most of each sample and its neighbours above and below, on the torus."""
    most: Fields = np.maximum(columns, np.maximum(np.roll(columns, 1, axis=-2), np.roll(columns, -1, axis=-2)))
    return most


def _extend_columns(fields: Fields, shift: Fraction, margin: int) -> Fields:
    drop_px = float(shift) * fields.shape[-1]
    if shift:
        right = _lower(fields[..., :margin], drop_px)
        left = _lower(fields[..., -margin:], -drop_px)
    else:
        right, left = fields[..., :margin], fields[..., -margin:]
    wide = np.concatenate([left, fields, right], axis=-1)
    return np.concatenate([wide[..., -margin:, :], wide, wide[..., :margin, :]], axis=-2)


def _shear(fields: Fields, shift: Fraction) -> Fields:
    """Hang each column lower in proportion to its place, so that the unit's right edge is one whole drop below.

    f(x, y - d (x - ½)) laid with drop d is f(X, Y - d X + d/2) over the whole plane: continuous as f is. Of the
    drops that give the same lattice the gentlest is taken (two thirds down is one third up). Edges stay where the
    slant puts them; only their anti-aliasing ramp grows or shrinks, by about a quarter at most.
    """
    slant = float(shift if shift <= Fraction(1, 2) else shift - 1)
    grid = fields.shape[-1]
    places = (np.arange(grid) + 0.5) / grid - 0.5
    return _move_down(fields, slant * places * grid)


def _lower(columns: Fields, by_px: float) -> Fields:
    """Return [..., grid, n] periodic columns, all moved down by the same number of samples, whole or not."""
    if float(by_px).is_integer():  # the matrix would have ones and zeros alone, and be as large as a fine grid squared
        return np.roll(columns, int(by_px), axis=-2)
    lowered: Fields = _lowering(columns.shape[-2], by_px) @ columns
    return lowered


@lru_cache(maxsize=LOWERINGS)
def _lowering(grid: int, by_px: float) -> Fields:
    """Return [grid, grid]: what each sample of a column contributes to each of the column moved down."""
    return _move_down(np.eye(grid, dtype=np.float32), np.full(grid, by_px))


def _move_down(columns: Fields, by_px: NDArray[np.float64]) -> Fields:
    """Return [..., grid, n] periodic columns, each moved down by its own number of samples, whole or not."""
    grid, width = columns.shape[-2:]
    source = np.arange(grid)[:, None] - by_px
    base = np.floor(source).astype(np.int64)
    weights = _keys_weights(source - base).astype(np.float32)
    flat = np.ascontiguousarray(columns).reshape(*columns.shape[:-2], grid * width)
    moved = np.zeros_like(columns)
    for tap in range(4):
        places = (base + (tap - 1)) % grid * width + np.arange(width)
        moved += weights[..., tap] * flat.take(places, axis=-1)
    return moved


def _keys_weights(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [n, 4] weights of the samples at -1, 0, 1, 2 for points at `offset` (0 to 1) past sample 0.

    Keys' cubic convolution with a = -1/2: third-order exact, and reaching only two samples far.
    Source: R. Keys, IEEE Trans. ASSP 29 (1981).
    """
    t = offset
    return np.stack(
        [
            ((-0.5 * t + 1) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ],
        axis=-1,
    )
