"""Pictures as files: their addresses, which say size and format, and their bytes.

A picture is a tile that wraps plainly in x and y, so it is square. The small WebP ones are the previews, kept in every
tier of the cache; the others are composed from the plates whenever somebody fetches one that is not on the shelf.
"""

import io
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.patterns import PREVIEW_SIZE_PX, PREVIEW_SIZES_PX, PatternSpec
from halfdrop.edge.signing import SIGNATURE_FIELDS
from halfdrop.models.provenance import describe_provenance
from halfdrop.models.renderer import Bytes

PictureFormat = Literal["webp", "png", "jpeg"]

SIZES_PX = (*PREVIEW_SIZES_PX, 1024, 2048)
"""An edge composes and encodes the largest in a fraction of a second; what is larger is an order."""

QUALITY_MAX = 100

WEBP_METHOD, WEBP_EFFORT = 0, 30
"""Lossless, because a pattern is a few flat spot colours: exact to the last pixel, a third to a seventh of the bytes
of quality 85, and quicker (0.7 to 1.4 CPU-ms against 1.4 to 2.8 at 256 px). Method 1 with this effort would take 2.5
times as long for 4.8 KB instead of 8.3; without it, below 26, it is slower and larger than this."""

LOSSY_METHOD = 2
PNG_COMPRESSION = 3
"""zlib's level: flat artwork hardly shrinks further, and higher ones take longer."""

_SUFFIXES: dict[str, PictureFormat] = {".webp": "webp", ".png": "png", ".jpg": "jpeg"}
_NAME = re.compile(r"(.*)(\.[a-z]+)")


class PictureForm(msgspec.Struct, frozen=True, kw_only=True):
    """A format and a size."""

    kind: PictureFormat = "webp"
    size_px: int = PREVIEW_SIZE_PX
    quality: int = QUALITY_MAX
    """1 to 100, for JPEG and WebP. WebP at 100 is lossless."""

    @property
    def is_preview(self) -> bool:
        """True for what the cache keeps."""
        return self.kind == "webp" and self.size_px in PREVIEW_SIZES_PX and self.quality == QUALITY_MAX

    @property
    def media_type(self) -> str:
        return f"image/{self.kind}"

    def address(self, key: str) -> str:
        """Return where the picture of a pattern is in this form."""
        suffix = next(suffix for suffix, kind in _SUFFIXES.items() if kind == self.kind)
        quality = f"&quality={self.quality}" if self.quality != QUALITY_MAX else ""
        return f"/p/{key}{suffix}?px={self.size_px}{quality}"


FILE_FORMS = tuple(
    form
    for kind in _SUFFIXES.values()
    for size_px in SIZES_PX
    if not (form := PictureForm(kind=kind, size_px=size_px)).is_preview
)
"""What is composed of the plates when it is asked for, at full quality."""


def read_address(name: str, query: Mapping[str, str]) -> tuple[str, PictureForm]:
    """Return the key and the form that an address names. Raises NotFound and InvalidInput.

    What signs an address says nothing here: the front has read it, and on an open edge it does not matter.
    """
    found = _NAME.fullmatch(name)
    if found is None or found[2] not in _SUFFIXES:
        raise NotFound(f"no picture is called {name[:40]!r}: names are a key and {', '.join(_SUFFIXES)}")
    kind = _SUFFIXES[found[2]]
    for parameter in query:
        if parameter not in ("px", "quality", *SIGNATURE_FIELDS):
            raise InvalidInput(parameter, got="an unknown parameter", allowed="only px and quality")
    size_px = _read_number("px", query.get("px", str(PREVIEW_SIZE_PX)), SIZES_PX)
    quality = _read_number("quality", query.get("quality", str(QUALITY_MAX)), range(1, QUALITY_MAX + 1))
    if kind == "png":
        quality = QUALITY_MAX  # whatever is asked for: a PNG loses nothing
    return found[1], PictureForm(kind=kind, size_px=size_px, quality=quality)


def _read_number(name: str, text: str, allowed: range | tuple[int, ...]) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1
    if number not in allowed:
        said = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(str, allowed))
        raise InvalidInput(name, got=text, allowed=said)
    return number


def encode_webp(tile: Bytes) -> bytes:
    """Return a tile [size, size, 3] as lossless WebP."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "WEBP", lossless=True, quality=WEBP_EFFORT, method=WEBP_METHOD)
    return buffer.getvalue()


def encode_file(tile: Bytes, form: PictureForm, spec: PatternSpec) -> bytes:
    """Return a tile [size, size, 3] as a file of this form, with its provenance as XMP. The same in, the same out."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, form.kind.upper(), **_options(form, describe_provenance(spec)))
    return buffer.getvalue()


def _options(form: PictureForm, packet: bytes) -> dict[str, Any]:
    if form.kind == "png":
        return {"compress_level": PNG_COMPRESSION, "pnginfo": _png_text(packet)}
    if form.kind == "jpeg":
        # Full resolution for colour, too: halved, flat inks bleed over their edges.
        return {"quality": form.quality, "subsampling": 0, "xmp": packet}
    if form.quality == QUALITY_MAX:
        return {"lossless": True, "quality": WEBP_EFFORT, "method": WEBP_METHOD, "xmp": packet}
    return {"quality": form.quality, "method": LOSSY_METHOD, "xmp": packet}


def _png_text(packet: bytes) -> PngInfo:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    return info
