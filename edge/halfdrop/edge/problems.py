"""The edge's one table from errors to HTTP: RFC 9457 problem documents.

Each says what was wrong, and for a bad member its name, what was got and what is allowed. Unexpected errors are
logged whole and say nothing to the client. Routes that speak OpenAI's language say the same in its envelope.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
)

from halfdrop.contracts.errors import (
    GOT_MAX_CHARS,
    HalfdropError,
    InvalidInput,
    NotFound,
    Overloaded,
    PermanentError,
    TransientError,
    Unavailable,
)
from halfdrop.edge.access import Forbidden, Unauthorized
from halfdrop.edge.admission import AnswerTooSlow, BodyTooSlow
from halfdrop.edge.batch_intake import BatchRefused
from halfdrop.edge.batch_lines import LineError
from halfdrop.edge.idempotency import InFlight, KeyReused
from halfdrop.edge.limits import QuotaExceeded, limit_headers
from halfdrop.edge.observing import PROBLEM_NAME
from halfdrop.edge.openai_errors import OPENAI_PATHS, error_of
from halfdrop.edge.orders import OutboxFull
from halfdrop.edge.requests import BodyTooLarge, MalformedBody, UnsupportedMediaType
from halfdrop.edge.signing import AddressRefused

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. `type` is a stable URN; `field`, `got` and `allowed` come with invalid input.

    `violated_policies` comes with a quota that was exceeded, whose `type` is registered at IANA.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str | None = None
    got: str | None = None
    allowed: str | None = None
    violated_policies: tuple[str, ...] | None = msgspec.field(default=None, name="violated-policies")
    errors: tuple[LineError, ...] | None = None
    """Of a batch that was refused: what is wrong with which line, the first thousand."""


class MisdirectedRequest(PermanentError):
    """The Host header names another server: a web page is being tricked into talking to this one."""


_TABLE: tuple[tuple[type[HalfdropError], int, str], ...] = (
    (InvalidInput, 422, "Invalid input"),
    (MalformedBody, 400, "Malformed body"),
    (BodyTooLarge, 413, "Body too large"),
    (UnsupportedMediaType, 415, "Unsupported media type"),
    (MisdirectedRequest, 421, "Misdirected request"),
    (Unauthorized, 401, "Unauthorized"),
    (Forbidden, 403, "Forbidden"),
    (AddressRefused, 403, "Address refused"),
    (NotFound, 404, "Not found"),
    (InFlight, 409, "Request in flight"),
    (KeyReused, 422, "Idempotency key reused"),
    (BatchRefused, 422, "Batch refused"),
    (BodyTooSlow, 408, "Request timeout"),
    (QuotaExceeded, 429, "Quota exceeded"),
    (Overloaded, 429, "Too many requests"),
    (Unavailable, 503, "Service unavailable"),
    (TransientError, 503, "Service unavailable"),
    (PermanentError, 500, "Internal error"),
)
"""Status and title by kind of error; the first row that fits counts."""

_TRANSIENT_CODES: tuple[tuple[type[TransientError], str], ...] = (
    (Overloaded, "overloaded"),
    (InFlight, "request-in-flight"),
    (OutboxFull, "outbox-full"),
    (BodyTooSlow, "body-too-slow"),
    (AnswerTooSlow, "answer-too-slow"),
)


def problem_of(error: Exception, instance: str, methods: Sequence[str] = ()) -> tuple[Problem, dict[str, str]]:
    """Return the problem document for `error` and the headers that go with it; methods: those the path takes."""
    if isinstance(error, HalfdropError):
        return _halfdrop_problem(error, instance)
    if isinstance(error, HTTPException):
        return _http_problem(error, instance, methods)
    log.error("unexpected_error", instance=instance, exc_info=error)
    return _problem(500, "internal-error", "Internal error", "the edge failed; its log says why", instance), {}


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler."""
    path = request.scope["path"]
    methods = _methods_of(request, path) if isinstance(error, MethodNotAllowedException) else ()
    problem, headers = problem_of(error, path, methods)
    request.scope[PROBLEM_NAME] = code_of(problem)  # type: ignore[literal-required]
    status, body, media_type = encode_problem(problem, path)
    return Response(body, status_code=status, headers=headers, media_type=media_type)


