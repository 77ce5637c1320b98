"""What each ink is, what it covers, and how inks meet: knocked out, trapped, freed of what is too small to print.

Layers are painted over each other, lower ones whole. On a press every ink has its own place: what of a layer is not
under another (*visible*). Where two inks meet, the lighter one runs on under the darker by the trap, so that a press
that is a hair off shows no cloth between them; the darker one's edge is what is seen. Fields are distances, so both are
arithmetic: a place is visible as deep as its own edge and the edges of all layers above it are away, and a spread is a
number added. Edges stay where they were to the bit of the coverage; corners of a spread are mitred, not rounded.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.features import Floats, drop_specks, thinnest_lines, visible_depths
from halfdrop.hub.printing.spot_inks import Ink, delta_e_2000, lab_of
from halfdrop.hub.printing.tiff_files import encode_inks
from halfdrop.models.cells import plan_cell
from halfdrop.models.renderer import Bytes, lay_cells, measure_depths, strip_rows

DELTA_E_MAX = 1.5
"""CIEDE2000 that a brand forgives at most; above it the sheet warns."""


class InkData(msgspec.Struct, frozen=True, kw_only=True):
    """One ink of a print."""

    name: str
    colour: str
    """"#rrggbb"."""

    lab: tuple[float, float, float]
    """CIE Lab, D50."""

    asked: str = ""
    """The colour that was ordered for this role; empty where the model chose."""

    delta_e: float = 0.0
    """CIEDE2000 between the two."""

    print_order: int = 1
    """1 is printed first: light before dark."""

    coverage_percent: float = 0.0
    """Share of the cloth on which this ink is seen."""

    plate_percent: float = 0.0
    """Share that its trapped plate prints: what is seen, and what runs on under darker inks."""

    thinnest_mm: float | None = None
    """Width of the thinnest line of it; None where there is no line within what fields can tell."""

    specks: int = 0
    """Spots of a unit smaller than the press prints, left out of the trapped plates."""


class InkSheet(msgspec.Struct, frozen=True, kw_only=True):
    """All inks of a print, in the order of their layers, the ground first."""

    inks: tuple[InkData, ...]
    tile_mm: float
    unit_mm: float
    dpi: float
    trap_mm: float
    min_feature_mm: float
    warnings: tuple[str, ...] = ()


def check_press(artwork: Artwork) -> None:
    """Raise PermanentError(too-many-inks) if the press does not take the pattern's inks."""
    got, allowed = len(artwork.printed), artwork.options.inks_max
    if got > allowed:
        detail = f"inks: got {got}, the ground included; allowed: {allowed} (printing.inks_max). Order fewer colours"
        raise PermanentError(detail, code="too-many-inks")


def describe_inks(artwork: Artwork) -> InkSheet:
    """Return what each ink is and covers."""
    options, inks = artwork.options, artwork.printed
    order = print_order(inks)
    thinnest = thinnest_lines(artwork.fields[list(artwork.layers)], artwork.spec.repeat, unit_mm(artwork))
    _, specks = _without_specks(artwork)
    sums = np.zeros((2, len(inks)))
    for visible, trapped in _strips(artwork):
        sums += [[float(_cover(depths).sum(dtype=np.int64)) for depths in plates] for plates in (visible, trapped)]
    seen, printed = 100 * sums / (255 * _samples(artwork))
    data = []
    for place, (ink, role) in enumerate(zip(inks, (0, *(layer + 1 for layer in artwork.layers)), strict=True)):
        asked = artwork.asked[role] if role < len(artwork.asked) else ""
        data.append(
            InkData(
                name=ink.name,
                colour=ink.colour,
                lab=ink.lab,
                asked=asked,
                delta_e=round(delta_e_2000(ink.lab, lab_of(asked)), 3) if asked else 0.0,
                print_order=order.index(place) + 1,
                coverage_percent=round(float(seen[place]), 3),
                plate_percent=round(float(printed[place]), 3),
                thinnest_mm=thinnest[place],
                specks=specks[place],
            )
        )
    return InkSheet(
        inks=tuple(data),
        tile_mm=round(artwork.side_mm, 3),
        unit_mm=round(unit_mm(artwork), 3),
        dpi=round(artwork.dpi, 3),
        trap_mm=options.trap_mm,
        min_feature_mm=options.min_feature_mm,
        warnings=tuple(_warn(data, options.min_feature_mm)),
    )


