"""The API's description: OpenAPI 3.1, served at /schema/openapi.json.

Schemas come from the very Structs that decode requests and encode answers; paths are written here, with what a client
may send and every status it may get. A test holds routes and paths together.
"""

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import MediaType, Response, get

from halfdrop.contracts.patterns import (
    GUIDANCE_MAX,
    PALETTE_MAX,
    PREVIEW_SIZES_PX,
    PROMPT_MAX_CHARS,
    SEED_MAX,
    SIZE_MAX_PX,
    SIZE_MIN_PX,
    STEPS_MAX,
)
from halfdrop.contracts.repeats import UNITS_MAX
from halfdrop.edge.degradation import HEADER
from halfdrop.edge.health import Health
from halfdrop.edge.idempotency import HEADER as IDEMPOTENCY_HEADER
from halfdrop.edge.idempotency import KEY_MAX_CHARS
from halfdrop.edge.image_answers import ImageEvent, Images
from halfdrop.edge.image_requests import IMAGES_MAX, PARTIAL_IMAGES_MAX, SIZES, ImageRequest
from halfdrop.edge.keys import TENANT_PATTERN
from halfdrop.edge.model_answers import Model, ModelList
from halfdrop.edge.names import ID_LENGTH
from halfdrop.edge.openai_errors import ErrorBody
from halfdrop.edge.picture_files import PREVIEW_SIZE_PX, QUALITY_MAX, SIZES_PX
from halfdrop.edge.prediction_routes import WAIT_DEFAULT_S
from halfdrop.edge.predictions import Output, Prediction, PredictionPage
from halfdrop.edge.preview_routes import Preview
from halfdrop.edge.problems import MEDIA_TYPE, Problem
from halfdrop.edge.requests import PredictionInput, PredictionRequest, PreviewRequest
from halfdrop.runtime.streams import IDEMPOTENCY_KEPT_S

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_STRUCTS = (
    PreviewRequest, Preview, PredictionRequest, PredictionInput, Prediction, PredictionPage, Health, Problem,
    ImageRequest, Images, ImageEvent, ErrorBody, Model, ModelList,
)  # fmt: skip

_DEGRADED = (
    "What this answer suffers from, by the names of /healthz: nats, hub, redis, objects, disk, outbox; previews: the "
    "picture is smaller than asked for. Absent if nothing is the matter, and on what caches may keep"
)

_PROBLEMS = {
    400: "The body is not JSON",
    401: "No API key, or one that opens nothing; an open edge asks for none",
    403: "The key lacks the scope that this needs, or the address is altered or has expired",
    404: "No such thing",
    409: "The first request with this Idempotency-Key is still being answered",
    413: "The body is too large",
    415: "The body is not declared to be application/json",
    421: "The Host header names another server",
    422: "A member is outside its limits; the problem names it, what was got and what is allowed",
    429: "Too much to do, or more than the tier's quota; try again after Retry-After seconds",
    503: "Something behind the edge is away; try again after Retry-After seconds",
}

_LIMITS: dict[str, Json] = {
    "prompt": {
        "minLength": 1,
        "maxLength": PROMPT_MAX_CHARS,
        "examples": ["red polka dots on white, half-drop", "#ff8800 stars on #102030, no outline"],
    },
    "negative_prompt": {"maxLength": PROMPT_MAX_CHARS},
    "seed": {"minimum": 0, "maximum": SEED_MAX, "default": 0},
    "palette": {"maxItems": PALETTE_MAX, "items": {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}},
    "num_inference_steps": {"minimum": 1, "maximum": STEPS_MAX},
    "guidance_scale": {"minimum": 0, "maximum": GUIDANCE_MAX},
}

_PREVIEW_EXAMPLE: Json = {"prompt": "small red hearts on pink, half-drop", "seed": 7}
_IMAGES_EXAMPLES: dict[str, Json] = {
    "pictures": {"prompt": "small red hearts on pink, half-drop", "n": 2, "size": "1024x1024", "model": "house"},
    "addresses": {"prompt": "navy stripes on cream", "response_format": "url", "output_format": "webp"},
    "stream": {"prompt": "gold ogee on burgundy, brick", "stream": True, "partial_images": 1},
    "our own members": {"prompt": "daisies", "seed": 7, "pattern": {"repeat": {"layout": "brick", "units": 4}}},
}
_ORDER_EXAMPLE: Json = {
    "input": {"prompt": "navy stripes on cream", "repeat": {"layout": "straight", "units": 4}, "size_px": 4096}
}


_KEY_OR_ADDRESS: list[Json] = [{"key": []}, {"address": []}, {}]

