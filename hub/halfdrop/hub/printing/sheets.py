"""Proofs that a designer signs and a mill pins up: three by three tiles, the separations sheet, the repeat's drawing.

Each is a page; as PNG and, together, as PDF. A4, but for the tiles, which are square.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from halfdrop.hub.files import encode_picture
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.canvas import (
    HAIR,
    INK,
    QUIET,
    Box,
    Line,
    Page,
    Picture,
    Text,
    paint_page,
    shorten,
    write_pages,
)
from halfdrop.hub.printing.separations import InkData, describe_inks
from halfdrop.models.renderer import PROOF_TILE_MAX_PX, compose_layers
from halfdrop.models.vector import describe_lattice

Bytes = NDArray[np.uint8]

SHEET_DPI = 150.0
SHORT_MM, LONG_MM, RIM_MM = 210.0, 297.0, 15.0
PROOF_PX, PLATE_PX, TILE_PX = 512, 480, 1024
"""Pixels of one of the nine tiles, of an ink's plate, of the drawing's tile."""

PALE, PALE_PAPER = 88.0, 205
"""An ink lighter than this is shown on grey: white on white is nothing."""

FEW_INKS = 4
"""So many stand two in a row, more stand three."""

PLATE_GAP_MM, PLATE_TEXT_MM = 9.0, 26.0
DRAWN_MM = 140.0
ARROW_MM = 1.8


def encode_sheet(artwork: Artwork) -> bytes:
    """Return the separations sheet as PNG."""
    return _encode(draw_sheet(artwork), artwork)


def encode_drawing(artwork: Artwork) -> bytes:
    """Return the repeat's drawing as PNG."""
    return _encode(draw_repeat(artwork), artwork)


def encode_proof_pdf(artwork: Artwork) -> bytes:
    """Return all three as pages of a PDF."""
    return write_pages([draw_proof(artwork), draw_sheet(artwork), draw_repeat(artwork)], xmp=artwork.xmp)


def draw_proof(artwork: Artwork) -> Page:
    """Return three by three tiles, with the bounds of the tile in the margin."""
    page = Page(SHORT_MM + 2 * RIM_MM, SHORT_MM + 2 * RIM_MM + 18)
    _head(page, artwork, "Proof, 3 x 3 tiles")
    pixels = np.tile(artwork.shown(min(PROOF_PX, PROOF_TILE_MAX_PX, artwork.size_px)), (3, 3, 1))
    top = RIM_MM + 22
    side = page.height - top - RIM_MM
    left = (page.width - side) / 2
    page.add(Picture(left, top, side, side, pixels))
    for place in range(4):  # crop marks where tiles meet, outside of the picture
        at = place * side / 3
        page.add(Line(left - 5, top + at, left - 2, top + at), Line(left + at, top - 5, left + at, top - 2))
        page.add(Line(left + side + 2, top + at, left + side + 5, top + at))
        page.add(Line(left + at, top + side + 2, left + at, top + side + 5))
    return page