def encode_ink_data(artwork: Artwork) -> bytes:
    """Return what each ink is and covers, as JSON."""
    return msgspec.json.format(msgspec.json.encode(describe_inks(artwork)), indent=2) + b"\n"


def encode_trapped_tiff(artwork: Artwork) -> bytes:
    """Return the TIFF of a channel for each ink, the ground included, in the order of printing: knocked out, trapped,
    without specks."""
    inks = artwork.printed
    order = print_order(inks)
    planes = trap_plates(artwork)
    names = [inks[place].name for place in order]
    return encode_inks([planes[place] for place in order], names, dpi=artwork.dpi, xmp=artwork.xmp)


def trap_plates(artwork: Artwork) -> list[Bytes]:
    """Return what each ink prints, [size, size] each, the ground first: knocked out, trapped, without specks."""
    cell = artwork.coverage.get().cell
    over, top = cell.oversampling, 0
    planes = [np.empty((artwork.size_px, artwork.size_px), np.uint8) for _ in artwork.printed]
    for _, trapped in _strips(artwork):
        rows = trapped.shape[1] // over
        for plane, depths in zip(planes, trapped, strict=True):
            strip = _cover(depths)
            if over > 1:
                strip = np.rint(strip.reshape(rows, over, cell.width_px, over).mean(axis=(1, 3))).astype(np.uint8)
            plane[top : top + rows, : cell.width_px] = strip
        top += rows
    for plane in planes:
        lay_cells(plane, cell)
    return planes


def print_order(inks: Sequence[Ink]) -> list[int]:
    """Return the inks' places in the order of printing: light before dark, and of two alike the lower layer."""
    return sorted(range(len(inks)), key=lambda place: (-inks[place].lab[0], place))


def unit_mm(artwork: Artwork) -> float:
    """Return the side of one unit on the cloth."""
    return artwork.side_mm / artwork.spec.repeat.normalise().units


def spread_depths(visible: Floats, inks: Sequence[Ink], trap: float) -> Floats:
    """Return [inks, ...] depths of what each ink prints: what is seen of it, and `trap` on under darker neighbours."""
    order = print_order(inks)
    spread = visible.copy()
    for rank, place in enumerate(order):
        beyond = visible[place] + np.float32(trap)
        for darker in order[rank + 1 :]:
            np.maximum(spread[place], np.minimum(beyond, visible[darker]), out=spread[place])
    return spread


def _strips(artwork: Artwork) -> Iterator[tuple[Floats, Floats]]:
    """Yield [inks, rows, width] depths in samples, a strip of the cell at a time: what is seen of each ink, and what
    its trapped plate prints."""
    fields, _ = _without_specks(artwork)
    cell = plan_cell(fields, artwork.spec.repeat, artwork.size_px)
    trap = artwork.options.trap_mm / artwork.side_mm * artwork.size_px * cell.oversampling
    inks = artwork.printed
    for rows in strip_rows(cell):
        visible = visible_depths(measure_depths(cell, rows))
        yield visible, spread_depths(visible, inks, trap) if trap else visible


def _samples(artwork: Artwork) -> int:
    cell = artwork.coverage.get().cell
    return cell.height * cell.width


def _without_specks(artwork: Artwork) -> tuple[Floats, list[int]]:
    """Return the fields of the layers with ink, without specks, and how many each ink lost; the ground loses none."""
    fields = artwork.fields[list(artwork.layers)]
    cleared, counts = drop_specks(fields, artwork.spec.repeat, unit_mm(artwork), artwork.options.min_feature_mm)
    return cleared, [0, *counts]


def _cover(depths: Floats) -> Bytes:
    """Return coverage, 255 = full, of samples so deep: as the renderer rounds it."""
    covered: Bytes = np.clip(depths * np.float32(255) + np.float32(128), 0, 255.5).astype(np.uint8)
    return covered


def _warn(inks: Sequence[InkData], min_feature_mm: float) -> Iterator[str]:
    for ink in inks:
        if ink.thinnest_mm is not None and ink.thinnest_mm < min_feature_mm:
            yield f"{ink.name}: its thinnest line is {ink.thinnest_mm:g} mm; the mill prints {min_feature_mm:g} mm"
        if ink.delta_e > DELTA_E_MAX:
            yield f"{ink.name}: {ink.delta_e:g} from the colour asked for; brands allow {DELTA_E_MAX:g}"
