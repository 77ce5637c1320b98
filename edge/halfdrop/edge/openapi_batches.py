"""The part of the API's description that is about batches."""

import msgspec

from halfdrop.edge import api_examples as examples
from halfdrop.edge.batch_answers import Batch, BatchPage, make_links
from halfdrop.edge.batch_intake import ERRORS_LISTED_MAX, MEDIA_TYPES
from halfdrop.edge.batch_lines import LineError, LineRequest
from halfdrop.edge.batch_results import PARTIAL, RESULTS_FORMS, LineResult
from halfdrop.edge.batch_routes import ON_ERROR
from halfdrop.edge.names import BATCH_ID_LENGTH, BATCH_ID_PATTERN
from halfdrop.edge.openapi_parts import describe_operation, header, json_of, parameter
from halfdrop.edge.order_terms import CANCEL_AFTER, CANCEL_AFTER_PATTERN
from halfdrop.edge.schemas import REFERENCE, WEBHOOK_ADDRESS, Json

BATCH_STRUCTS = (LineRequest, Batch, BatchPage, LineResult, LineError)

BATCH_ID = examples.ORDER_ID[:BATCH_ID_LENGTH]

_LINES: list[Json] = [
    {"custom_id": "dots", "input": {"prompt": "red polka dots on white, half-drop", "size_px": 1024}},
    {"custom_id": "stripes", "input": {"prompt": "navy stripes on cream", "size_px": 1024}},
]
"""Each on a line of its own."""

_EXAMPLE: Json = {
    "id": BATCH_ID,
    "status": "running",
    "status_reason": None,
    "created_at": "2026-09-21T14:13:20.000Z",
    "started_at": "2026-09-21T14:13:21.250Z",
    "finished_at": None,
    "deadline": None,
    "counts": {
        "total": 1000, "refused": 10, "waiting": 700, "queued": 20, "processing": 2, "completed": 267, "failed": 1,
        "canceled": 0,
    },
    "progress": 0.2707,
    "eta_seconds": 74.5,
    "webhook": None,
    "urls": msgspec.structs.asdict(make_links(BATCH_ID, examples.ADDRESS)),
}  # fmt: skip


def describe_batches(key_parameter: Json, events: Json) -> Json:
    """Return the paths. key_parameter: Idempotency-Key, as orders have it; events: the content of a stream."""
    return {
        "/v1/batches": {"post": _create(key_parameter), "get": _list()},
        "/v1/batches/{batch_id}": {"get": _about("Tell how far a batch is", _BATCH)},
        "/v1/batches/{batch_id}/pause": {
            "post": _about("Place no more of its lines; what was placed goes on", _BATCH),
        },
        "/v1/batches/{batch_id}/resume": {"post": _about("Go on after a pause", _BATCH)},
        "/v1/batches/{batch_id}/cancel": {
            "post": _about("Place no more of its lines, and stop those that are placed", _BATCH)
        },
        "/v1/batches/{batch_id}/stream": {
            "get": _about(
                "Send the batch at each change as server-sent events, `status` and one `completed`, until it is over",
                events,
                (404, 429, 503),
            )
        },
        "/v1/batches/{batch_id}/results": {"get": _results()},
        "/v1/batches/{batch_id}/errors": {
            "get": _about(
                f"Send the lines that were refused, up to {ERRORS_LISTED_MAX}, and why: a LineError on each line",
                _jsonl(),
            )
        },
    }


_BATCH = json_of(Batch, _EXAMPLE)


def _create(key_parameter: Json) -> Json:
    problems = (400, 408, 409, 413, 415, 422, 429, 503)
    summary = "Order the files of thousands of patterns: a LineRequest on each line, placed in the bulk class by and by"
    operation = describe_operation(summary, 201, _BATCH, problems)
    # As OpenAPI 3.2 says of such media types: the schema is that of an array of the lines.
    line = {"$ref": REFERENCE.format(name=LineRequest.__name__)}
    body: Json = {"schema": {"type": "array", "items": line, "minItems": 1}, "example": _LINES}
    operation["requestBody"] = {"required": True, "content": dict.fromkeys(MEDIA_TYPES, body)}
    on_error = {"type": "string", "enum": list(ON_ERROR), "default": ON_ERROR[0]}
    webhook = {"type": "string", **WEBHOOK_ADDRESS}
    after = 'Cancel what is not finished by then: seconds, or such as "90s", "1m30s", "2h"'
    operation["parameters"] = [
        parameter("on_error", "query", on_error, "`refuse`: one bad line refuses the whole batch", ON_ERROR[1]),
        parameter("webhook", "query", webhook, "Address to be told of the batch's end", "https://example.com/done"),
        parameter(CANCEL_AFTER, "header", {"type": "string", "pattern": CANCEL_AFTER_PATTERN}, after, "2h"),
        key_parameter,
    ]
    operation["responses"]["201"]["headers"] = {"Location": header("Address of the batch")}
    return operation


def _list() -> Json:
    page = {"results": [_EXAMPLE], "next": None, "previous": None}
    operation = describe_operation("List batches, newest first", 200, json_of(BatchPage, page), (422, 503))
    cursor = {"type": "string", "pattern": BATCH_ID_PATTERN}
    operation["parameters"] = [parameter("cursor", "query", cursor, "From `next` of the page before", BATCH_ID)]
    return operation


def _results() -> Json:
    summary = (
        "Send what came of each line: a LineResult on each line, or a zip of a folder of files for each completed line "
        "and results.jsonl"
    )
    binary: Json = {"application/zip": {"schema": {"type": "string", "format": "binary"}}}
    operation = _about(summary, _jsonl() | binary, (404, 422, 503))
    form = {"type": "string", "enum": list(RESULTS_FORMS), "default": RESULTS_FORMS[0]}
    operation["parameters"].append(parameter("format", "query", form, "JSON Lines, or a zip with the files", "zip"))
    operation["responses"]["200"]["headers"] = {PARTIAL: header("`true` while the batch is not over; else absent")}
    return operation


def _about(summary: str, answers: Json, problems: tuple[int, ...] = (404, 503)) -> Json:
    operation = describe_operation(summary, 200, answers, problems)
    schema = {"type": "string", "minLength": BATCH_ID_LENGTH, "maxLength": BATCH_ID_LENGTH}
    operation["parameters"] = [parameter("batch_id", "path", schema, "The batch's id", BATCH_ID)]
    return operation


def _jsonl() -> Json:
    return {MEDIA_TYPES[0]: {"schema": {"type": "string"}}}