def draw_sheet(artwork: Artwork) -> Page:
    """Return the separations: each ink's plate in its own colour, its swatch, name, Lab value and coverage, in the
    order of printing."""
    told = describe_inks(artwork)
    columns = 2 if len(told.inks) <= FEW_INKS else 3
    rows = -(-len(told.inks) // columns)
    plate_mm = (SHORT_MM - 2 * RIM_MM - (columns - 1) * PLATE_GAP_MM) / columns
    row_mm = plate_mm + PLATE_TEXT_MM
    page = Page(SHORT_MM, max(LONG_MM, RIM_MM + 22 + rows * row_mm + 16 + RIM_MM))
    _head(page, artwork, "Separations")
    plates = _ink_plates(artwork)
    for position, place in enumerate(sorted(range(len(told.inks)), key=lambda at: told.inks[at].print_order)):
        across, down = position % columns, position // columns
        x = RIM_MM + across * (plate_mm + PLATE_GAP_MM)
        _draw_ink(page, x, RIM_MM + 20 + down * row_mm, plate_mm, ink=told.inks[place], plate=plates[place])
    y = page.height - RIM_MM - 4 * len(told.warnings) - 5
    press = f"Trap {told.trap_mm:g} mm, lighter under darker. Thinnest line printed {told.min_feature_mm:g} mm."
    facts = f"{press} Lab: CIE, D50. dE2000: against the colour that was ordered."
    page.add(Line(RIM_MM, y - 5, page.width - RIM_MM, y - 5, HAIR), Text(RIM_MM, y, facts, 2.7, QUIET))
    for number, warning in enumerate(told.warnings, start=1):
        page.add(Text(RIM_MM, y + 4 * number, shorten(warning, 2.7, page.width - 2 * RIM_MM), 2.7, "#b3261e"))
    return page


def draw_repeat(artwork: Artwork) -> Page:
    """Return one tile with its dimensions, the units outlined on their lattice."""
    lattice = artwork.spec.repeat.normalise()
    page = Page(SHORT_MM, LONG_MM)
    _head(page, artwork, "Repeat")
    side, left, top = DRAWN_MM, (SHORT_MM - DRAWN_MM) / 2, 62.0
    size_px = min(TILE_PX, artwork.size_px)
    page.add(Picture(left, top, side, side, artwork.shown(size_px)))
    page.add(Box(left, top, side, side, outline=INK))
    unit, unit_mm = side / lattice.units, artwork.side_mm / lattice.units
    _measure_across(page, left, left + side, top - 14, top, text=f"{artwork.side_mm:.1f} mm ({artwork.size_px} px)")
    _measure_across(page, left, left + unit, top - 5, top, text=f"{unit_mm:.1f} mm")
    _measure_down(page, top, top + side, left - 14, left, text=f"{artwork.side_mm:.1f} mm")
    shift = float(lattice.shift)
    if shift:
        # the second column (or row) begins lower by the shift: say by how much
        length = f"{shift * unit_mm:.1f} mm"
        if lattice.shifted_axis == "columns":
            _measure_down(page, top, top + shift * unit, left + side + 8, left + side, text=length, is_right=True)
        else:
            _measure_across(page, left, left + shift * unit, top + side + 8, top + side, text=length, is_below=True)
    page.add(*_unit_outlines(left, top, side, lattice.units, shift, is_columns=lattice.shifted_axis == "columns"))
    y = top + side + 24
    facts = (
        describe_lattice(lattice),
        f"Tile {artwork.side_mm:.2f} x {artwork.side_mm:.2f} mm, {artwork.size_px} x {artwork.size_px} px, "
        f"{artwork.dpi:.1f} px to the inch",
        f"Unit {unit_mm:.2f} x {unit_mm:.2f} mm, {lattice.units} x {lattice.units} in a tile",
        *_say_mill(artwork),
    )
    for number, line in enumerate(facts):
        page.add(Text(RIM_MM, y + 5.5 * number, line, 3.2, QUIET if number else INK))
    return page


def _head(page: Page, artwork: Artwork, title: str) -> None:
    width = page.width - 2 * RIM_MM
    page.add(
        Text(RIM_MM, RIM_MM + 4, title, 6.5),
        Text(page.width - RIM_MM, RIM_MM + 4, "halfdrop", 4.2, QUIET, "right"),
        Text(RIM_MM, RIM_MM + 10.5, shorten(artwork.spec.prompt, 3.2, width), 3.2, QUIET),
        Line(RIM_MM, RIM_MM + 13.5, page.width - RIM_MM, RIM_MM + 13.5, HAIR),
    )


def _draw_ink(page: Page, x: float, y: float, side: float, *, ink: InkData, plate: Bytes) -> None:
    page.add(Picture(x, y, side, side, plate), Box(x, y, side, side, outline=HAIR))
    below = y + side
    page.add(Box(x, below + 2.5, 10, 14, ink.colour, HAIR))
    lightness, green_red, blue_yellow = ink.lab
    lines = (
        (f"{ink.print_order}  {ink.name}", 3.1, INK),
        (f"Lab {lightness:.1f}  {green_red:.1f}  {blue_yellow:.1f}", 2.7, QUIET),
        (f"{ink.coverage_percent:.1f} % seen, {ink.plate_percent:.1f} % on the plate", 2.5, QUIET),
        (_say_details(ink), 2.5, QUIET),
    )
    for number, (text, size, colour) in enumerate(lines):
        page.add(Text(x + 12.5, below + 5.2 + 4 * number, text, size, colour))


def _say_details(ink: InkData) -> str:
    parts = []
    if ink.thinnest_mm is not None:
        parts.append(f"line {ink.thinnest_mm:.2f} mm")
    if ink.asked:
        parts.append(f"dE2000 {ink.delta_e:.2f}")
    return ", ".join(parts)


def _ink_plates(artwork: Artwork) -> list[Bytes]:
    """Return what is seen of each ink, in its colour on white or grey, [PLATE_PX, PLATE_PX, 3] each."""
    planes = compose_layers(artwork.fields, artwork.spec.repeat, PLATE_PX).astype(np.float32) / 255
    bare = np.ones((PLATE_PX, PLATE_PX), np.float32)
    seen = []
    for plane in planes[::-1]:
        seen.append(plane * bare)
        bare *= 1 - plane
    plates = []
    for ink, share in zip(artwork.printed, [bare, *seen[::-1]], strict=True):
        colour = np.frombuffer(bytes.fromhex(ink.colour.removeprefix("#")), np.uint8).astype(np.float32)
        paper = PALE_PAPER if ink.lab[0] > PALE else 255
        plates.append(np.rint(paper + (colour - paper) * share[..., None]).astype(np.uint8))
    return plates


def _unit_outlines(x: float, y: float, side: float, units: int, shift: float, *, is_columns: bool) -> list[Line]:
    """Return the borders between units, shifted as they lie, in white with a dark core: seen on any colour."""
    unit = side / units
    ends: list[tuple[float, float, float, float]] = []
    for line in range(units):
        if line:
            at = line * unit
            ends.append((at, 0, at, side) if is_columns else (0, at, side, at))
        for place in range(units + 1):
            across = (place + shift * line % 1) * unit
            if 0 < across < side:
                ends.append((line * unit, across, (line + 1) * unit, across) if is_columns else
                            (across, line * unit, across, (line + 1) * unit))  # fmt: skip
    return [
        Line(x + x1, y + y1, x + x2, y + y2, colour, width)
        for colour, width in (("#ffffff", 0.5), (INK, 0.15))
        for x1, y1, x2, y2 in ends
    ]


def _measure_across(
    page: Page, x1: float, x2: float, y: float, from_y: float, *, text: str, is_below: bool = False
) -> None:
    """Draw a dimension from x1 to x2 at the height y, for what begins at from_y."""
    beyond = 1.5 if is_below else -1.5
    page.add(Line(x1, from_y, x1, y + beyond, QUIET, 0.12), Line(x2, from_y, x2, y + beyond, QUIET, 0.12))
    page.add(Line(x1, y, x2, y, INK, 0.18), *_arrow(x1, y, 1, 0), *_arrow(x2, y, -1, 0))
    inside = x2 - x1 > 24
    page.add(Text((x1 + x2) / 2 if inside else x2 + 2.5, y + (4 if is_below else -1.2), text, 3, INK,
                  "middle" if inside else "left"))  # fmt: skip


def _measure_down(
    page: Page, y1: float, y2: float, x: float, from_x: float, *, text: str, is_right: bool = False
) -> None:
    """Draw a dimension from y1 to y2 at x, for what begins at from_x."""
    beyond = 1.5 if is_right else -1.5
    page.add(Line(from_x, y1, x + beyond, y1, QUIET, 0.12), Line(from_x, y2, x + beyond, y2, QUIET, 0.12))
    page.add(Line(x, y1, x, y2, INK, 0.18), *_arrow(x, y1, 0, 1), *_arrow(x, y2, 0, -1))
    page.add(Text(x + 2 if is_right else x - 1.5, (y1 + y2) / 2 + 1, text, 3, INK, "left" if is_right else "right"))


def _arrow(x: float, y: float, along_x: int, along_y: int) -> list[Line]:
    """Return the head of an arrow at a place, pointing away from where the line goes on."""
    back_x, back_y = x + ARROW_MM * along_x, y + ARROW_MM * along_y
    aside_x, aside_y = ARROW_MM / 3 * along_y, ARROW_MM / 3 * along_x
    return [Line(x, y, back_x + sign * aside_x, back_y + sign * aside_y, INK, 0.18) for sign in (1, -1)]


def _say_mill(artwork: Artwork) -> Sequence[str]:
    lengths = artwork.options.mill_repeats_mm
    if not lengths:
        return ()
    fitting = [
        f"{length:g} mm takes {length / artwork.side_mm:.0f}"
        for length in sorted(lengths)
        if abs(length / round(length / artwork.side_mm or 1) - artwork.side_mm) < 1
        and round(length / artwork.side_mm) >= 1
    ]
    return (f"Screens: {'; '.join(fitting)}",)


def _encode(page: Page, artwork: Artwork) -> bytes:
    return encode_picture(paint_page(page, dpi=SHEET_DPI), artwork.xmp, dpi=SHEET_DPI)
