"""How much at once, and for how long: what stands between the front and the framework.

A tenant may have so many requests and so many open streams at an edge as its tier says; a body must arrive, and an
answer begin, within a time limit. Hits on the shelf and public pages do not come by here or do not count. Counted by
each edge for itself: what is bounded is this process's memory and patience.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from halfdrop.contracts.errors import TransientError
from halfdrop.edge.access import SCOPE_NAME, Access
from halfdrop.edge.keys import Tier
from halfdrop.edge.limits import QuotaExceeded
from halfdrop.edge.order_terms import WAIT_MAX_S, read_wait
from halfdrop.edge.requests import MalformedBody

Kind = Literal["requests", "streams"]

AT_ONCE: dict[Tier, dict[Kind, int]] = {
    "standard": {"requests": 32, "streams": 32},
    "plus": {"requests": 256, "streams": 256},
    "unlimited": {"requests": 1024, "streams": 1024},
}
"""Requests: those that draw, or wait for an order's end. Streams: events of orders, files and results on their
way. A page in a browser has six of both together. "unlimited" still ends where this process would suffer."""

RETRY_AFTER_S = 1.0

BATCHES_PATH = "/v1/batches"

_BODY_HEADERS = (b"content-length", b"transfer-encoding")
"""Who sends one of them will send a body."""

App = Callable[[Any, Any, Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


class TooManyAtOnce(QuotaExceeded):
    """A tenant has as much in flight at this edge as its tier allows."""

    def __init__(self, kind: Kind, quota: int) -> None:
        what = "requests in flight" if kind == "requests" else "open streams"
        detail = f"your tier allows {quota} {what} at once; wait for an answer to one, or ask for another tier"
        TransientError.__init__(self, detail, retry_after_s=RETRY_AFTER_S)
        self.violated = (f"{kind}-at-once",)
        self.stands = []


class BodyTooSlow(TransientError):
    """The rest of a body did not come in time."""


class AnswerTooSlow(TransientError):
    """No answer was found in time: something behind the edge is slow."""


class Admission:
    """An ASGI application around another. Raises TooManyAtOnce and AnswerTooSlow before anything was sent."""

    def __init__(self, inner: App, *, body_s: float, answer_s: float, batch_s: float = 0) -> None:
        """body_s: for the whole body; answer_s: until an answer begins, beside the wait that a client prefers; batch_s:
        more of both for a batch, which is megabytes and checked line by line."""
        self._inner = inner
        self._body_s = body_s
        self._answer_s = answer_s
        self._batch_s = batch_s
        self._counts: Counter[tuple[str, Kind]] = Counter()

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        with self._hold(scope.get(SCOPE_NAME), _kind_of(scope["path"])):
            if any(name in _BODY_HEADERS for name, _ in scope["headers"]):
                receive = _in_time(receive, self._body_s + self._more_s(scope))
            await self._answer_in_time(scope, receive, send)

    @contextmanager
    def _hold(self, access: Access | None, kind: Kind | None) -> Iterator[None]:
        """Count one more of `kind` inside the block. Raises TooManyAtOnce."""
        if access is None or kind is None:
            yield
            return
        held, quota = (access.tenant, kind), AT_ONCE[access.tier][kind]
        if self._counts[held] >= quota:
            raise TooManyAtOnce(kind, quota)
        self._counts[held] += 1
        try:
            yield
        finally:
            self._counts[held] -= 1
            if not self._counts[held]:
                del self._counts[held]

    async def _answer_in_time(self, scope: Any, receive: Receive, send: Any) -> None:
        limit_s = self._answer_s + (WAIT_MAX_S if _waits(scope) else 0) + self._more_s(scope)

        async def send_in_time(message: Any) -> None:
            if message["type"] == "http.response.start":
                deadline.reschedule(None)  # an answer has begun: it may take as long as its reader
            await send(message)

        try:
            async with asyncio.timeout(limit_s) as deadline:
                await self._inner(scope, receive, send_in_time)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            detail = f"no answer within {limit_s:g} s: something behind this edge is slow; what was begun may go on"
            raise AnswerTooSlow(detail, retry_after_s=RETRY_AFTER_S) from error

    def _more_s(self, scope: Any) -> float:
        is_batch = scope["method"] == "POST" and scope["path"].rstrip("/") == BATCHES_PATH
        return self._batch_s if is_batch else 0.0


def _kind_of(path: str) -> Kind | None:
    """Return what a request counts as; the framework forgives slashes at the end."""
    if not path.startswith(("/v1/", "/p/")):
        return None
    return "streams" if path.rstrip("/").endswith(("/stream", "/results")) or "/files/" in path else "requests"


def _waits(scope: Any) -> bool:
    return any(name == b"prefer" and read_wait(value.decode("latin-1")) for name, value in scope["headers"])


def _in_time(receive: Receive, limit_s: float) -> Receive:
    """Return `receive` that raises BodyTooSlow when the body is not whole within `limit_s` from now.

    It raises MalformedBody when the body ends before: a connection cut, or only half closed, or chunks that are none.
    """
    until_s = asyncio.get_running_loop().time() + limit_s
    is_whole = False

    async def receive_in_time() -> Any:
        nonlocal is_whole
        if is_whole:  # only the end of the connection can come now, and that may take long
            return await receive()
        try:
            async with asyncio.timeout_at(until_s):
                message = await receive()
        except TimeoutError as error:
            detail = f"body: not whole within {limit_s:g} s; allowed: one that is"
            raise BodyTooSlow(detail, retry_after_s=RETRY_AFTER_S) from error
        if message["type"] != "http.request":
            raise MalformedBody("body: it ended before it was whole; allowed: one that is", code="malformed-body")
        is_whole = not message.get("more_body", False)
        return message

    return receive_in_time
