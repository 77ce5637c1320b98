"""The forecaster's one table from errors to HTTP: RFC 9457 problem documents, as the edge answers them."""

import math
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from halfdrop.contracts.errors import (
    HalfdropError,
    InvalidInput,
    NotFound,
    Overloaded,
    PermanentError,
    TransientError,
)

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


class Misdirected(PermanentError):
    """The Host or the Origin names somebody else: a web page is being tricked into talking to us."""


_TABLE: tuple[tuple[type[HalfdropError], int, str], ...] = (
    (InvalidInput, 422, "Invalid input"),
    (NotFound, 404, "Not found"),
    (Misdirected, 421, "Misdirected request"),
    (Overloaded, 429, "Too many requests"),
    (TransientError, 503, "Service unavailable"),
    (PermanentError, 409, "Not possible"),
)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document; `field`, `got` and `allowed` come with invalid input."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str | None = None
    got: str | None = None
    allowed: str | None = None


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler."""
    instance = request.url.path[:200]
    headers: dict[str, str] = {}
    if isinstance(error, HalfdropError):
        status, title = next((status, title) for kind, status, title in _TABLE if isinstance(error, kind))
        code = error.code if isinstance(error, PermanentError) else "unavailable"
        problem = Problem(
            type=f"urn:halfdrop:{code}",
            title=title,
            status=status,
            detail=getattr(error, "detail", str(error)),
            instance=instance,
            field=getattr(error, "field", None),
            got=getattr(error, "got", None),
            allowed=getattr(error, "allowed", None),
        )
        if isinstance(error, TransientError):
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, HTTPException):
        problem = Problem(
            type="urn:halfdrop:bad-request" if error.status_code < 500 else "urn:halfdrop:internal-error",
            title="Bad request" if error.status_code < 500 else "Internal error",
            status=error.status_code,
            detail=_explain(error),
            instance=instance,
        )
        if error.status_code >= 500:
            log.error("unexpected_error", instance=instance, exc_info=error)
    else:
        log.error("unexpected_error", instance=instance, exc_info=error)
        problem = Problem(
            type="urn:halfdrop:internal-error",
            title="Internal error",
            status=500,
            detail="the forecaster failed; its log says why",
            instance=instance,
        )
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def _explain(error: HTTPException) -> str:
    """Return the framework's words, with those about single parameters, which it keeps apart."""
    if error.status_code == 404:
        return "nothing is served there; /schema/openapi.json lists what is"
    extra = error.extra if isinstance(error.extra, list) else []
    words = [f"{each.get('key', '')}: {each.get('message', '')}" for each in extra if isinstance(each, dict)]
    return "; ".join([error.detail.split(" for ")[0], *words])[:400]
