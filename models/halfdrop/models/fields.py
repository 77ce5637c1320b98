"""Distance fields as numbers: to and from the plates that travel, and their hygiene.

A field is float32 [grid, grid], in bands of 6 grid pixels: positive inside a shape, 1.0 where an edge is at least a
band away, and near an edge its slope is one band in 6 grid pixels. A unit's fields are a stack [4, grid, grid],
periodic on the unit's own torus; row 0 is on top. Plates travel with a grid of 64; the hub's refiner returns 128.
Whatever the grid, a *grid pixel* is a 64th of the unit and the band is as wide: only the samples lie closer.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, SAMPLE_SCALE, Plates, check_plates
from halfdrop.models.hex_colours import Substitution, restore_hex

Fields = NDArray[np.float32]
Number = TypeVar("Number", np.uint8, np.float32)

SOFTEST_SLOPE = 0.25
"""Softer edges are made four times as steep at most: below this a field says nothing about where its edge lies."""

SPECK_SAMPLES = 5
"""A region of fewer samples than this is a speck or a pin-hole: under 2.2 grid pixels across, below what prints."""

CLEARED_SAMPLES = 0.5
"""Least depth, in samples, to which a removed speck is sunk, so that upsampling cannot raise it again."""


def decode_fields(plates: Plates) -> Fields:
    """Return the fields of `plates`, [4, 64, 64]. Raises PermanentError(bad-plates) when they are not whole."""
    samples = np.frombuffer(check_plates(plates).fields, dtype="<i2").reshape(LAYERS, GRID_PX, GRID_PX)
    return samples.astype(np.float32) / np.float32(SAMPLE_SCALE)


def fields_to_plates(fields: Fields, palette: Sequence[str], *, pattern_key: str, model_digest: str) -> Plates:
    """Return plates holding `fields` rounded to 16 bits, values beyond one band clamped.

    palette: "#rrggbb", the ground and then one colour for each layer. Raises PermanentError(bad-plates) when there
    are not five.
    """
    assert fields.shape == (LAYERS, GRID_PX, GRID_PX), fields.shape
    samples = np.rint(np.clip(fields, -1, 1) * SAMPLE_SCALE).astype("<i2")
    plates = Plates(
        pattern_key=pattern_key, model_digest=model_digest, fields=samples.tobytes(), palette=tuple(palette)
    )
    return check_plates(plates)


def choose_palette(
    drawn: NDArray[np.float32], chosen: Sequence[str], substitutions: Sequence[Substitution] = ()
) -> tuple[str, ...]:
    """Return five colours "#rrggbb": the user's in order of role, then the model's for the roles left.

    drawn: [5, 3] sRGB, 0 to 1, from the model's palette head. substitutions: exact colours that the prompt names, and
    the names that the model was given for them.
    """
    levels = np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8)
    assert levels.shape == (LAYERS + 1, 3), levels.shape
    own = tuple(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in levels.tolist())
    return tuple(chosen) + restore_hex(own, substitutions)[len(chosen) :]


def band_samples(fields: Fields) -> float:
    """Return the band's width in samples of these fields: 6 where the grid is 64, 12 where it is 128."""
    return float(BAND_PX * fields.shape[-1] / GRID_PX)


def tidy_fields(fields: Fields) -> Fields:
    """Return `fields` without specks and pin-holes, and with the slope of soft edges restored.

    Exact distance fields come back as they were, within 1 % of coverage.
    """
    return _restore_slope(_drop_specks(fields))


def _drop_specks(fields: Fields) -> Fields:
    """Flip every region of one sign (wrapping, joined also at corners) of fewer than SPECK_SAMPLES samples."""
    inside = fields > 0
    # A sample of a speck has too few of its sign round it. Few samples are so lonely, so only they are looked at.
    around = _sum_around(inside.view(np.uint8))
    lonely = np.flatnonzero((around < SPECK_SAMPLES) == inside)
    specks = lonely[_are_specks(inside.ravel(), lonely, fields.shape)]
    if not len(specks):
        return fields
    dropped = fields.copy()
    values = fields.ravel()[specks]
    depth = np.maximum(np.abs(values), np.float32(CLEARED_SAMPLES / band_samples(fields)))
    dropped.ravel()[specks] = np.where(values > 0, -depth, depth)
    return dropped


def _are_specks(inside: NDArray[np.bool_], lonely: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which of the `lonely` samples, places in `inside`, belong to a region of fewer than SPECK_SAMPLES.

    Labels spread by one sample a pass; samples that are not lonely have one below all others. A speck has settled on
    one label after as many passes as it has samples; a label that still borders on another belongs to something
    larger.
    """
    layer, down, across = np.unravel_index(lonely, shape)
    around = np.arange(-1, 2)
    rows = (layer * shape[1])[:, None] + (down[:, None] + around) % shape[1]
    columns = (across[:, None] + around) % shape[2]
    neighbours = (rows[:, :, None] * shape[2] + columns[:, None, :]).reshape(-1, 9)
    alike = inside[neighbours] == inside[lonely][:, None]
    labels = np.full(inside.size, -1, np.int64)
    labels[lonely] = lonely
    for _ in range(SPECK_SAMPLES - 1):
        labels[lonely] = np.where(alike, labels[neighbours], inside.size).min(axis=1)
    own, spread = labels[lonely], labels[neighbours]
    unsettled = (alike & (spread != own[:, None])).any(axis=1)
    members = np.bincount(own + 1, minlength=inside.size + 1)
    members[own[unsettled] + 1] = SPECK_SAMPLES
    members[0] = SPECK_SAMPLES  # whatever a sample that is not lonely has spread its label to
    is_speck: NDArray[np.bool_] = members[own + 1] < SPECK_SAMPLES
    return is_speck


def _restore_slope(fields: Fields) -> Fields:
    """Divide each field by its own slope near its edges, where that is below 1.

    The slope of a sample is taken from the steeper of the two steps along each axis: the middle of a thin line has
    no central difference, yet its flanks are as steep as they should be. Smoothing the slope over its neighbours
    keeps the edge between two samples where it was.
    """
    wide = np.concatenate([fields[..., -1:], fields, fields[..., :1]], axis=-1)
    tall = np.concatenate([fields[..., -1:, :], fields, fields[..., :1, :]], axis=-2)
    across, down = np.abs(np.diff(wide, axis=-1)), np.abs(np.diff(tall, axis=-2))
    steepest_x = np.maximum(across[..., 1:], across[..., :-1])
    steepest_y = np.maximum(down[..., 1:, :], down[..., :-1, :])
    slope = np.float32(band_samples(fields)) * np.sqrt(steepest_x * steepest_x + steepest_y * steepest_y)
    nearness = np.clip(np.float32(1.5) - np.float32(2) * np.abs(fields), 0, 1)
    divisor = 1 + nearness * (np.clip(slope, SOFTEST_SLOPE, 1) - 1)
    restored: Fields = np.clip(fields * np.float32(9) / _sum_around(divisor), -1, 1)
    return restored


def _sum_around(values: NDArray[Number]) -> NDArray[Number]:
    """Return the sum over 3 × 3 samples on the torus; [..., height, width], in the type of the values."""
    wide = np.concatenate([values[..., -1:], values, values[..., :1]], axis=-1)
    rows = wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]
    tall = np.concatenate([rows[..., -1:, :], rows, rows[..., :1, :]], axis=-2)
    total: NDArray[Number] = tall[..., :-2, :] + tall[..., 1:-1, :] + tall[..., 2:, :]
    return total
