"""JSON schemas of what goes over the wire: from the very Structs that decode and encode it, and the limits beside them.

The limits are checked by functions (contracts/patterns.py, contracts/repeats.py, order_terms.py) that can say what is
wrong better than a decoder; here they are written so that a client's tools know them too. A fuzzer holds both together.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from halfdrop.contracts.imported import LORAS_MAX, PAINTED_GUIDANCE_MAX, PAINTED_STEPS_MAX
from halfdrop.contracts.patterns import (
    GUIDANCE_MAX,
    GUIDANCE_SCALE,
    PALETTE_MAX,
    PREVIEW_SIZES_PX,
    PROMPT_MAX_CHARS,
    SEED_MAX,
    SIZE_MAX_PX,
    SIZE_MIN_PX,
    STEPS,
    STEPS_MAX,
)
from halfdrop.contracts.repeats import DROP_DENOMINATOR_MAX, UNITS_MAX
from halfdrop.edge.batch_lines import CUSTOM_ID_PATTERN, LineRequest
from halfdrop.edge.image_requests import IMAGES_MAX, PARTIAL_IMAGES_MAX, SIZES, ImageRequest, PatternMembers
from halfdrop.edge.picture_files import QUALITY_MAX
from halfdrop.edge.predictions import Output
from halfdrop.edge.requests import PredictionInput, PredictionRequest, PreviewRequest
from halfdrop.edge.webhooks.addresses import HTTPS_PATTERN, URL_MAX_CHARS

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"

CONTROL_CHARACTERS = r"\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"
"""Refused in a prompt."""

BLANK_CHARACTERS = (
    r"\u0009-\u000d\u001c-\u0020,.;\u0085\u00a0\u037e\u1680\u2000-\u200a\u2024-\u2026\u2028\u2029\u202f\u205f\u3000"
    r"\ufe10\ufe14\ufe19\ufe30\ufe50\ufe52\ufe54\uff0c\uff0e\uff1b"
)
"""Nothing is left of them in normal form: spaces, commas, full stops, semicolons, and what Unicode takes for those."""

_TEXT = f"^[^{CONTROL_CHARACTERS}]*$"
_TEXT_WITH_SOMETHING = f"^[^{CONTROL_CHARACTERS}]*[^{CONTROL_CHARACTERS}{BLANK_CHARACTERS}][^{CONTROL_CHARACTERS}]*$"

WEBHOOK_ADDRESS: Json = {"maxLength": URL_MAX_CHARS, "pattern": HTTPS_PATTERN}

_PATTERN_LIMITS: dict[str, Json] = {
    "prompt": {
        "minLength": 1,
        "maxLength": PROMPT_MAX_CHARS,
        "pattern": _TEXT_WITH_SOMETHING,
        "examples": ["red polka dots on white, half-drop", "#ff8800 stars on #102030, no outline"],
    },
    "negative_prompt": {"maxLength": PROMPT_MAX_CHARS, "pattern": _TEXT},
    "seed": {"minimum": 0, "maximum": SEED_MAX, "default": 0},
    "palette": {"maxItems": PALETTE_MAX, "items": {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}},
    "num_inference_steps": {"minimum": 1, "maximum": STEPS_MAX, "default": STEPS},
    "guidance_scale": {"minimum": 0, "maximum": GUIDANCE_MAX, "default": GUIDANCE_SCALE},
    "loras": {"maxItems": 0},
}

_PAINTED_LIMITS: dict[str, Json] = {
    "num_inference_steps": {"minimum": 1, "maximum": PAINTED_STEPS_MAX},
    "guidance_scale": {"minimum": 0, "maximum": PAINTED_GUIDANCE_MAX},
    "loras": {"maxItems": LORAS_MAX},
}
"""Of orders where pools have users' models; the house's own limits are narrower, which a schema cannot say of one
member by another."""

_TEMPLATE: Json = {"pattern": r"^([a-z][a-z0-9-]{0,39}(@[1-9][0-9]{0,6})?)?$"}
"""GET /v1/templates lists them; what each allows beside it, a schema cannot say."""

_LIMITS: dict[str, dict[str, Json]] = {
    PreviewRequest.__name__: {
        **_PATTERN_LIMITS,
        "size_px": {"enum": list(PREVIEW_SIZES_PX)},
        "template": _TEMPLATE,
    },
    PredictionInput.__name__: {
        **_PATTERN_LIMITS,
        "size_px": {"minimum": SIZE_MIN_PX, "maximum": SIZE_MAX_PX},
        "template": _TEMPLATE,
    },
    ImageRequest.__name__: {
        "prompt": _PATTERN_LIMITS["prompt"],
        "n": {"minimum": 1, "maximum": IMAGES_MAX, "default": 1},
        "size": {"enum": ["auto", *SIZES, None], "default": "auto"},
        "seed": _PATTERN_LIMITS["seed"],
        "partial_images": {"minimum": 0, "maximum": PARTIAL_IMAGES_MAX, "default": 0},
        "output_compression": {"minimum": 1, "maximum": QUALITY_MAX, "default": QUALITY_MAX},
        "background": {"enum": ["auto", "opaque", None]},
    },
    LineRequest.__name__: {
        "custom_id": {"pattern": CUSTOM_ID_PATTERN},
        "webhook": WEBHOOK_ADDRESS,
    },
    PatternMembers.__name__: {name: _PATTERN_LIMITS[name] for name in ("negative_prompt", "palette")},
    "WebhookAddress": {"url": WEBHOOK_ADDRESS},
    "Repeat": {"units": {"minimum": 1, "maximum": UNITS_MAX}},
    PredictionRequest.__name__: {
        "webhook": {
            **WEBHOOK_ADDRESS,
            "description": "Where to tell of the order's course, as Standard Webhooks has it: a public server. Some "
            "edges also take http, an IP address, or a private one.",
        },
        "webhook_events_filter": {"description": "Of what to tell; absent: of everything."},
    },
}
"""By Struct and member."""

_DROPS = ["0", *(f"{n}/{d}" for d in range(1, DROP_DENOMINATOR_MAX + 1) for n in range(d))]
_LATTICES: list[Json] = [
    {"required": ["layout", "drop"], "properties": {"layout": {"const": "drop"}, "drop": {"enum": _DROPS}}},
    {"properties": {"layout": {"enum": ["half-drop", "brick"]}, "drop": {"enum": ["", "1/2"]}}, "required": ["layout"]},
    {"properties": {"layout": {"enum": ["straight", "mirror"]}, "drop": {"enum": ["", "0"]}}},
]
"""A drop of its own goes with the layout "drop" only."""


_WHOLE: Json = {"stream": {"enum": [False, None]}, "partial_images": {"enum": [0, None]}}
_STREAMED: Json = {
    "stream": {"const": True},
    "n": {"enum": [1, None]},
    "response_format": {"enum": ["b64_json", None]},
}
_LOSSLESS: Json = {"output_format": {"enum": ["png", None]}, "output_compression": {"enum": [QUALITY_MAX, None]}}
_LOSSY: Json = {"output_format": {"enum": ["jpeg", "webp"]}}
_IMAGES: list[Json] = [
    {"properties": {**_WHOLE, **_LOSSLESS}},
    {"properties": {**_WHOLE, **_LOSSY}, "required": ["output_format"]},
    {"properties": {**_STREAMED, **_LOSSLESS}, "required": ["stream"]},
    {"properties": {**_STREAMED, **_LOSSY}, "required": ["stream", "output_format"]},
]
"""Which members of an images request go together."""


def make_schemas(
    structs: Iterable[type[msgspec.Struct]], models: Sequence[str] = (), imported: Sequence[str] = ()
) -> Json:
    """Return the schemas of `structs` and of all that they hold, by name. models: names that the edge's bundle has.
    imported: those of users' models that pools have."""
    _, schemas = msgspec.json.schema_components(structs, ref_template=REFERENCE)
    for name, limits in _LIMITS.items():
        for member, limit in limits.items() if name in schemas else ():
            schemas[name]["properties"][member].update(limit)
    if "Repeat" in schemas:
        schemas["Repeat"]["anyOf"] = _LATTICES
    if ImageRequest.__name__ in schemas:
        schemas[ImageRequest.__name__]["anyOf"] = _IMAGES
    if models:
        for name in (PreviewRequest.__name__, PredictionInput.__name__):
            schemas[name]["properties"]["model"]["enum"] = list(models)
        schemas[PredictionInput.__name__]["properties"]["model"]["enum"] = [*models, *imported]
        for name in (PredictionRequest.__name__, LineRequest.__name__):
            schemas[name]["properties"]["version"]["enum"] = [*models, None]
        schemas[PredictionRequest.__name__]["properties"]["version"]["enum"] = [*models, *imported, None]
        schemas[ImageRequest.__name__]["properties"]["model"]["enum"] = [*models, None]
    if imported:
        _widen(schemas)
    return schemas


def _widen(schemas: Json) -> None:
    members = schemas[PredictionInput.__name__]["properties"]
    for member, limit in _PAINTED_LIMITS.items():
        members[member].pop("default", None)
        members[member].update(limit)


def describe_model(*, is_imported: bool = False) -> Json:
    """Return the schemas of one model's input and output, under the names that Cog gives them."""
    schemas = make_schemas((PredictionInput, Output))
    if is_imported:
        _widen(schemas)
    names = {"Input": schemas[PredictionInput.__name__], "Output": schemas[Output.__name__]}
    return {
        "openapi": "3.1.0",
        "components": {"schemas": {**names, "Repeat": schemas["Repeat"], "LoraWish": schemas["LoraWish"]}},
    }