def encode_problem(problem: Problem, path: str) -> tuple[int, bytes, str]:
    """Return status, body and media type of `problem` as the clients of `path` expect it."""
    if path.rstrip("/") not in OPENAI_PATHS:
        return problem.status, msgspec.json.encode(problem), MEDIA_TYPE
    error = error_of(status=problem.status, code=code_of(problem), message=problem.detail, param=problem.field)
    # OpenAI's clients know no 422 for a body that is not right.
    return 400 if problem.status == 422 else problem.status, msgspec.json.encode(error), "application/json"


def code_of(problem: Problem) -> str:
    """Return the last word of the problem's type, one of a few that this code knows: "quota-exceeded"."""
    return re.split("[:#]", problem.type)[-1]


def _halfdrop_problem(error: HalfdropError, instance: str) -> tuple[Problem, dict[str, str]]:
    status, title = next((status, title) for kind, status, title in _TABLE if isinstance(error, kind))
    detail = getattr(error, "detail", str(error))
    if isinstance(error, InvalidInput):
        problem = Problem(
            type=f"urn:halfdrop:{error.code}",
            title=title,
            status=status,
            detail=detail,
            instance=instance,
            field=error.field,
            got=error.got,
            allowed=error.allowed,
        )
        return problem, {}
    if isinstance(error, TransientError):
        code = next((code for kind, code in _TRANSIENT_CODES if isinstance(error, kind)), "unavailable")
        headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        if isinstance(error, BodyTooSlow):
            headers["Connection"] = "close"  # what is still to come of the body is not waited for
        problem = _problem(status, code, title, detail, instance)
        if isinstance(error, QuotaExceeded):
            problem = msgspec.structs.replace(problem, type=QUOTA_EXCEEDED, violated_policies=error.violated)
            headers |= {name.decode(): value.decode() for name, value in limit_headers(error.stands)}
        return problem, headers
    assert isinstance(error, PermanentError)
    if status >= 500:
        log.error("internal_error", instance=instance, exc_info=error)
    headers = {"WWW-Authenticate": 'Bearer realm="halfdrop"'} if isinstance(error, Unauthorized) else {}
    problem = _problem(status, error.code, title, detail, instance)
    if isinstance(error, BatchRefused):
        problem = msgspec.structs.replace(problem, errors=error.errors)
    return problem, headers


def _http_problem(error: HTTPException, instance: str, methods: Sequence[str]) -> tuple[Problem, dict[str, str]]:
    """Translate what the framework itself refuses."""
    status = error.status_code
    if isinstance(error, MethodNotAllowedException):
        allow = ", ".join(methods)
        detail = f"method: got one that {instance[:GOT_MAX_CHARS]} does not take; allowed: {allow}"
        return _problem(status, "method-not-allowed", "Method not allowed", detail, instance), {"Allow": allow}
    if isinstance(error, NotFoundException):
        detail = f"nothing is served at {instance[:GOT_MAX_CHARS]}; /schema/openapi.json lists what is"
        return _problem(status, "not-found", "Not found", detail, instance), {}
    code = "bad-request" if isinstance(error, ClientException) else "internal-error"
    return _problem(status, code, "Bad request" if status < 500 else "Internal error", error.detail, instance), {}


def _methods_of(request: Request[Any, Any, Any], path: str) -> list[str]:
    """Return the methods of the route that `path` belongs to; the framework refuses the others without saying."""
    for pattern, by_method in request.app.route_handler_method_map.items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", pattern), path):
            return sorted(str(method) for method in by_method)
    return []


def _problem(status: int, code: str, title: str, detail: str, instance: str) -> Problem:
    return Problem(
        type=f"urn:halfdrop:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=instance[:GOT_MAX_CHARS],
    )
