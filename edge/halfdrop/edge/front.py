"""The front: pictures that are on the shelf go out from here, everything else goes on to Litestar.

A hit costs a look-up and one call of the server's (hits_first.py); through the framework it would be four times that.
Here, too, are the rules that concern every other request whatever its route: keys, rate limits, foreign Host names, and
HEAD.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import xxhash
from granian._granian import RSGIHTTPProtocol
from granian.rsgi import Scope as RsgiScope
from moka_py import Moka

from halfdrop.contracts.errors import HalfdropError
from halfdrop.edge.access import KEY_HEADERS, SCOPE_NAME, Access, Door, Unauthorized
from halfdrop.edge.limits import Limit, QuotaExceeded, RateLimits, limit_headers
from halfdrop.edge.observing import PROBLEM_NAME, Observer
from halfdrop.edge.problems import MEDIA_TYPE, MisdirectedRequest, code_of, problem_of

CACHE_CONTROL = "public, max-age=31536000, immutable, stale-while-revalidate=86400, stale-if-error=604800"
"""A key names one picture for ever: whoever has it need not ask again."""

PRIVATE_CACHE_CONTROL = CACHE_CONTROL.replace("public", "private")
"""Where pictures are a tenant's own: no cache that others share may keep them."""

CACHE_NAME = "halfdrop"
_SHELF_STATUS = f"{CACHE_NAME}; hit; detail=memory"
_ALLOWED_HOSTS = frozenset({b"127.0.0.1", b"[::1]", b"localhost"})
_PORT = re.compile(rb":\d*$")
_ENTRY_OVERHEAD_BYTES = 2048
"""Headers and their lists."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Shelved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One picture as a finished answer."""

    etag: str
    webp: bytes
    headers: list[tuple[str, str]]
    unchanged_headers: list[tuple[str, str]]
    """Of the 304 for a client that has it."""


class Shelf:
    """Pictures as finished answers, by path and query; bounded in bytes, the popular ones stay."""

    def __init__(self, capacity_bytes: int, *, is_private: bool = False) -> None:
        self.cache_control = PRIVATE_CACHE_CONTROL if is_private else CACHE_CONTROL
        self.sent = self.sent_unchanged = 0
        """How often the front answered from here, with 200 and with 304. Nothing else is noted of a hit, and not in a
        dictionary, which costs a hit several times what an attribute does."""

        self._shelved: Moka[str, Shelved] = Moka(capacity_bytes, weigher=_weigh)

    def peek(self, target: str) -> Shelved | None:
        """Return the answer for `target`, a path or "path?px=256", behind its tenant's shelf_prefix."""
        return self._shelved.get(target)

    def answered(self) -> dict[tuple[str, str], int]:
        """Return those counts by method and status."""
        return {
            ("GET", "200"): self.sent,
            ("GET", "304"): self.sent_unchanged,
        }

    def put(self, target: str, webp: bytes) -> None:
        """Keep `webp` as the answer for `target`."""
        etag = make_etag(webp)
        kept = [("etag", etag), ("cache-control", self.cache_control), ("cache-status", _SHELF_STATUS)]
        sized = [("content-type", "image/webp"), ("content-length", str(len(webp)))]
        self._shelved.set(target, Shelved(etag=etag, webp=webp, headers=[*sized, *kept], unchanged_headers=kept))


def make_etag(data: bytes) -> str:
    """Return a strong entity tag: a digest of the bytes, so that another encoder's file has another one."""
    return f'"{xxhash.xxh3_64_hexdigest(data)}"'


def matches_etag(if_none_match: str, etag: str) -> bool:
    """True if a client that sent `if_none_match` has what `etag` names; weak comparison, as RFC 9110 wants it."""
    if if_none_match == etag:
        return True
    return if_none_match.strip() == "*" or etag in (t.strip().removeprefix("W/") for t in if_none_match.split(","))


