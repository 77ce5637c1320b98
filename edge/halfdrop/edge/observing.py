"""What is seen of each request that the shelf did not answer: a count, a duration, a span, a line in the log.

Counts are by what the code bounds: route templates, methods, statuses, problem codes. Never by a path, a key, a tenant
or a prompt. metrics.py names what is counted here.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from opentelemetry.trace import SpanKind

from halfdrop.edge.access import SCOPE_NAME, Access
from halfdrop.runtime import semantics
from halfdrop.runtime.durations import DurationsBy
from halfdrop.runtime.tracing import OFF, TRACEPARENT, TRACERESPONSE, TRACESTATE, Tracing, mark_failed, traceresponse

log = structlog.get_logger()

PROBLEM_NAME = "halfdrop.problem"
"""Where in the scope the code of a problem document stands, once one was sent."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "_OTHER"
"""What OpenTelemetry calls the rest: anybody can send any word."""

UNMATCHED = "unmatched"
"""The route of what is served nowhere, and of what was refused before a route was looked for."""

CLIENT_GONE = 499
"""nginx's number for a client that left before there was an answer; nobody receives it."""

LINES_PER_S, LINES_BURST = 20.0, 100.0
"""Bound of the access log: 20 lines a second are 0.4 GB a day, the most that any flood of refusals can cause."""

Message = dict[str, Any]
Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
Answer = Callable[[Scope, Any, Send], Awaitable[None]]

_TRACE_HEADERS = {TRACEPARENT.encode(): TRACEPARENT, TRACESTATE.encode(): TRACESTATE}


class Traffic:
    """Counts of answers since the start."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str, str]] = Counter()
        """By route template, method, status, and what the cache had to do with it: hit, miss or none."""

        self.problems: Counter[tuple[str, str]] = Counter()
        """By route template and problem code."""

        self.pictures: Counter[tuple[str]] = Counter()
        """Previews sent, by kind of reuse."""

        self.durations = DurationsBy()
        """By route template and method."""

        self.in_flight = 0


class _Seen:
    """What an answer turned out to be."""

    def __init__(self, method: str) -> None:
        self.method = method if method in METHODS else OTHER_METHOD
        self.route = UNMATCHED
        self.status = 0
        self.cache = "none"
        self.reuse = ""

    def take(self, start: Message) -> None:
        self.status = start["status"]
        for name, value in start["headers"]:
            if name.lower() == b"cache-status":
                self.cache, self.reuse = read_cache_status(value)


class Observer:
    """Watches requests for one edge."""

    def __init__(self, tracing: Tracing = OFF) -> None:
        self.traffic = Traffic()
        self._tracing = tracing
        self._lines = LineBudget(time.monotonic)

    async def observe(self, scope: Scope, receive: Any, send: Send, answer: Answer) -> None:
        """Have the request answered by `answer`, and note how it went."""
        began_s = time.perf_counter()
        seen = _Seen(scope["method"])
        attributes = {semantics.HTTP_REQUEST_METHOD: seen.method}
        self.traffic.in_flight += 1
        with self._tracing.span(
            seen.method, kind=SpanKind.SERVER, attributes=attributes, headers=_trace_headers(scope["headers"])
        ) as span:
            trace = traceresponse(span).encode()

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seen.take(message)
                    if trace:
                        headers = [*message["headers"], (TRACERESPONSE.encode(), trace)]
                        message = {**message, "headers": headers}
                await send(message)

            try:
                await answer(scope, receive, watch)
            except asyncio.CancelledError:
                seen.status = seen.status or CLIENT_GONE
                raise
            finally:
                self.traffic.in_flight -= 1
                seen.status = seen.status or 500
                seen.route = scope.get("path_template") or UNMATCHED
                span.update_name(f"{seen.method} {seen.route}")
                span.set_attribute(semantics.HTTP_ROUTE, seen.route)
                span.set_attribute(semantics.HTTP_RESPONSE_STATUS_CODE, seen.status)
                if seen.status >= 500:
                    mark_failed(span, scope.get(PROBLEM_NAME) or str(seen.status))
                elapsed_s = time.perf_counter() - began_s
                self._count(seen, scope.get(PROBLEM_NAME) or str(seen.status), elapsed_s)
                self._log(seen, scope, elapsed_s)

    def _count(self, seen: _Seen, code: str, elapsed_s: float) -> None:
        traffic = self.traffic
        traffic.requests[seen.route, seen.method, str(seen.status), seen.cache] += 1
        traffic.durations.add((seen.route, seen.method), elapsed_s)
        if seen.status >= 400:
            traffic.problems[seen.route, code] += 1
        elif seen.reuse:
            traffic.pictures[(seen.reuse,)] += 1

    def _log(self, seen: _Seen, scope: Scope, elapsed_s: float) -> None:
        """Write a line about what an operator asks about: what was refused, and what was begun; at level debug about
        the rest, which is in the metrics."""
        is_worth_a_line = seen.status >= 400 or seen.status in (201, 202)
        left_out = self._lines.take() if is_worth_a_line else 0
        if left_out is None:
            return
        access: Access | None = scope.get(SCOPE_NAME)
        fields = {
            "route": seen.route,
            "method": seen.method,
            "status": seen.status,
            "elapsed_ms": round(elapsed_s * 1000, 1),
            "tenant": access.tenant if access else "",
            "problem": scope.get(PROBLEM_NAME, ""),
            "lines_left_out": left_out,
        }
        say = log.info if is_worth_a_line else log.debug
        say("request", **{name: value for name, value in fields.items() if value})


class LineBudget:
    """How many lines may be written: LINES_PER_S, and LINES_BURST at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines = LINES_BURST
        self._at_s = clock()
        self._left_out = 0

    def take(self) -> int | None:
        """Return how many lines were left out before this one, or None to leave this one out too."""
        now_s = self._clock()
        self._lines = min(LINES_BURST, self._lines + (now_s - self._at_s) * LINES_PER_S)
        self._at_s = now_s
        if self._lines < 1:
            self._left_out += 1
            return None
        self._lines -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def read_cache_status(value: bytes) -> tuple[str, str]:
    """Return (hit or miss, kind of reuse) from our own Cache-Status."""
    _, *members = (part.strip() for part in value.split(b";"))
    is_hit = b"hit" in members
    for kind in ("variant", "near"):
        if f"detail={kind}".encode() in members:
            return "hit" if is_hit else "miss", kind
    return ("hit", "exact") if is_hit else ("miss", "none")


def _trace_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """Return what W3C's trace headers say; None where there are none."""
    found = {_TRACE_HEADERS[name]: value.decode("latin-1") for name, value in headers if name in _TRACE_HEADERS}
    return found or None
