"""What clients send, decoded strictly: a wrong body ends here, with the field, what was got and what is allowed."""

import re
from typing import Any, TypeVar, get_args

import msgspec
from litestar import Request

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.jobs import JobClass, WebhookEvent
from halfdrop.contracts.naming import name_member
from halfdrop.contracts.patterns import PREVIEW_SIZE_PX, PREVIEW_SIZES_PX, PatternRequest, ReuseAllowed
from halfdrop.contracts.printing import PrintFormat, PrintOptions, check_colourways, check_printing

BODY_MAX_BYTES = 64 * 1024
"""Ten times the largest sensible request."""

DRAIN_MAX_BYTES = 8 * 1024 * 1024
"""A body that is too large is read and thrown away up to here: a client still sending would not see the answer."""

MASTER_SIZE_PX = 4096


class PreviewRequest(PatternRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/previews."""

    size_px: int = PREVIEW_SIZE_PX
    """Width and height of the picture: 128, 256, 384 or 512."""

    template: str = ""
    """Draw it as an order by this template would: GET /v1/templates lists them."""

    reuse: ReuseAllowed = "exact"
    """What made before may answer: this very pattern; without a seed, any variant of this prompt made before; as well
    a pattern of another prompt that certainly says the same."""


class PredictionInput(PatternRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to render; `input` of POST /v1/predictions."""

    size_px: int | msgspec.UnsetType = msgspec.UNSET
    """Width and height of the master, 64 to 8192; absent: 4096, or what the template says."""

    template: str = ""
    """What the order becomes: name or name@version of a template, as GET /v1/templates lists them. It says which files
    are made; `formats`, and all of `printing` but its length, are then left out."""

    formats: tuple[PrintFormat, ...] = ()
    """Files beside the PNGs and the SVG: "pdf" (spot colours and layers), "tiff" (RGB with its profile),
    "tiff-indexed" (one ink a pixel), "tiff-separated" (a channel for each ink), "ai" (the page, for Illustrator),
    "svg-knockout" (inks that do not overlap), "tiff-trapped" (channels knocked out and trapped), "tiff-cmyk" (through
    `printing.profile`), "webp", "inks" (Lab values, coverage, order of printing), "sheet" (the same as a picture),
    "drawing" (the repeat with its dimensions), "proof-pdf" (all proofs as pages)."""

    colourways: tuple[tuple[str, ...], ...] = ()
    """Up to 8 more palettes for the same plates, nothing drawn anew: each has a master, an SVG and every format, named
    "colourway-1-master.png" and so on. Colours left out at the end stay as they are."""

    printing: PrintOptions = PrintOptions()
    """What the mill asks for: length of the repeat, inks, trap, smallest feature, profile."""

    def chosen_formats(self) -> tuple[PrintFormat, ...] | msgspec.UnsetType:
        """Return the formats once each, in one order; unset where there are none."""
        return tuple(name for name in get_args(PrintFormat) if name in self.formats) or msgspec.UNSET

    def chosen_colourways(self) -> tuple[tuple[str, ...], ...] | msgspec.UnsetType:
        """Return the palettes of the colourways in lower case; unset where there are none. Raises InvalidInput."""
        formats = self.chosen_formats()
        count = 0 if formats is msgspec.UNSET else len(formats)
        return check_colourways(self.colourways, formats=count) or msgspec.UNSET

    def chosen_printing(self, size_px: int) -> PrintOptions | msgspec.UnsetType:
        """Return what the mill asks for; unset where that is nothing. Raises InvalidInput for what no press can do."""
        options = check_printing(self.printing, size_px=size_px, formats=self.formats)
        inks = len(self.palette)
        if inks > options.inks_max:
            allowed = f"up to {options.inks_max} colours, the inks that the press takes (printing.inks_max)"
            raise InvalidInput("palette", got=inks, allowed=allowed)
        return msgspec.UNSET if options == PrintOptions() else options


class PredictionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/predictions."""

    input: PredictionInput
    version: str | None = None
    """The model, by name or digest, as an alternative to `input.model`."""

    stream: bool = False
    """Accepted for clients that always send it: every prediction can be streamed."""

    job_class: JobClass | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="class")
    """Who comes first where pools are shared: "realtime", somebody waits for it; "standard", the default; "bulk"."""

    webhook: str | msgspec.UnsetType | None = msgspec.UNSET
    """Address to be told of the order's course, as Standard Webhooks has it: of a public server, over https."""

    webhook_events_filter: tuple[WebhookEvent, ...] | msgspec.UnsetType | None = msgspec.UNSET
    """What to tell of; absent: everything."""


Body = TypeVar("Body", bound=msgspec.Struct)


class UnsupportedMediaType(PermanentError):
    """The body is not declared to be JSON. Strict on purpose: it also keeps foreign web pages from posting here."""


class BodyTooLarge(PermanentError):
    """The body is larger than any request needs to be."""


class MalformedBody(PermanentError):
    """The body is not JSON at all."""


async def read_body(request: Request[Any, Any, Any], kind: type[Body]) -> Body:
    """Return the body as a `kind`.

    Raises BodyTooLarge, UnsupportedMediaType, MalformedBody, or InvalidInput naming the first member that is wrong.
    """
    data = await _read_bounded(request)
    content_type = request.headers.get("content-type", "")
    if not re.match(r"application/json\s*(;|$)", content_type, re.IGNORECASE):
        detail = f"content-type: got {content_type[:80]!r}; allowed: 'application/json'"
        raise UnsupportedMediaType(detail, code="unsupported-media-type")
    return decode_body(data, kind)


async def _read_bounded(request: Request[Any, Any, Any]) -> bytes:
    chunks, size_bytes = [], 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes <= BODY_MAX_BYTES:
            chunks.append(chunk)
        elif size_bytes > DRAIN_MAX_BYTES:
            break
    if size_bytes > BODY_MAX_BYTES:
        detail = f"body: got more than {BODY_MAX_BYTES} bytes; allowed: up to that"
        raise BodyTooLarge(detail, code="body-too-large")
    return b"".join(chunks)


def decode_body(data: bytes, kind: type[Body]) -> Body:
    """Return `data` as a `kind`. Raises MalformedBody or InvalidInput."""
    try:
        raw = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"body: not JSON ({error})", code="malformed-body") from error
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise name_member(str(error), raw, kind) from error


def _read_float(text: str) -> int | float:
    """Return the number that JSON writes with a point or an exponent: to JSON Schema 7.0 is as whole as 7."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= _WHOLE_MAX else number


_DECODER = msgspec.json.Decoder(float_hook=_read_float)
_WHOLE_MAX = 2**53
"""Beyond it a float names no certain whole number."""


def check_preview_size(size_px: int) -> int:
    """Return `size_px` if previews come in it. Raises InvalidInput otherwise."""
    if size_px not in PREVIEW_SIZES_PX:
        raise InvalidInput("size_px", got=size_px, allowed=", ".join(map(str, PREVIEW_SIZES_PX)))
    return size_px
