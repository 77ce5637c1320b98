"""What clients send, decoded strictly: a wrong body ends here, with the field, what was got and what is allowed."""

import re
import typing
from typing import Any, TypeVar, get_args

import msgspec
from litestar import Request
from msgspec.inspect import StructType, type_info

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.jobs import JobClass, WebhookEvent
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

    reuse: ReuseAllowed = "exact"
    """What made before may answer: this very pattern; without a seed, any variant of this prompt made before; as well
    a pattern of another prompt that certainly says the same."""


class PredictionInput(PatternRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to render; `input` of POST /v1/predictions."""

    size_px: int = MASTER_SIZE_PX
    """Width and height of the master, 64 to 8192."""

    formats: tuple[PrintFormat, ...] = ()
    """Files beside the PNGs and the SVG: "pdf" (spot colours and layers), "tiff" (RGB with its profile),
    "tiff-indexed" (one ink a pixel), "tiff-separated" (a channel for each ink), "ai" (the page, for Illustrator),
    "tiff-trapped" (channels knocked out and trapped), "webp", "inks" (Lab values, coverage, order of printing)."""

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

    def chosen_printing(self) -> PrintOptions | msgspec.UnsetType:
        """Return what the mill asks for; unset where that is nothing. Raises InvalidInput for what no press can do."""
        options = check_printing(self.printing, size_px=self.size_px)
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
        raise _name_field(str(error), raw, kind) from error


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


def _name_field(message: str, raw: object, kind: type[msgspec.Struct]) -> InvalidInput:
    """msgspec says what it expected and ends with the path (`$.repeat.units`); add what was got there."""
    reason, _, path = message.partition(" - at `$")
    steps = re.findall(r"[^.\[\]`]+", path)
    if missing := re.match(r"Object missing required field `(\w+)`", reason):
        name = missing[1]
        return InvalidInput(".".join([*steps, name]), got="nothing", allowed="a value; it is required")
    if unknown := re.match(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        members = _member_names(kind, steps)
        field = ".".join([*steps, unknown[1][:80]])
        return InvalidInput(field, got="an unknown member", allowed=f"only {', '.join(members)}")
    return InvalidInput(_join(steps) or "body", got=_look_up(raw, steps), allowed=_say(reason, kind, steps))


def _join(steps: list[str]) -> str:
    return "".join(f"[{s}]" if s.isdigit() or s == "..." else f".{s}" for s in steps).lstrip(".")


def _look_up(raw: object, steps: list[str]) -> object:
    value: Any = raw
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
        else:
            return value
    return value


def _say(reason: str, kind: type[msgspec.Struct], steps: list[str]) -> str:
    expected = re.match(r"Expected `([^`]+)`", reason)
    if reason.startswith("Invalid enum value"):
        return " or ".join(map(repr, _literals(kind, steps)))
    if not expected:
        return reason
    words = {"str": "text", "int": "a whole number", "float": "a number", "array": "a list", "object": "an object"}
    names = expected[1].split(" | ")
    return " or ".join("nothing" if n == "null" else words.get(n, n) for n in names) + _limit(reason)


def _limit(reason: str) -> str:
    limit = re.match(r"Expected `[^`]+` (?!, got)([<>]=? .*)", reason)
    return f" {limit[1]}" if limit else ""


def _member_names(kind: type[msgspec.Struct], steps: list[str]) -> list[str]:
    found = _struct_at(kind, steps)
    return [field.encode_name for field in msgspec.structs.fields(found)] if found else []


def _literals(kind: type[msgspec.Struct], steps: list[str]) -> tuple[object, ...]:
    while steps and steps[-1].isdigit():  # an item of a list: its member says what items may be
        steps = steps[:-1]
    owner = _struct_at(kind, steps[:-1])
    if owner is None or not steps:
        return ()
    names = {field.encode_name: field.name for field in msgspec.structs.fields(owner)}
    return _flatten(typing.get_type_hints(owner).get(names.get(steps[-1], "")))


def _flatten(annotation: object) -> tuple[object, ...]:
    """Return the values of the Literal within `annotation`: "a" and "b" of tuple[Literal["a", "b"], ...] | None."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return arguments
    return tuple(value for argument in arguments for value in _flatten(argument))


def _struct_at(kind: type[msgspec.Struct], steps: list[str]) -> type[msgspec.Struct] | None:
    """Return the Struct that the members named by `steps` lead to."""
    info: Any = type_info(kind)
    for step in steps:
        fields = {f.encode_name: f.type for f in info.fields} if isinstance(info, StructType) else {}
        info = fields.get(step)
        options = getattr(info, "types", (info,))
        info = next((o for o in options if isinstance(o, StructType)), info)
    return info.cls if isinstance(info, StructType) else None
