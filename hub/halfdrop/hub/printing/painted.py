"""A painted unit, as a user's checkpoint leaves it, in inks: fields and a palette, as if a model had drawn plates.

All that is made of plates can then be made of a painting: separations, traps, outlines, colourways. The unit is looked
at with its true neighbours round it, so that nothing that is found at its border differs from what is found inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from scipy import ndimage

from halfdrop.contracts.jobs import Job, printing_of
from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.tiles import with_neighbours
from halfdrop.hub.printing.quantising import drop_picture_specks, quantise, smooth_edges
from halfdrop.models.fields import Fields

Bytes = NDArray[np.uint8]

INKS = 6
"""Of a painting for which no palette is given and no press counts fewer: what screens are commonly made for."""

UNDER_PX = 2
"""How far an ink runs on under those above it, so that no ground shines through where two soft edges meet."""

SOFTENED_PX = 0.8
"""Standard deviation by which distances are smoothed: pixels have stairs, edges have none."""

SPECK_PX = 2
"""Spots smaller than this both ways are noise; the press may leave out larger ones, of which an order tells it."""


@dataclass(frozen=True, kw_only=True)
class Inked:
    """A painting in inks."""

    fields: Fields
    """[inks - 1, unit, unit]: those above the ground, on the unit's own torus."""

    palette: tuple[str, ...]
    """The ground, and one for each layer."""

    specks: int
    """Spots that were left out."""


def count_inks(job: Job) -> int:
    """Return into how many inks a job's painting is taken apart, where no palette says so."""
    counted = None if job.finishing is UNSET else job.finishing.gates.colours
    return max(1, min(INKS, printing_of(job).inks_max, INKS if counted is None else int(counted.max)))


def ink_unit(unit: Bytes, repeat: Repeat, *, inks: int, palette: Sequence[str] = ()) -> Inked:
    """Return the unit in up to `inks` colours, the commonest as the ground, or in those of `palette`, in its order.

    unit: [side, side, 3] sRGB, painted for this repeat.
    """
    side = len(unit)
    band_px = BAND_PX * side / GRID_PX
    chosen = tuple(dict.fromkeys(palette))
    found = quantise(unit, inks, palette=chosen)
    margin = min(side, int(np.ceil(band_px)) + 4)
    # Chosen from the unit alone; cleaned and measured with its neighbours round it.
    wide, specks = drop_picture_specks(with_neighbours(found.indices, repeat, margin), SPECK_PX)
    wide = smooth_edges(wide)
    fields = np.stack([_field_of(wide, ink, margin, band_px) for ink in range(1, len(found.palette))] or [
        np.full((side, side), -1, np.float32)
    ])  # fmt: skip
    return Inked(fields=fields, palette=found.palette if len(found.palette) > 1 else found.palette * 2, specks=specks)


def _field_of(wide: Bytes, ink: int, margin: int, band_px: float) -> Fields:
    """Return [side, side]: how deep each place lies inside an ink, in bands, cut at one; the ink runs on a little under
    those above it."""
    mine = wide == ink
    if mine.any():
        mine |= ndimage.binary_dilation(mine, iterations=UNDER_PX) & (wide > ink)
    inner = slice(margin, wide.shape[0] - margin)
    if not mine.any() or mine.all():
        return np.full((inner.stop - inner.start,) * 2, 1.0 if mine.any() else -1.0, np.float32)
    # Half a pixel: an edge lies between two pixels, and distances are from middle to middle.
    depth = np.where(mine, ndimage.distance_transform_edt(mine) - 0.5, 0.5 - ndimage.distance_transform_edt(~mine))
    soft = ndimage.gaussian_filter(depth.astype(np.float32), SOFTENED_PX)[inner, inner]
    field: Fields = np.clip(soft / np.float32(band_px), -1, 1)
    return np.ascontiguousarray(field)


def indices_of(fields: Fields) -> Bytes:
    """Return [side, side]: the place in the palette of what is seen at each pixel of a unit."""
    indices = np.zeros(fields.shape[1:], np.uint8)
    for layer, field in enumerate(fields, start=1):
        indices[field > 0] = layer
    return indices
