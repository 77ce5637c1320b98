"""The API's description: OpenAPI 3.1, served at /schema/openapi.json.

Schemas come from the very Structs that decode requests and encode answers (schemas.py); paths are written here, with
what a client may send, an example, and every status it may get. A test holds routes and paths together; a fuzzer that
reads this description finds nothing that the edge does otherwise.
"""

from functools import lru_cache
from importlib.metadata import version

import msgspec
from litestar import MediaType, Response, get

from halfdrop.contracts.patterns import PREVIEW_SIZE_PX
from halfdrop.edge import api_examples as examples
from halfdrop.edge.degradation import HEADER
from halfdrop.edge.disconnects import NO, PARAMETER, PREFERENCE, YES
from halfdrop.edge.health import Health
from halfdrop.edge.idempotency import HEADER as IDEMPOTENCY_HEADER
from halfdrop.edge.idempotency import KEY_MAX_CHARS
from halfdrop.edge.image_answers import ImageEvent, Images
from halfdrop.edge.image_requests import ImageRequest
from halfdrop.edge.keys import TENANT_PATTERN
from halfdrop.edge.model_answers import ListedModel, ModelList
from halfdrop.edge.model_routes import Model, ModelVersion, ModelVersionPage
from halfdrop.edge.names import BATCH_ID_PATTERN, ID_LENGTH, ID_PATTERN
from halfdrop.edge.openai_errors import ErrorBody
from halfdrop.edge.openapi_batches import BATCH_ID, BATCH_STRUCTS, describe_batches
from halfdrop.edge.openapi_parts import body_of, describe_operation, describe_refusal, header, json_of, parameter
from halfdrop.edge.openapi_templates import TEMPLATE_STRUCTS, describe_templates
from halfdrop.edge.openapi_webhooks import WEBHOOK_STRUCTS, describe_webhooks
from halfdrop.edge.order_terms import CANCEL_AFTER, CANCEL_AFTER_PATTERN, WAIT_DEFAULT_S
from halfdrop.edge.picture_files import QUALITY_MAX, SIZES_PX
from halfdrop.edge.pool_routes import PoolList
from halfdrop.edge.prediction_streams import EVENT_FORMS, LAST_EVENT_ID
from halfdrop.edge.predictions import OWNER, Output, Prediction, PredictionPage
from halfdrop.edge.preview_routes import Preview
from halfdrop.edge.problems import Problem
from halfdrop.edge.requests import PredictionInput, PredictionRequest, PreviewRequest
from halfdrop.edge.schemas import Json, make_schemas
from halfdrop.edge.services import EdgeServices
from halfdrop.runtime.streams import IDEMPOTENCY_KEPT_S

_DEGRADED = (
    "What this answer suffers from, by the names of /healthz: nats, hub, redis, objects, disk, outbox; previews: the "
    "picture is smaller than asked for. Absent if nothing is the matter, and on what caches may keep"
)

_STRUCTS = (
    PreviewRequest,
    Preview,
    PredictionRequest,
    PredictionInput,
    Prediction,
    PredictionPage,
    Output,
    PoolList,
    Model,
    ModelVersion,
    ModelVersionPage,
    ImageRequest,
    Images,
    ImageEvent,
    ErrorBody,
    ListedModel,
    ModelList,
    Health,
    Problem,
    *BATCH_STRUCTS,
    *WEBHOOK_STRUCTS,
    *TEMPLATE_STRUCTS,
)

_EVENTS: Json = {
    "text/event-stream": {
        "schema": {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}
    }
}
"""Each event of a stream."""

_BODY_PROBLEMS = (400, 408, 413, 415, 422)


_KEY_OR_ADDRESS: list[Json] = [{"key": []}, {"address": []}, {}]

