"""The formats that an order can ask for beside PNG and SVG: what each file is called, and how it is made."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from halfdrop.contracts.printing import PrintFormat
from halfdrop.hub.files import encode_webp
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.separations import encode_ink_data, encode_trapped_tiff
from halfdrop.hub.printing.spot_pdf import trace_pdf
from halfdrop.hub.printing.tiff_files import encode_indexed_tiff, encode_separated_tiff, encode_tiff


class Format(NamedTuple):
    """One format."""

    file_name: str
    media_type: str
    encode: Callable[[Artwork], bytes]


def _encode_webp(artwork: Artwork) -> bytes:
    return encode_webp(artwork.tile(), artwork.xmp, dpi=artwork.dpi)


FORMATS: Mapping[PrintFormat, Format] = {
    "pdf": Format("pattern.pdf", "application/pdf", trace_pdf),
    "tiff": Format("master.tiff", "image/tiff", encode_tiff),
    "tiff-indexed": Format("indexed.tiff", "image/tiff", encode_indexed_tiff),
    "tiff-separated": Format("separated.tiff", "image/tiff", encode_separated_tiff),
    "ai": Format("pattern.ai", "application/postscript", trace_pdf),
    "tiff-trapped": Format("trapped.tiff", "image/tiff", encode_trapped_tiff),
    "webp": Format("master.webp", "image/webp", _encode_webp),
    "inks": Format("inks.json", "application/json", encode_ink_data),
}
