"""What an order's files are made of, wherever it comes from: plates of the house model, or a unit that was painted.

A worker and `halfdrop reproduce` make their artwork here, so that they cannot differ.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.imported import is_inked
from halfdrop.contracts.jobs import Job, colourways_of, merges_inks
from halfdrop.contracts.patterns import LoraUse, PatternSpec
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.printing import PrintOptions
from halfdrop.hub.checkpoints.tiles import lay_tile
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.painted import count_inks, ink_unit
from halfdrop.models.fields import Fields
from halfdrop.models.merged_inks import merge_inks, recolour_inks
from halfdrop.models.renderer import OnRows

Bytes = NDArray[np.uint8]
Colourways = Sequence[Sequence[str]]


class Painting(msgspec.Struct, frozen=True, kw_only=True):
    """How a unit was painted and taken apart; the manifest says it."""

    family: str
    """Of the model whose digest is in the spec: "sd" or "sdxl"."""

    unit_px: int
    unit_sha256: str
    """Of its pixels, row by row."""

    loras: tuple[LoraUse, ...] = ()
    inks: int
    """At most so many, where no palette names them."""

    is_inked: bool = False
    """The master shows the inks, not the painting."""

    device: str
    """"cpu" or "cuda"."""

    dtype: str


@dataclass(frozen=True, kw_only=True)
class Design:
    """Fields and colours, and the painting if that is what the master shows."""

    fields: Fields
    palette: tuple[str, ...]
    asked: tuple[str, ...]
    colourways: tuple[tuple[str, ...], ...]
    plates: Plates | None = None
    """What the house model drew."""

    painting: Painting | None = None
    tile: Bytes | None = None
    """The painted tile; None where the master is painted from the fields."""

    @property
    def origin(self) -> tuple[str, ...]:
        """What else than the fields decides about files; strings, for a digest."""
        return self.palette if self.painting is None else (*self.palette, self.painting.unit_sha256)

    def artwork(
        self,
        spec: PatternSpec,
        size_px: int,
        options: PrintOptions,
        *,
        refiner_digest: str = "",
        profile: bytes = b"",
        gates: str = "",
        on_rows: OnRows | None = None,
    ) -> Artwork:
        """Return what files are made from."""
        return Artwork(
            fields=self.fields,
            palette=self.palette,
            asked=self.asked,
            spec=spec,
            size_px=size_px,
            options=options,
            refiner_digest=refiner_digest,
            profile=profile,
            gates=gates,
            on_rows=on_rows,
            painted=self.tile,
            is_painting=self.painting is not None,
            shows_painting=self.tile is not None,
        )


def design_plates(plates: Plates, fields: Fields, spec: PatternSpec, *, colourways: Colourways, merges: bool) -> Design:
    """Return the design of plates. fields: those of the plates, or refined. merges: layers of one colour are one."""
    palette, asked = tuple(plates.palette), spec.palette
    if merges:
        fields, palette = merge_inks(fields, plates.palette)
        asked = palette if asked else ()
        colourways = [recolour_inks(plates.palette, palette, colours) for colours in colourways]
    return Design(
        fields=fields,
        palette=palette,
        asked=tuple(asked),
        colourways=tuple(tuple(colours) for colours in colourways),
        plates=plates,
    )


def design_painting(unit: Bytes, painting: Painting, spec: PatternSpec, *, colourways: Colourways) -> Design:
    """Return the design of a painted unit, [unit_px, unit_px, 3]."""
    asked = tuple(dict.fromkeys(spec.palette))  # a template fills roles beyond its colours with those again
    inked = ink_unit(unit, spec.repeat, inks=painting.inks, palette=asked)
    if asked:
        colourways = [recolour_inks(spec.palette, asked, colours) for colours in colourways]
    return Design(
        fields=inked.fields,
        palette=inked.palette,
        asked=asked,
        colourways=tuple(tuple(colours) for colours in colourways),
        painting=painting,
        tile=None if painting.is_inked else lay_tile(unit, spec.repeat),
    )


def design_job(job: Job, plates: Plates, fields: Fields) -> Design:
    """Return the design of a job's plates."""
    return design_plates(plates, fields, job.spec, colourways=colourways_of(job), merges=merges_inks(job))


def describe_painting(job: Job, unit: Bytes, *, family: str, device: str, dtype: str) -> Painting:
    """Return how the job's unit was painted, and how it is to be taken apart."""
    return Painting(
        family=family,
        unit_px=len(unit),
        unit_sha256=hashlib.sha256(np.ascontiguousarray(unit).tobytes()).hexdigest(),
        loras=() if job.spec.loras is msgspec.UNSET else job.spec.loras,
        inks=count_inks(job),
        is_inked=is_inked(job.finishing),
        device=device,
        dtype=dtype,
    )