_SIGNATURE: list[Json] = [
    {"name": name, "in": "query", "schema": schema, "description": description, "example": example}
    for name, schema, description, example in (
        ("tenant", {"type": "string", "pattern": TENANT_PATTERN}, "In whose name; part of a signed address", "acme"),
        ("expires", {"type": "integer"}, "Unix seconds until which it can be fetched without a key", 1_790_003_600),
        ("signature", {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"}, "What makes it one", "A" * 43),
    )
]
"""Of the addresses in answers of an edge that asks for keys. Nobody but an edge can make them."""


@get("/schema/openapi.json")
async def get_openapi(edge: EdgeServices) -> Response[bytes]:
    """This description."""
    bundle = edge.previews.bundle
    names = (bundle.name, f"{bundle.name}-{bundle.version}", bundle.digest)
    checkpoints = tuple(sorted({m.name for m in edge.pools.imported() if m.kind == "checkpoint"}))
    description = describe_api(models=names, imported=checkpoints, asks_keys=not edge.door.is_open)
    return Response(msgspec.json.encode(description), media_type=MediaType.JSON)


@lru_cache(maxsize=4)
def describe_api(*, models: tuple[str, ...] = (), imported: tuple[str, ...] = (), asks_keys: bool = False) -> Json:
    """Return the OpenAPI document. models: what the edge's model may be called, if that is known; imported: names of
    users' models that pools have."""
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
            "/v1/predictions/{order_id}": {"get": _get_prediction()},
            "/v1/predictions/{order_id}/cancel": {
                "post": _tell_order("Ask that an order stop; harmless when it is finished")
            },
            "/v1/predictions/{order_id}/stream": {"get": _stream_prediction()},
            "/v1/predictions/{order_id}/files/{name}": {"get": _get_file()},
            **describe_batches(_idempotency_key(), _EVENTS),
            "/v1/predictions/{order_id}/progress/{name}": {"get": _get_progress_picture()},
            "/v1/pools": {
                "get": describe_operation(
                    "Tell of the pools that work at orders, and who waits", 200, json_of(PoolList), ()
                )
            },
            "/v1/images/generations": {"post": _create_images()},
            "/v1/models": {
                "get": describe_operation(
                    "List the names of the model, as OpenAI's clients do", 200, json_of(ModelList), ()
                )
            },
            "/v1/models/{name}": {"get": _get_listed_model()},
            "/v1/models/{owner}/{name}": {"get": _about_model("Describe the model", Model)},
            "/v1/models/{owner}/{name}/predictions": {"post": _named(_create_prediction())},
            "/v1/models/{owner}/{name}/versions": {
                "get": _about_model("List the versions that can be ordered", ModelVersionPage)
            },
            "/v1/models/{owner}/{name}/versions/{version}": {"get": _get_model_version()},
            **describe_webhooks(),
            **describe_templates(),
            "/metrics": {
                "get": describe_operation(
                    "Metrics for Prometheus", 200, {"text/plain": {"schema": {"type": "string"}}}, ()
                )
            },
            "/healthz": {
                "get": describe_operation("Tell each part's state", 200, json_of(Health), problems=(), is_public=True)
            },
            "/schema/openapi.json": {
                "get": describe_operation(
                    "This description", 200, {"application/json": {"schema": {"type": "object"}}}, (), is_public=True
                )
            },
        },
        "components": {
            "schemas": make_schemas(_STRUCTS, models, imported),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key"},
                "address": {"type": "apiKey", "in": "query", "name": "signature", "description": "A signed address"},
            },
        },
        "security": [{"key": []}] if asks_keys else [{"key": []}, {}],
    }


def _create_preview() -> Json:
    answers = {
        "image/webp": {"schema": {"type": "string", "format": "binary"}},
        **json_of(Preview, examples.preview()),
    }
    operation = describe_operation(
        "Draw a pattern, or find it: a WebP tile, or JSON about it", 200, answers, (*_BODY_PROBLEMS, 429, 503)
    )
    operation["requestBody"] = body_of(PreviewRequest, examples.PREVIEW_REQUEST)
    operation["responses"]["200"]["headers"] = {
        "Halfdrop-Key": header("The pattern's key"),
        "Content-Location": header("Where the picture is, for ever"),
        "ETag": header("Digest of the picture"),
        "Cache-Status": header("RFC 9211: whether it was drawn now or found, and where; variant or near: reused"),
        HEADER: header(_DEGRADED),
    }
    return operation


