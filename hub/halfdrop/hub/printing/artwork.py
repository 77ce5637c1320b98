"""What a pattern's files are made from: fields, colours, size, what the mill asks; and what each layer covers, once.

Covering is the rendering: everything else is colour and encoding. All files of a job, and those of its colourways,
share one.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from PIL import Image

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import MM_PER_INCH, PrintOptions, dpi_of
from halfdrop.hub.printing.spot_inks import Ink, name_inks
from halfdrop.models.fields import Fields
from halfdrop.models.provenance import describe_in_svg, describe_provenance
from halfdrop.models.renderer import (
    Bytes,
    Covered,
    OnRows,
    compose_tile,
    cover_tile,
    layer_of,
    paint_tile,
    used_layers,
)

NO_WISHES = PrintOptions()
"""Of an order that says nothing of a mill."""


class Coverage:
    """What each layer covers of the tile, made when it is first needed, by whichever thread is first."""

    def __init__(self, fields: Fields, spec: PatternSpec, size_px: int, on_rows: OnRows | None) -> None:
        self._fields, self._spec, self._size_px, self._on_rows = fields, spec, size_px, on_rows
        self._lock = threading.Lock()
        self._made: Covered | None = None

    def get(self) -> Covered:
        """Return it. Raises whatever `on_rows` raises to stop the work."""
        with self._lock:
            if self._made is None:
                self._made = cover_tile(self._fields, self._spec.repeat, self._size_px, on_rows=self._on_rows)
            return self._made


@dataclass(frozen=True, kw_only=True)
class Artwork:
    """One pattern in one set of colours at one size. Safe to use from many threads."""

    fields: Fields
    """[layers, grid, grid] on the unit's own torus; as `renderer.compose_tile` takes them."""

    palette: Sequence[str]
    """"#rrggbb": the ground and then one for each layer."""

    asked: Sequence[str] = ()
    """What the palette should have been, in the same order; fewer, where the model had the choice."""

    spec: PatternSpec
    size_px: int
    options: PrintOptions = NO_WISHES
    refiner_digest: str = ""
    gates: str = ""
    """The report of the gates, JSON."""

    profile: bytes = b""
    """The ICC profile that the options name."""

    on_rows: OnRows | None = None
    """Told of each strip of rows; may raise to stop the work."""

    painted: Bytes | None = None
    """The tile, if somebody has painted it already."""

    is_painting: bool = False
    """The fields are inks that a painting was taken apart into: outlines are traced from their pixels."""

    shows_painting: bool = False
    """`painted` is the painting itself, in more colours than the inks."""

    coverage: Coverage = field(init=False, compare=False)
    notes: dict[str, object] = field(init=False, compare=False, default_factory=dict)
    """What several files ask for and one of them has found out, such as what each ink covers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "coverage", Coverage(self.fields, self.spec, self.size_px, self.on_rows))

    def in_colours(self, palette: Sequence[str]) -> Self:
        """Return the same in other colours, of which the last ones stay if fewer are given; nothing is rendered."""
        colours = (*palette, *self.palette[len(palette) :])
        recoloured = replace(self, palette=colours, asked=tuple(palette), painted=None, shows_painting=False)
        object.__setattr__(recoloured, "coverage", self.coverage)
        return recoloured

    def with_gates(self, gates: str, *, painted: Bytes | None = None) -> Self:
        """Return the same with the gates' report, for files to carry, and with the tile that they were shown."""
        reported = replace(self, gates=gates, painted=painted)
        object.__setattr__(reported, "coverage", self.coverage)
        return reported

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Layers that have ink, from the bottom up."""
        return used_layers(self.fields)

    @property
    def inks(self) -> list[Ink]:
        """The ink of the ground and of each layer, used or not."""
        return name_inks(list(self.palette))

    @property
    def printed(self) -> list[Ink]:
        """The inks that print something, the ground first."""
        inks = self.inks
        return [inks[0], *(inks[layer + 1] for layer in self.layers)]

    @property
    def dpi(self) -> float:
        return dpi_of(self.options, self.size_px)

    @property
    def side_mm(self) -> float:
        """Length of the tile on the cloth."""
        return self.size_px * MM_PER_INCH / self.dpi

    def tile(self) -> Bytes:
        """Return the tile, [size, size, 3] sRGB."""
        if self.painted is not None:
            return self.painted
        return paint_tile(self.coverage.get(), self.palette, on_rows=self.on_rows)

    def shown(self, size_px: int) -> Bytes:
        """Return the tile in another size: a painting is reduced, what is made of fields is composed."""
        if not self.shows_painting:
            return compose_tile(self.fields, self.palette, self.spec.repeat, size_px)
        image = Image.fromarray(self.tile())
        # Means of what each pixel covers: nothing reaches over the tile's edge, so it still wraps.
        return np.array(image.resize((size_px, size_px), Image.Resampling.BOX))

    def plane(self, place: int) -> Bytes:
        """Return what the layer `layers[place]` covers, [size, size], whatever lies above it."""
        return layer_of(self.coverage.get(), place)

    def planes(self) -> list[Bytes]:
        """Return what each layer with ink covers, from the bottom up."""
        return [self.plane(place) for place in range(len(self.layers))]

    @property
    def xmp(self) -> bytes:
        """Where the file comes from, as an XMP packet."""
        return describe_provenance(self.spec, refiner_digest=self.refiner_digest, gates=self.gates)

    @property
    def svg_metadata(self) -> str:
        """The same for SVG."""
        return describe_in_svg(self.spec, refiner_digest=self.refiner_digest, gates=self.gates)