_SIGNATURE: list[Json] = [
    {"name": name, "in": "query", "schema": schema, "description": description}
    for name, schema, description in (
        ("tenant", {"type": "string", "pattern": TENANT_PATTERN}, "In whose name; part of a signed address"),
        ("expires", {"type": "integer"}, "Unix seconds until which a signed address can be fetched without a key"),
        ("signature", {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"}, "What makes it one"),
    )
]
"""Of the addresses in answers of an edge that asks for keys. Nobody but an edge can make them."""


@get("/schema/openapi.json")
async def get_openapi() -> Response[bytes]:
    """This description."""
    return Response(msgspec.json.encode(describe_api()), media_type=MediaType.JSON)


@cache
def describe_api() -> Json:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Halfdrop edge",
            "version": version("halfdrop"),
            "description": "Seamless repeats: previews at once, print files from the hub.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/previews": {"post": _create_preview()},
            "/p/{name}": {"get": _get_picture()},
            "/v1/predictions": {"post": _create_prediction(), "get": _list_predictions()},
            "/v1/predictions/{order_id}": {"get": _about_order("Tell what is known of an order", _json(Prediction))},
            "/v1/predictions/{order_id}/cancel": {
                "post": _about_order("Ask that an order stop; harmless when it is finished", _json(Prediction))
            },
            "/v1/predictions/{order_id}/stream": {
                "get": _about_order(
                    "Send the prediction at each change: events `status`, then one `completed`",
                    {"text/event-stream": {"schema": {"type": "string"}}},
                )
            },
            "/v1/predictions/{order_id}/files/{name}": {"get": _get_file()},
            "/v1/images/generations": {"post": _create_images()},
            "/v1/models": {
                "get": _operation("List the names of the model, as OpenAI's clients do", 200, _json(ModelList), ())
            },
            "/v1/models/{name}": {"get": _get_model()},
            "/v1/models/{owner}/{name}/predictions": {"post": _named(_create_prediction())},
            "/v1/models/{owner}/{name}/versions/{version}": {"get": _get_model_version()},
            "/metrics": {
                "get": _operation("Metrics for Prometheus", 200, {"text/plain": {"schema": {"type": "string"}}}, ())
            },
            "/healthz": {"get": _operation("Tell each part's state", 200, _json(Health), problems=(), is_public=True)},
            "/schema/openapi.json": {
                "get": _operation(
                    "This description", 200, {"application/json": {"schema": {"type": "object"}}}, (), is_public=True
                )
            },
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key"},
                "address": {"type": "apiKey", "in": "query", "name": "signature", "description": "A signed address"},
            },
        },
        "security": [{"key": []}, {}],
    }


def describe_model() -> Json:
    """Return the schemas of one model's input and output, under the names that Cog gives them."""
    schemas = _schemas()
    names = {"Input": schemas[PredictionInput.__name__], "Output": schemas[Output.__name__]}
    return {"openapi": "3.1.0", "components": {"schemas": {**names, "Repeat": schemas["Repeat"]}}}


def _create_preview() -> Json:
    answers = {"image/webp": {"schema": {"type": "string", "format": "binary"}}, **_json(Preview)}
    operation = _operation(
        "Draw a pattern, or find it: a WebP tile, or JSON about it", 200, answers, (400, 413, 415, 422, 429)
    )
    operation["requestBody"] = _body(PreviewRequest, _PREVIEW_EXAMPLE)
    operation["responses"]["200"]["headers"] = {
        "Halfdrop-Key": _header("The pattern's key"),
        "Content-Location": _header("Where the picture is, for ever"),
        "ETag": _header("Digest of the picture"),
        "Cache-Status": _header("RFC 9211: whether it was drawn now or found, and where; variant or near: reused"),
        HEADER: _header(_DEGRADED),
    }
    return operation


def _get_picture() -> Json:
    binary = {"schema": {"type": "string", "format": "binary"}}
    answers = {f"image/{kind}": binary for kind in ("webp", "png", "jpeg")}
    operation = _operation("The picture of a key, immutable", 200, answers, (404, 422, 429, 503))
    operation["responses"]["200"]["headers"] = {HEADER: _header(_DEGRADED)}
    operation["responses"]["304"] = {"description": "You have it already (If-None-Match)"}
    operation["security"] = _KEY_OR_ADDRESS
    name = {"type": "string", "pattern": r"^[0-9a-f]{32}\.(webp|png|jpg)$"}
    size = {"type": "integer", "enum": list(SIZES_PX), "default": PREVIEW_SIZE_PX}
    quality = {"type": "integer", "minimum": 1, "maximum": QUALITY_MAX, "default": QUALITY_MAX}
    operation["parameters"] = [
        _parameter("name", "path", name, "The key and .webp, .png or .jpg"),
        _parameter("px", "query", size, "Width and height in pixels"),
        _parameter("quality", "query", quality, "Of JPEG and WebP; WebP loses nothing at 100"),
        *_SIGNATURE,
    ]
    return operation


def _create_images() -> Json:
    answers = _json(Images) | {"text/event-stream": {"schema": {"$ref": _REFERENCE.format(name=ImageEvent.__name__)}}}
    operation = _operation(
        "Draw pictures, in the shape of OpenAI's Images API", 200, answers, (400, 413, 415, 429, 503)
    )
    for status, refusal in operation["responses"].items():
        if status != "200":
            refusal["content"] = _json(ErrorBody)
    operation["requestBody"] = _body(ImageRequest, {})
    content = operation["requestBody"]["content"]["application/json"]
    del content["example"]
    content["examples"] = {name: {"value": example} for name, example in _IMAGES_EXAMPLES.items()}
    return operation


