"""Contours to a PDF that a mill's own programs open: each ink a Separation colour, each layer one that can be hidden.

The same stack as the SVG: a unit is drawn once as a form, laid into a line, and the lines side by side. Nothing is
flattened and nothing knocked out, so there are no hairlines, and a separation is read straight from the file. The page
is the tile at its physical size. Illustrator opens it as it is; with the ending .ai it is what Illustrator saves with
"create PDF compatible file".
"""

from io import BytesIO

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Pdf, Stream, String

from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.spot_inks import WHITE_D50, Ink
from halfdrop.models.contours import BLEED_GRID_PX, Contours, Outline, Points, trace_outline
from halfdrop.models.vector import format_px

POINTS_PER_INCH = 72
BLEED_PX_MAX = 64.0
"""How far a unit's form may reach beyond its border: more than BLEED_GRID_PX at the largest master."""

assert BLEED_GRID_PX * 8192 / 64 <= BLEED_PX_MAX


def trace_pdf(artwork: Artwork) -> bytes:
    """Return a PDF of one page: one tile at its physical size. The same input gives the same bytes."""
    size_px, dpi, inks = artwork.size_px, artwork.dpi, artwork.inks
    outline = trace_outline(artwork.fields, artwork.spec.repeat, size_px)
    with Pdf.new() as pdf:
        layers = [(inks[0], None), *((inks[contours.layer + 1], contours) for contours in outline.layers)]
        groups = [pdf.make_indirect(_layer_group(ink)) for ink, _ in layers]
        colours = {f"/C{n}": _separation(pdf, ink) for n, (ink, _) in enumerate(layers)}
        forms = {
            f"/L{n}": _line_form(pdf, contours, outline, size_px)
            for n, (_, contours) in enumerate(layers)
            if contours is not None
        }
        side_pt = size_px * POINTS_PER_INCH / dpi
        page = pdf.add_blank_page(page_size=(side_pt, side_pt))
        page.obj.Resources = Dictionary(
            ColorSpace=Dictionary(colours),
            XObject=Dictionary(forms),
            Properties=Dictionary({f"/G{n}": group for n, group in enumerate(groups)}),
        )
        page.obj.Contents = pdf.make_stream(_page_content(len(layers), outline, size_px, dpi))
        order = Array(reversed(groups))  # a list of layers begins with the uppermost
        pdf.Root.OCProperties = Dictionary(
            OCGs=Array(groups), D=Dictionary(Name=String("Inks"), Order=order, ON=Array(groups))
        )
        metadata = pdf.make_stream(artwork.xmp)
        metadata.Type, metadata.Subtype = Name.Metadata, Name.XML
        pdf.Root.Metadata = metadata
        buffer = BytesIO()
        pdf.save(
            buffer,
            deterministic_id=True,
            fix_metadata_version=False,
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
        )
    return buffer.getvalue()


def _layer_group(ink: Ink) -> Dictionary:
    return Dictionary(Type=Name.OCG, Name=String(ink.name))


def _separation(pdf: Pdf, ink: Ink) -> Object:
    """Return the colour space of one ink: no ink is paper, all of it is its Lab value."""
    lab = Array([Name.Lab, Dictionary(WhitePoint=Array(WHITE_D50), Range=Array([-128, 127, -128, 127]))])
    tint = Dictionary(FunctionType=2, Domain=Array([0, 1]), C0=Array([100, 0, 0]), C1=Array(ink.lab), N=1)
    name = Name("/" + ink.name.replace("#", "").replace(" ", "-"))
    return pdf.make_indirect(Array([Name.Separation, name, lab, tint]))


def _line_form(pdf: Pdf, contours: Contours, outline: Outline, size_px: int) -> Stream:
    """Return a line of units as a form that paints in whatever colour is set."""
    unit = "".join(map(_format, contours.rings)) + "f*\n"
    near, far = -BLEED_PX_MAX, outline.pitch_px + BLEED_PX_MAX
    if outline.lattice.layout == "mirror":
        quarter = _form(pdf, unit, Array([near, near, outline.unit_px + BLEED_PX_MAX, outline.unit_px + BLEED_PX_MAX]))
        across = format_px(outline.pitch_px)
        flips = ("1 0 0 1 0 0", f"-1 0 0 1 {across} 0", f"1 0 0 -1 0 {across}", f"-1 0 0 -1 {across} {across}")
        square = "".join(f"q {flip} cm /U Do Q\n" for flip in flips)
        laid = _form(pdf, square, Array([near, near, far, far]), U=quarter)
    else:
        laid = _form(pdf, unit, Array([near, near, far, far]))
    content = "".join(_do("/U", place) for place in outline.line_places())
    reach = size_px + outline.pitch_px + BLEED_PX_MAX
    return _form(pdf, content, Array([-reach, -reach, reach, reach]), U=laid)


def _form(pdf: Pdf, content: str, box: Array, **forms: Stream) -> Stream:
    stream = pdf.make_stream(content.encode())
    stream.Type, stream.Subtype, stream.BBox = Name.XObject, Name.Form, box
    stream.Resources = Dictionary(XObject=Dictionary({f"/{name}": form for name, form in forms.items()}))
    return stream


def _page_content(layers: int, outline: Outline, size_px: int, dpi: float) -> bytes:
    """Return the page: y runs down from the upper edge as in the picture, a unit of length is a pixel."""
    scale, side_pt = POINTS_PER_INCH / dpi, size_px * POINTS_PER_INCH / dpi
    parts = [f"{scale:.9g} 0 0 {-scale:.9g} 0 {side_pt:.9g} cm\n"]
    for number in range(layers):
        body = f"0 0 {size_px} {size_px} re f\n"
        if number:
            body = "".join(_do(f"/L{number}", place) for place in outline.lines())
        parts.append(f"/OC /G{number} BDC\n/C{number} cs 1 scn\n{body}EMC\n")
    return "".join(parts).encode()


def _do(form: str, place: tuple[float, float]) -> str:
    x, y = place
    return f"q 1 0 0 1 {x:.9g} {y:.9g} cm {form} Do Q\n"


def _format(ring: Points) -> str:
    """Return one closed subpath."""
    (x, y), *others = ring[:-1].tolist()
    lines = "".join(f"{format_px(x)} {format_px(y)} l\n" for x, y in others)
    return f"{format_px(x)} {format_px(y)} m\n{lines}h\n"
