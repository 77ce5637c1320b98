"""Which files an order has, and how each is made: the whole list, before any of them is.

A file is a name and a function from the artwork to bytes, so a worker can make them in any order, in any thread, after
any interruption, and `halfdrop reproduce` makes the very same ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from halfdrop.contracts.printing import PrintFormat
from halfdrop.contracts.templates import USUAL_OUTPUTS, UsualOutput
from halfdrop.hub.files import encode_coverage, encode_picture
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.formats import FORMATS
from halfdrop.hub.printing.svg_files import encode_svg
from halfdrop.models.renderer import PROOF_TILE_MAX_PX

MASTER_NAME, VECTOR_NAME, PROOF_NAME, MANIFEST_NAME = "master.png", "pattern.svg", "proof.png", "manifest.json"
COLOURWAYS_STAGE = "colourways"
PNG, SVG = "image/png", "image/svg+xml"


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """One file to be made."""

    name: str
    media_type: str
    stage: str
    """What to call the work in a job's log."""

    side_px: int | None
    artwork: Artwork
    """What it shows."""

    make: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All files of an order but the manifest, in the order in which they are listed."""

    master: PlannedFile
    separations: tuple[PlannedFile, ...]
    drawing: PlannedFile
    proof: PlannedFile
    others: tuple[PlannedFile, ...]
    """Formats and colourways."""

    usual: tuple[UsualOutput, ...]
    """Which of the files that every order without a template has are made."""

    def groups(self) -> list[Sequence[PlannedFile]]:
        """Return the usual files that are made, by the steps that they are."""
        by_output: dict[UsualOutput, Sequence[PlannedFile]] = {
            "png": [self.master],
            "plates": self.separations,
            "svg": [self.drawing],
            "proof": [self.proof],
        }
        return [files for output, files in by_output.items() if output in self.usual and files]

    def __iter__(self) -> Iterator[PlannedFile]:
        for files in self.groups():
            yield from files
        yield from self.others


def plan_files(
    artwork: Artwork,
    formats: Sequence[PrintFormat] = (),
    colourways: Sequence[Sequence[str]] = (),
    usual: tuple[UsualOutput, ...] = USUAL_OUTPUTS,
) -> Plan:
    """Return the files of an order; nothing is made yet. usual: which of master, plates, drawing and proof it has."""
    proof_px = 3 * min(artwork.size_px, PROOF_TILE_MAX_PX)
    return Plan(
        master=_plan(artwork, MASTER_NAME, PNG, "master", encode_master),
        separations=tuple(
            _plan(artwork, plate_name(artwork, place), PNG, "separations", partial(encode_plate, place=place))
            for place in range(len(artwork.layers))
        ),
        drawing=_plan(artwork, VECTOR_NAME, SVG, "drawing", encode_svg),
        proof=_plan(artwork, PROOF_NAME, PNG, "proof", encode_proof, side_px=proof_px),
        usual=usual,
        others=(*_plan_formats(artwork, formats), *_plan_colourways(artwork, formats, colourways)),
    )


def plate_name(artwork: Artwork, place: int) -> str:
    """Return what the plate of `layers[place]` is called: by its place in the palette, and its colour."""
    number = artwork.layers[place] + 1
    return f"plate-{number}-{artwork.palette[number].removeprefix('#')}.png"


def colourway_prefix(number: int) -> str:
    """Return how the files of the `number`th colourway begin; the first is 1."""
    return f"colourway-{number}-"


def encode_master(artwork: Artwork) -> bytes:
    """Return the tile as PNG."""
    return encode_picture(artwork.tile(), artwork.xmp, dpi=artwork.dpi)


def encode_plate(artwork: Artwork, place: int) -> bytes:
    """Return a greyscale PNG of what one layer covers."""
    return encode_coverage(artwork.plane(place), artwork.xmp, dpi=artwork.dpi)


def encode_proof(artwork: Artwork) -> bytes:
    """Return three by three tiles as PNG."""
    pixels = np.tile(artwork.shown(min(artwork.size_px, PROOF_TILE_MAX_PX)), (3, 3, 1))
    return encode_picture(pixels, artwork.xmp, dpi=artwork.dpi * len(pixels) / (3 * artwork.size_px))


def _plan(
    artwork: Artwork,
    name: str,
    media_type: str,
    stage: str,
    make: Callable[[Artwork], bytes],
    *,
    side_px: int | None = None,
) -> PlannedFile:
    side_px = artwork.size_px if side_px is None and not name.endswith((".json", ".pdf", ".ai")) else side_px
    make_it = partial(make, artwork)
    return PlannedFile(name=name, media_type=media_type, stage=stage, side_px=side_px, artwork=artwork, make=make_it)


def _plan_formats(artwork: Artwork, formats: Sequence[PrintFormat], prefix: str = "") -> Iterator[PlannedFile]:
    for name in formats:
        kind = FORMATS[name]
        stage = COLOURWAYS_STAGE if prefix else name
        yield _plan(artwork, prefix + kind.file_name, kind.media_type, stage, kind.encode)


def _plan_colourways(
    artwork: Artwork, formats: Sequence[PrintFormat], colourways: Sequence[Sequence[str]]
) -> Iterator[PlannedFile]:
    for number, palette in enumerate(colourways, start=1):
        recoloured, prefix = artwork.in_colours(palette), colourway_prefix(number)
        yield _plan(recoloured, prefix + MASTER_NAME, PNG, COLOURWAYS_STAGE, encode_master)
        yield _plan(recoloured, prefix + VECTOR_NAME, SVG, COLOURWAYS_STAGE, encode_svg)
        yield from _plan_formats(recoloured, formats, prefix)
