"""The layers' outlines as SVG files of an order: stacked, or knocked out; each is seen to tile before it is let out."""

from msgspec.structs import replace

from halfdrop.hub.checkpoints.tiles import lay_tile
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.image_tracing import trace_picture
from halfdrop.hub.printing.painted import indices_of
from halfdrop.hub.printing.vector_check import CHECKED_PX, check_tiling
from halfdrop.models.renderer import compose_tile
from halfdrop.models.vector import trace_svg


def encode_svg(artwork: Artwork) -> bytes:
    """Return the layers stacked whole, which leaves no hairlines. Raises PermanentError(vector-seams)."""
    return _trace(artwork) if artwork.is_painting else _encode(artwork, is_knocked_out=False)


def encode_knockout_svg(artwork: Artwork) -> bytes:
    """Return each ink, the ground too, as what is seen of it: for cutters, and programs that print overlaps twice.

    Where such shapes meet, a screen shows a hairline; a press does, too, unless a mill adds its trap.
    """
    return _encode(artwork, is_knocked_out=True)


def _encode(artwork: Artwork, *, is_knocked_out: bool) -> bytes:
    """Return the SVG; in millimetres where the order says how long the repeat is."""
    fields, palette, repeat = artwork.fields, artwork.palette, artwork.spec.repeat
    drawing = trace_svg(
        fields,
        palette,
        repeat,
        artwork.size_px,
        title=artwork.spec.prompt,
        metadata=artwork.svg_metadata,
        side_mm=None if artwork.options.repeat_mm is None else artwork.side_mm,
        is_knocked_out=is_knocked_out,
    ).encode()
    return check_tiling(drawing, compose_tile(fields, palette, repeat, CHECKED_PX))


def _trace(artwork: Artwork) -> bytes:
    """Return the outlines of a painting's inks, traced from their pixels: its fields have a pixel's stairs."""
    repeat, unit = artwork.spec.repeat.normalise(), indices_of(artwork.fields)
    closed = 2 if repeat.layout == "mirror" else repeat.shift.denominator
    cell = lay_tile(unit, replace(repeat, units=closed))
    drawing = trace_picture(
        cell,
        artwork.palette,
        title=artwork.spec.prompt,
        metadata=artwork.svg_metadata,
        copies=repeat.units // closed,
        side=str(artwork.size_px) if artwork.options.repeat_mm is None else f"{artwork.side_mm:.4f}mm",
    ).encode()
    return check_tiling(drawing, compose_tile(artwork.fields, artwork.palette, repeat, CHECKED_PX))
