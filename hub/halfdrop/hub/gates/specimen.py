"""What the gates look at: a tile, what it was composed of where that is known, and how it is meant to be printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.tiles import lay_tile, reduce_unit
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_layers, compose_tile

Bytes = NDArray[np.uint8]

LOOK_PX = 1024
"""Side of the tile that most gates look at: a unit of eight across still has 128 px."""


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One pattern. `fields` and `palette` are None and empty for what is known by its pixels alone."""

    tile: Bytes
    """[size, size, 3] sRGB: a tile that wraps plainly, of about LOOK_PX; its units are whole pixels."""

    repeat: Repeat
    size_px: int
    """Side of the files that are made of it."""

    dpi: float
    fields: Fields | None = None
    palette: tuple[str, ...] = ()

    @property
    def closed(self) -> int:
        """Units of the smallest square that wraps plainly."""
        return period_of(self.repeat)

    @cached_property
    def cell(self) -> Bytes:
        """The smallest square of whole units that wraps plainly, [side, side, 3]."""
        side = len(self.tile) * self.closed // self.repeat.units
        return self.tile[:side, :side]

    def compose_plates(self) -> Bytes:
        """Return the coverage of each layer that has ink, [layers, side, side]: the cell, as fine as the files are."""
        assert self.fields is not None
        cell = lattice_of(self.repeat, self.closed)
        return compose_layers(self.fields, cell, max(1, round(self.size_px * self.closed / self.repeat.units)))


def take_specimen(fields: Fields, palette: Sequence[str], repeat: Repeat, *, size_px: int, dpi: float) -> Specimen:
    """Return what the gates look at of fields, as `renderer.compose_tile` takes them."""
    lattice = repeat.normalise()
    look_px = max(1, round(min(size_px, LOOK_PX) / lattice.units)) * lattice.units
    tile = compose_tile(fields, palette, lattice, look_px)
    return Specimen(tile=tile, repeat=lattice, size_px=size_px, dpi=dpi, fields=fields, palette=tuple(palette))


def take_painting(tile: Bytes, repeat: Repeat, *, dpi: float) -> Specimen:
    """Return what the gates look at of a painted tile, [size, size, 3]: its pixels, reduced by whole numbers."""
    lattice = repeat.normalise()
    unit_px = len(tile) // lattice.units
    unit = reduce_unit(tile[:unit_px, :unit_px], -(-LOOK_PX // lattice.units))
    return Specimen(tile=lay_tile(unit, lattice), repeat=lattice, size_px=len(tile), dpi=dpi)


def period_of(repeat: Repeat) -> int:
    """Return after how many units a lattice closes in both directions."""
    return 2 if repeat.layout == "mirror" else repeat.shift.denominator


def lattice_of(repeat: Repeat, units: int) -> Repeat:
    """Return the lattice with another number of units in its tile."""
    return Repeat(layout=repeat.layout, drop=repeat.drop, axis=repeat.axis, units=units).normalise()
