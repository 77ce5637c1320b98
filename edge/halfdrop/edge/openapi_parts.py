"""What every operation of the API's description is put together from."""

from typing import Any

import msgspec

from halfdrop.edge.problems import MEDIA_TYPE, Problem
from halfdrop.edge.schemas import REFERENCE, Json

_PROBLEMS = {
    400: "The body is not JSON",
    401: "No API key, or one that opens nothing; an open edge asks for none",
    403: "The key lacks the scope that this needs, or the address is altered or has expired",
    404: "No such thing",
    408: "The body did not arrive in time",
    409: "The first request with this Idempotency-Key is still being answered",
    413: "The body is too large",
    415: "The body is not declared to be what it must be: application/json, or JSON Lines for a batch",
    421: "The Host header names another server",
    422: "A member is outside its limits; the problem names it, what was got and what is allowed",
    429: "Too much to do, or more than the tier's quota; try again after Retry-After seconds",
    503: "Something behind the edge is away or slow; try again after Retry-After seconds",
}


def describe_operation(
    summary: str, status: int, answers: Json, problems: tuple[int, ...], *, is_public: bool = False
) -> Json:
    """Return an operation that answers `status` with `answers`, a problem for each of `problems`, and what all have."""
    # A key that opens nothing is refused everywhere; where none is needed, nobody lacks a scope.
    codes = {*problems, 401, 421, 503} | (set() if is_public else {403, 429})
    refused = {str(code): describe_refusal(code) for code in sorted(codes)}
    operation: Json = {"summary": summary, "responses": {str(status): {"description": summary, "content": answers}}}
    operation["responses"].update(refused)
    return {**operation, "security": [{}]} if is_public else operation


def describe_refusal(code: int) -> Json:
    """Return an answer with a problem document."""
    problem = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(name=Problem.__name__)}}}
    return {"description": _PROBLEMS[code], "content": problem}


def json_of(kind: type[msgspec.Struct], example: Json | None = None) -> Json:
    """Return the content of a body with one of our Structs."""
    content: Json = {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}
    return {"application/json": {**content, "example": example} if example else content}


def body_of(kind: type[msgspec.Struct], example: Json) -> Json:
    """Return a request body."""
    return {"required": True, "content": json_of(kind, example)}


def parameter(name: str, place: str, schema: Json, description: str, example: Any) -> Json:
    """Return a parameter; place: "path", "query" or "header"."""
    found = {"name": name, "in": place, "schema": schema, "description": description, "example": example}
    return {**found, "required": True} if place == "path" else found


def header(description: str) -> Json:
    """Return a field of an answer."""
    return {"description": description, "schema": {"type": "string"}}
