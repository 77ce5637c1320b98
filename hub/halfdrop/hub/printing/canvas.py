"""Pages of flat shapes, lettering and pictures, written as PNG and as PDF: what the proofs are drawn on.

A page is a list of things in millimetres from its upper left corner; two writers turn it into a file. Lettering is in
the one typeface that Pillow brings along (Aileron), so a page looks the same, to the bit, wherever it is made; the PDF
holds it too.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Literal

import numpy as np
import pikepdf
from numpy.typing import NDArray
from pikepdf import Array, Dictionary, Name, Object, Pdf
from PIL import Image, ImageDraw, ImageFont

from halfdrop.contracts.printing import MM_PER_INCH

Bytes = NDArray[np.uint8]
Side = Literal["left", "middle", "right"]

INK, QUIET, HAIR = "#1c1c1c", "#6b6b6b", "#c9c9c9"
"""Of lettering, of what explains it, of rules."""

POINTS_PER_MM = 72 / MM_PER_INCH
FONT_UNITS = 1000
FIRST_CODE, LAST_CODE = 32, 126
"""The typeface has these; everything else is written with them as far as it can be."""

SMOOTH = 2
"""Pictures are drawn so much larger and then reduced: Pillow's lines have no soft edges."""


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    outline: str | None = None


@dataclass(frozen=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float
    colour: str = INK
    width: float = 0.2


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    """Of the base line."""
    text: str
    size: float = 3.2
    """Height of the letters' body."""
    colour: str = INK
    side: Side = "left"


@dataclass(frozen=True)
class Picture:
    x: float
    y: float
    width: float
    height: float
    pixels: Bytes
    """[height, width, 3] sRGB."""


@dataclass
class Page:
    """One page, `width` x `height` mm, and what is on it, the lowest first."""

    width: float
    height: float
    things: list[Box | Line | Text | Picture] = field(default_factory=list)

    def add(self, *things: Box | Line | Text | Picture) -> None:
        self.things += things


def plain(text: str) -> str:
    """Return `text` in letters that the typeface has: without accents, and with ? for what has no likeness."""
    same = text.translate(_LIKE)
    folded = "".join(letter for letter in unicodedata.normalize("NFKD", same) if not unicodedata.combining(letter))
    return "".join(letter if FIRST_CODE <= ord(letter) <= LAST_CODE else "?" for letter in folded)


_LIKE = str.maketrans({"×": "x", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "ß": "ss"})


def text_width(text: str, size: float) -> float:
    """Return how wide a line of `size` is, in the same unit."""
    return float(_font(FONT_UNITS).getlength(plain(text))) * size / FONT_UNITS


def shorten(text: str, size: float, width: float) -> str:
    """Return `text`, cut and ended with dots if it is wider than `width`."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def paint_page(page: Page, *, dpi: float) -> Bytes:
    """Return the page as [height, width, 3] pixels."""
    scale = dpi / MM_PER_INCH
    large = scale * SMOOTH
    size = (round(page.width * scale) * SMOOTH, round(page.height * scale) * SMOOTH)
    image = Image.new("RGB", size, "#ffffff")
    draw = ImageDraw.Draw(image)
    for thing in page.things:
        match thing:
            case Box():
                corners = [thing.x, thing.y, thing.x + thing.width, thing.y + thing.height]
                at = [round(corner * large) for corner in corners]
                draw.rectangle([*at[:2], at[2] - 1, at[3] - 1], fill=thing.fill, outline=thing.outline, width=SMOOTH)
            case Line():
                ends = [round(end * large) for end in (thing.x1, thing.y1, thing.x2, thing.y2)]
                draw.line(ends, fill=thing.colour, width=max(1, round(thing.width * large)))
            case Text():
                anchor = {"left": "ls", "middle": "ms", "right": "rs"}[thing.side]
                font = _font(thing.size * large)
                at_px = (thing.x * large, thing.y * large)
                draw.text(at_px, plain(thing.text), fill=thing.colour, font=font, anchor=anchor)
            case Picture():
                # Fitted to the page's own pixels, each then doubled: reducing gives it back as it was.
                wide, tall = round(thing.width * scale), round(thing.height * scale)
                fitted = Image.fromarray(thing.pixels).resize((wide, tall), Image.Resampling.LANCZOS)
                doubled = fitted.resize((wide * SMOOTH, tall * SMOOTH), Image.Resampling.NEAREST)
                image.paste(doubled, (round(thing.x * scale) * SMOOTH, round(thing.y * scale) * SMOOTH))
    return np.array(image.resize((size[0] // SMOOTH, size[1] // SMOOTH), Image.Resampling.BOX))


def write_pages(pages: Sequence[Page], *, xmp: bytes) -> bytes:
    """Return the pages as PDF. The same pages give the same bytes."""
    buffer = BytesIO()
    with Pdf.new() as pdf:
        font = _embed_font(pdf)
        for page in pages:
            _write_page(pdf, page, font)
        metadata = pdf.make_stream(xmp)
        metadata.Type, metadata.Subtype = Name.Metadata, Name.XML
        pdf.Root.Metadata = metadata
        pdf.save(
            buffer,
            deterministic_id=True,
            fix_metadata_version=False,
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
        )
    return buffer.getvalue()


def _write_page(pdf: Pdf, page: Page, font: Object) -> None:
    size = (page.width * POINTS_PER_MM, page.height * POINTS_PER_MM)
    made = pdf.add_blank_page(page_size=size)
    images: dict[str, Object] = {}
    content = [f"{POINTS_PER_MM:.9g} 0 0 {POINTS_PER_MM:.9g} 0 0 cm 1 J\n"]
    for thing in page.things:
        match thing:
            case Box():
                at = f"{thing.x:.4f} {page.height - thing.y - thing.height:.4f} {thing.width:.4f} {thing.height:.4f} re"
                if thing.fill:
                    content.append(f"{_colour(thing.fill)} rg {at} f\n")
                if thing.outline:
                    content.append(f"{_colour(thing.outline)} RG 0.15 w {at} S\n")
            case Line():
                line = f"{thing.x1:.4f} {page.height - thing.y1:.4f} m {thing.x2:.4f} {page.height - thing.y2:.4f} l S"
                content.append(f"{_colour(thing.colour)} RG {thing.width:.4f} w {line}\n")
            case Text():
                shift = {"left": 0.0, "middle": 0.5, "right": 1.0}[thing.side] * text_width(thing.text, thing.size)
                letters = plain(thing.text).replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
                place = f"{thing.x - shift:.4f} {page.height - thing.y:.4f} Td"
                content.append(f"BT {_colour(thing.colour)} rg /F {thing.size:.4f} Tf {place} ({letters}) Tj ET\n")
            case Picture():
                name = f"/I{len(images)}"
                images[name] = _embed_picture(pdf, thing.pixels)
                at = f"{thing.x:.4f} {page.height - thing.y - thing.height:.4f}"
                content.append(f"q {thing.width:.4f} 0 0 {thing.height:.4f} {at} cm {name} Do Q\n")
    made.obj.Resources = Dictionary(Font=Dictionary(F=font), XObject=Dictionary(images))
    made.obj.Contents = pdf.make_stream("".join(content).encode("ascii"))


def _embed_picture(pdf: Pdf, pixels: Bytes) -> Object:
    height, width, _ = pixels.shape
    stream = pdf.make_stream(np.ascontiguousarray(pixels).tobytes())
    stream.Type, stream.Subtype = Name.XObject, Name.Image
    stream.Width, stream.Height, stream.BitsPerComponent, stream.ColorSpace = width, height, 8, Name.DeviceRGB
    return stream


def _embed_font(pdf: Pdf) -> Object:
    """Return the typeface as a simple TrueType font: its letters are ASCII's."""
    font = _font(FONT_UNITS)
    program = pdf.make_stream(font.font_bytes)
    program.Length1 = len(font.font_bytes)
    ascent, descent = font.getmetrics()
    descriptor = Dictionary(
        Type=Name.FontDescriptor,
        FontName=Name.Aileron,
        Flags=32,
        FontBBox=Array([-200, -descent, FONT_UNITS, ascent]),
        ItalicAngle=0,
        Ascent=ascent,
        Descent=-descent,
        CapHeight=ascent,
        StemV=80,
        FontFile2=program,
    )
    widths = Array([round(font.getlength(chr(code))) for code in range(FIRST_CODE, LAST_CODE + 1)])
    return pdf.make_indirect(
        Dictionary(
            Type=Name.Font,
            Subtype=Name.TrueType,
            BaseFont=Name.Aileron,
            FirstChar=FIRST_CODE,
            LastChar=LAST_CODE,
            Widths=widths,
            FontDescriptor=pdf.make_indirect(descriptor),
            Encoding=Name.WinAnsiEncoding,
        )
    )


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font


def _colour(colour: str) -> str:
    return " ".join(f"{level / 255:.4g}" for level in bytes.fromhex(colour.removeprefix("#")))
