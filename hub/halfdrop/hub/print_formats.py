"""The formats that an order can ask for beside PNG and SVG: what each file is called, and how it is made of plates."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from halfdrop.contracts.jobs import PrintFormat
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.hub.spot_pdf import trace_pdf
from halfdrop.hub.tiff_files import encode_indexed_tiff, encode_separated_tiff, encode_tiff
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_layers, compose_tile, used_layers

Encode = Callable[[Fields, Sequence[str], PatternSpec, int], bytes]
"""From fields, palette, spec and size in pixels to a file."""


class Format(NamedTuple):
    """One format."""

    file_name: str
    media_type: str
    encode: Encode


def _encode_tiff(fields: Fields, palette: Sequence[str], spec: PatternSpec, size_px: int) -> bytes:
    return encode_tiff(compose_tile(fields, palette, spec.repeat, size_px), spec)


def _encode_indexed(fields: Fields, palette: Sequence[str], spec: PatternSpec, size_px: int) -> bytes:
    planes = list(compose_layers(fields, spec.repeat, size_px))
    return encode_indexed_tiff(planes, used_layers(fields), palette, spec, size_px=size_px)


def _encode_separated(fields: Fields, palette: Sequence[str], spec: PatternSpec, size_px: int) -> bytes:
    planes = list(compose_layers(fields, spec.repeat, size_px))
    return encode_separated_tiff(planes, used_layers(fields), palette, spec, size_px=size_px)


FORMATS: Mapping[PrintFormat, Format] = {
    "pdf": Format("pattern.pdf", "application/pdf", trace_pdf),
    "tiff": Format("master.tiff", "image/tiff", _encode_tiff),
    "tiff-indexed": Format("indexed.tiff", "image/tiff", _encode_indexed),
    "tiff-separated": Format("separated.tiff", "image/tiff", _encode_separated),
}