def _get_model() -> Json:
    operation = _operation("Describe a model by one of its names", 200, _json(Model), (404,))
    operation["parameters"] = [_parameter("name", "path", {"type": "string"}, "house, house-3 or a digest")]
    return operation


def _create_prediction() -> Json:
    operation = _operation("Order the files of a pattern", 201, _json(Prediction), (400, 409, 413, 415, 422, 429, 503))
    operation["requestBody"] = _body(PredictionRequest, _ORDER_EXAMPLE)
    prefer = f"`wait` or `wait=n`: answer when finished, or after n seconds ({WAIT_DEFAULT_S:g} at most)"
    key = f"The same key and body again give the first answer again, for {IDEMPOTENCY_KEPT_S / 3600:g} hours"
    operation["parameters"] = [
        _parameter("Prefer", "header", {"type": "string"}, prefer),
        _parameter(IDEMPOTENCY_HEADER, "header", {"type": "string", "minLength": 1, "maxLength": KEY_MAX_CHARS}, key),
    ]
    operation["responses"]["201"]["headers"] = {
        "Location": _header("Address of the prediction"),
        HEADER: _header(_DEGRADED),
    }
    return operation


def _named(operation: Json) -> Json:
    names = [_parameter(name, "path", {"type": "string"}, f"The model's {name}") for name in ("owner", "name")]
    operation["parameters"] = [*names, *operation.get("parameters", [])]
    operation["responses"].setdefault("404", _refusal(404))
    return operation


def _get_model_version() -> Json:
    answers = {"application/json": {"schema": {"type": "object"}}}
    operation = _named(_operation("Describe a version of the model", 200, answers, (404,)))
    operation["parameters"].append(_parameter("version", "path", {"type": "string"}, "Name or digest"))
    return operation


def _list_predictions() -> Json:
    operation = _operation("List orders, newest first", 200, _json(PredictionPage), (422, 503))
    cursor = {"type": "string", "minLength": ID_LENGTH, "maxLength": ID_LENGTH}
    operation["parameters"] = [_parameter("cursor", "query", cursor, "From `next` of the page before")]
    return operation


def _about_order(summary: str, answers: Json) -> Json:
    operation = _operation(summary, 200, answers, (404, 503))
    schema = {"type": "string", "minLength": ID_LENGTH, "maxLength": ID_LENGTH}
    operation["parameters"] = [_parameter("order_id", "path", schema, "The prediction's id")]
    return operation


def _get_file() -> Json:
    answers = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    operation = _about_order("Send a file of a finished order", answers)
    operation["parameters"] += [_parameter("name", "path", {"type": "string"}, "File name: master.png"), *_SIGNATURE]
    operation["security"] = _KEY_OR_ADDRESS
    return operation


def _operation(summary: str, status: int, answers: Json, problems: tuple[int, ...], *, is_public: bool = False) -> Json:
    # A key that opens nothing is refused everywhere; where none is needed, nobody lacks a scope.
    codes = {*problems, 401, 421} | (set() if is_public else {403, 429})
    refused = {str(code): _refusal(code) for code in sorted(codes)}
    return {"summary": summary, "responses": {str(status): {"description": summary, "content": answers}, **refused}}


def _refusal(code: int) -> Json:
    problem = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(name=Problem.__name__)}}}
    return {"description": _PROBLEMS[code], "content": problem}


def _json(kind: type[msgspec.Struct]) -> Json:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(name=kind.__name__)}}}


def _body(kind: type[msgspec.Struct], example: Json) -> Json:
    content = _json(kind)
    content["application/json"]["example"] = example
    return {"required": True, "content": content}


def _parameter(name: str, place: str, schema: Json, description: str) -> Json:
    found = {"name": name, "in": place, "schema": schema, "description": description}
    return {**found, "required": True} if place == "path" else found


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _schemas() -> Json:
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template=_REFERENCE)
    for name in (PreviewRequest.__name__, PredictionInput.__name__):
        for member, limits in _LIMITS.items():
            schemas[name]["properties"][member].update(limits)
    schemas[PreviewRequest.__name__]["properties"]["size_px"]["enum"] = list(PREVIEW_SIZES_PX)
    size = {"minimum": SIZE_MIN_PX, "maximum": SIZE_MAX_PX}
    schemas[PredictionInput.__name__]["properties"]["size_px"].update(size)
    image = schemas[ImageRequest.__name__]["properties"]
    for member, limits in {
        "prompt": _LIMITS["prompt"], "n": {"minimum": 1, "maximum": IMAGES_MAX, "default": 1},
        "size": {"enum": ["auto", *SIZES, None], "default": "auto"}, "seed": {**_LIMITS["seed"]},
        "partial_images": {"minimum": 0, "maximum": PARTIAL_IMAGES_MAX, "default": 0},
        "output_compression": {"minimum": 1, "maximum": QUALITY_MAX, "default": QUALITY_MAX},
    }.items():  # fmt: skip
        image[member].update(limits)
    schemas["Repeat"]["properties"]["units"].update({"minimum": 1, "maximum": UNITS_MAX})
    return schemas