def _get_picture() -> Json:
    binary = {"schema": {"type": "string", "format": "binary"}}
    answers = {f"image/{kind}": binary for kind in ("webp", "png", "jpeg")}
    operation = describe_operation("The picture of a key, immutable", 200, answers, (404, 422, 429, 503))
    operation["responses"]["200"]["headers"] = {HEADER: header(_DEGRADED)}
    operation["responses"]["304"] = {"description": "You have it already (If-None-Match)"}
    operation["security"] = _KEY_OR_ADDRESS
    name = {"type": "string", "pattern": r"^[0-9a-f]{32}\.(webp|png|jpg)$"}
    size = {"type": "integer", "enum": list(SIZES_PX), "default": PREVIEW_SIZE_PX}
    quality = {"type": "integer", "minimum": 1, "maximum": QUALITY_MAX, "default": QUALITY_MAX}
    operation["parameters"] = [
        parameter("name", "path", name, "The key and .webp, .png or .jpg", examples.PICTURE_NAME),
        parameter("px", "query", size, "Width and height in pixels", 512),
        parameter("quality", "query", quality, "Of JPEG and WebP; WebP loses nothing at 100", 90),
        *_SIGNATURE,
    ]
    return operation


def _create_images() -> Json:
    answers = json_of(Images) | _EVENTS
    problems = (400, 408, 413, 415, 429, 503)
    operation = describe_operation(
        "Draw pictures, in the shape of OpenAI's Images API; the data of streamed events are ImageEvent",
        200,
        answers,
        problems,
    )
    for status, refusal in operation["responses"].items():
        if status != "200":
            refusal["content"] = json_of(ErrorBody)
    content = json_of(ImageRequest)
    content["application/json"]["examples"] = {
        name: {"value": example} for name, example in examples.IMAGES_REQUESTS.items()
    }
    operation["requestBody"] = {"required": True, "content": content}
    return operation


def _get_listed_model() -> Json:
    operation = describe_operation(
        "Describe a model by one of its names, as OpenAI's clients do", 200, json_of(ListedModel), ()
    )
    operation["parameters"] = [
        parameter("name", "path", {"type": "string"}, "house, house-5 or a digest", "house"),
    ]
    operation["responses"]["404"] = describe_refusal(404)
    return operation


def _create_prediction() -> Json:
    problems = (*_BODY_PROBLEMS, 409, 429, 503)
    operation = describe_operation(
        "Order the files of a pattern", 201, json_of(Prediction, examples.prediction()), problems
    )
    operation["requestBody"] = body_of(PredictionRequest, examples.ORDER_REQUEST)
    prefer = (
        f"`wait` or `wait=n`: answer when finished, or after n seconds ({WAIT_DEFAULT_S:g} at most); beside it "
        f"`{PREFERENCE}`: cancel the order if the client hangs up before"
    )
    after = 'Cancel the order if it has not finished by then: seconds, or such as "90s", "1m30s", "2h"'
    operation["parameters"] = [
        parameter("Prefer", "header", {"type": "string"}, prefer, "wait=10"),
        parameter(CANCEL_AFTER, "header", {"type": "string", "pattern": CANCEL_AFTER_PATTERN}, after, "5m"),
        _idempotency_key(),
    ]
    operation["responses"]["201"]["headers"] = {
        "Location": header("Address of the prediction"),
        HEADER: header(_DEGRADED),
    }
    return operation


def _idempotency_key() -> Json:
    key = f"The same key and body again give the first answer again, for {IDEMPOTENCY_KEPT_S / 3600:g} hours"
    written = {"type": "string", "pattern": rf'^"?[!#-\[\]-~]{{1,{KEY_MAX_CHARS}}}"?$'}
    return parameter(IDEMPOTENCY_HEADER, "header", written, key, examples.IDEMPOTENCY_KEY)


def _list_predictions() -> Json:
    page = {"results": [examples.prediction()], "next": None, "previous": None}
    operation = describe_operation("List orders, newest first", 200, json_of(PredictionPage, page), (404, 422, 503))
    cursor = {"type": "string", "pattern": ID_PATTERN}
    operation["parameters"] = [
        parameter("cursor", "query", cursor, "From `next` of the page before", examples.ORDER_ID),
        parameter("batch", "query", {"type": "string", "pattern": BATCH_ID_PATTERN}, "Those of a batch only", BATCH_ID),
    ]
    return operation