class Front:
    """What the server runs: `try_hit` for each request, and as an ASGI application what that leaves."""

    def __init__(
        self,
        shelf: Shelf,
        inner: Callable[[Any, Any, Any], Awaitable[None]],
        door: Door,
        limits: RateLimits | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Serve `shelf`, and `inner` to whom `door` lets in, within `limits`; pictures on the shelf do not count."""
        self._observer = observer or Observer()
        self._limits = limits
        self._door = door
        self._shelf = shelf
        self._inner = inner

    def try_hit(self, scope: RsgiScope, proto: RSGIHTTPProtocol) -> bool:
        """Answer from the shelf and return True, or leave the request as it is. Runs in the server's thread."""
        if scope.method != "GET":
            return False
        access = self._door.local_access or self._admit_quietly(scope)
        if access is None or not access.may("previews"):
            return False
        target = f"{scope.path}?{scope.query_string}" if scope.query_string else scope.path
        shelved = self._shelf.peek(access.shelf_prefix + target)
        if shelved is None:
            return False
        if_none_match = scope.headers.get("if-none-match")
        if if_none_match is not None and matches_etag(if_none_match, shelved.etag):
            self._shelf.sent_unchanged += 1
            proto.response_empty(304, shelved.unchanged_headers)
        else:
            self._shelf.sent += 1
            proto.response_bytes(200, shelved.headers, shelved.webp)
        return True

    def _admit_quietly(self, scope: RsgiScope) -> Access | None:
        shown = ((name, scope.headers.get(name)) for name in KEY_HEADERS)
        try:
            return self._door.admit((name.encode(), value.encode()) for name, value in shown if value is not None)
        except Unauthorized:
            return None  # the application says so, with its reason

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        try:
            access = self._door.admit(scope["headers"])
        except Unauthorized as error:
            await self._observer.observe(scope, receive, send, partial(_refuse, error))
            return
        scope[SCOPE_NAME] = access
        await self._observer.observe(scope, receive, send, self._answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is not on the shelf."""
        access = scope[SCOPE_NAME]
        # A page of a foreign site can rebind its own name to 127.0.0.1 and post here; it has no key, though.
        if self._door.is_open and not _is_allowed_host(scope):
            await _send_problem(_misdirected(), scope, send)
            return
        if access is not None and self._limits is not None:
            stands = await self._limits.count(access, is_order=_is_order(scope))
            if stands:
                send = _with_limits(send, stands)
            if exceeded := [limit for limit in stands if limit.count > limit.policy.quota]:
                await _send_problem(QuotaExceeded(exceeded), scope, send)
                return
        if scope["method"] == "HEAD":
            scope["method"] = "GET"
            send = _without_body(send)
        await self._inner(scope, receive, send)


async def _refuse(error: HalfdropError, scope: Scope, _receive: Receive, send: Send) -> None:
    await _send_problem(error, scope, send)


def _is_allowed_host(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"host":
            return _PORT.sub(b"", value).lower() in _ALLOWED_HOSTS
    return True


def _misdirected() -> MisdirectedRequest:
    allowed = "127.0.0.1, localhost or [::1]"
    return MisdirectedRequest(f"host: got another name; allowed: {allowed}", code="misdirected-request")


async def _send_problem(error: HalfdropError, scope: Scope, send: Send) -> None:
    problem, extra = problem_of(error, scope["path"])
    scope[PROBLEM_NAME] = code_of(problem)
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
    body = b"" if scope["method"] == "HEAD" else msgspec.json.encode(problem)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _is_order(scope: Scope) -> bool:
    # However the path is written: the framework forgives slashes.
    return bool(scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/predictions"))


def _with_limits(send: Send, limits: list[Limit]) -> Send:
    fields = limit_headers(limits)

    async def send_limits(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *fields]}
        await send(message)

    return send_limits


def _without_body(send: Send) -> Send:
    async def send_headers(message: Any) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


def _weigh(target: str, shelved: Shelved) -> int:
    return len(target) + len(shelved.webp) + _ENTRY_OVERHEAD_BYTES