def _tell_order(summary: str) -> Json:
    return _about_order(summary, json_of(Prediction, examples.prediction()), (404, 503))


def _get_prediction() -> Json:
    operation = _tell_order("Tell what is known of an order")
    text = {"type": "string"}
    meaning = "The ETag of an earlier answer; 304 if nothing changed but estimates, by less than five seconds"
    operation["parameters"].append(parameter("If-None-Match", "header", text, meaning, 'W/"0"'))
    operation["responses"]["200"]["headers"] = {"ETag": header("Stands for everything that the answer says")}
    operation["responses"]["304"] = {"description": "You have it already (If-None-Match)"}
    return operation


def _stream_prediction() -> Json:
    summary = "Send what happens to an order as server-sent events, until it is final"
    answers = _EVENTS
    operation = _about_order(summary, answers, (404, 422, 503))
    form = {"type": "string", "enum": list(EVENT_FORMS), "default": EVENT_FORMS[0]}
    meaning = (
        "`snapshots`: the whole prediction at each change, events `status`, then one `completed`; `replicate`: events "
        "`logs`, `output` with a file's address, `error`, and `done` as the last"
    )
    operation["parameters"].append(parameter("events", "query", form, meaning, EVENT_FORMS[1]))
    resume = "The id of the last event that came, to go on from there; what is none is ignored"
    operation["parameters"].append(parameter(LAST_EVENT_ID, "header", {"type": "string"}, resume, "s0-1-1-7-2-93204"))
    operation["responses"]["204"] = {"description": "You have seen the end (Last-Event-ID)"}
    cut = "Cancel the order if the client closes the stream before its end"
    yes_or_no = {"type": "string", "enum": [*YES, *NO]}
    operation["parameters"].append(parameter(PARAMETER, "query", yes_or_no, cut, YES[0]))
    return operation


def _get_file() -> Json:
    binary = {"schema": {"type": "string", "format": "binary"}}
    answers = {"image/png": binary, "image/svg+xml": binary, "application/octet-stream": binary}
    operation = _about_order("Send a file of a finished order", answers, (404, 503))
    operation["parameters"].append(parameter("name", "path", {"type": "string"}, "File name", "master.png"))
    operation["parameters"] += _SIGNATURE
    operation["security"] = _KEY_OR_ADDRESS
    return operation


def _get_progress_picture() -> Json:
    answers = {"image/webp": {"schema": {"type": "string", "format": "binary"}}}
    operation = _about_order("Send what an order looks like so far, while it is sampled", answers, (404, 503))
    operation["parameters"].append(parameter("name", "path", {"type": "string"}, "Step and .webp", "7.webp"))
    operation["parameters"] += _SIGNATURE
    operation["security"] = _KEY_OR_ADDRESS
    return operation


def _about_order(summary: str, answers: Json, problems: tuple[int, ...]) -> Json:
    operation = describe_operation(summary, 200, answers, problems)
    schema = {"type": "string", "minLength": ID_LENGTH, "maxLength": ID_LENGTH}
    operation["parameters"] = [parameter("order_id", "path", schema, "The prediction's id", examples.ORDER_ID)]
    return operation


def _about_model(summary: str, kind: type[msgspec.Struct]) -> Json:
    return _named(describe_operation(summary, 200, json_of(kind), ()))


def _get_model_version() -> Json:
    operation = _about_model("Describe a version of the model", ModelVersion)
    operation["parameters"].append(parameter("version", "path", {"type": "string"}, "Name or digest", "house"))
    return operation


def _named(operation: Json) -> Json:
    names = (("owner", OWNER), ("name", "house"))
    named = [parameter(name, "path", {"type": "string"}, f"The model's {name}", known) for name, known in names]
    operation["parameters"] = [*named, *operation.get("parameters", [])]
    operation["responses"].setdefault("404", describe_refusal(404))
    return operation
