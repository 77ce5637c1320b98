"""The raw ASGI front: pictures that are on the shelf go out from here, everything else goes on to Litestar.

A hit costs a look-up and two ready-made messages; through the framework it would be twice that. Here, too, are the
rules that concern every request whatever its route: keys, rate limits, foreign Host names, and HEAD.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import xxhash
from moka_py import Moka

from halfdrop.contracts.errors import HalfdropError
from halfdrop.edge.access import SCOPE_NAME, Access, Door, Unauthorized
from halfdrop.edge.limits import Limit, QuotaExceeded, RateLimits, limit_headers
from halfdrop.edge.names import shelf_targets
from halfdrop.edge.problems import MEDIA_TYPE, MisdirectedRequest, problem_of

CACHE_CONTROL = "public, max-age=31536000, immutable, stale-while-revalidate=86400, stale-if-error=604800"
"""A key names one picture for ever: whoever has it need not ask again."""

PRIVATE_CACHE_CONTROL = CACHE_CONTROL.replace("public", "private")
"""Where pictures are a tenant's own: no cache that others share may keep them."""

CACHE_NAME = "halfdrop"
_SHELF_STATUS = f"{CACHE_NAME}; hit; detail=memory".encode()
_ALLOWED_HOSTS = frozenset({b"127.0.0.1", b"[::1]", b"localhost"})
_PORT = re.compile(rb":\d*$")
_ENTRY_OVERHEAD_BYTES = 2048
"""Headers, messages and their dictionaries."""

READ_MAX_S = 15.0
"""No read of a picture takes longer: what was under way when it was invalidated is not shelved for so long."""

GONE_MAX = 4096
"""Invalidated pictures that are remembered for that time."""

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_NO_BODY: Message = {"type": "http.response.body", "body": b""}


class Shelved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One picture as finished messages."""

    etag: bytes
    start: Message
    body: Message
    unchanged: Message
    key: str
    """The picture's cache key, tenant included; empty if nobody counts it."""


class Shelf:
    """Pictures as finished answers, by path and query; bounded in bytes, the popular ones stay.

    It is above the cache and forgets what that forgets: `halfdrop.cache.tiered.Above`.
    """

    def __init__(
        self, capacity_bytes: int, *, is_private: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cache_control = PRIVATE_CACHE_CONTROL if is_private else CACHE_CONTROL
        self._shelved: Moka[str, Shelved] = Moka(capacity_bytes, weigher=_weigh)
        self._clock = clock
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._cleared_s = float("-inf")

    def peek(self, target: str) -> Shelved | None:
        """Return the answer for `target`, a path or "path?px=256", behind its tenant's shelf_prefix."""
        return self._shelved.get(target)

    def put_picture(self, key: str, webp: bytes) -> None:
        """Keep the picture with this cache key at each of its addresses, unless it was invalidated just now."""
        if self._clock() < max(self._cleared_s, self._gone.get(key, self._cleared_s)) + READ_MAX_S:
            return
        for target in shelf_targets(key):
            self.put(target, webp, key=key)

    def forget(self, key: str) -> None:
        self._gone[key] = self._clock()
        self._gone.move_to_end(key)
        if len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)
        for target in shelf_targets(key):
            self._shelved.remove(target)

    def clear(self) -> None:
        self._cleared_s = self._clock()
        self._shelved.clear()

    def put(self, target: str, webp: bytes, *, key: str = "") -> None:
        """Keep `webp` as the answer for `target`."""
        etag = make_etag(webp).encode()
        kept = [(b"etag", etag), (b"cache-control", self.cache_control.encode()), (b"cache-status", _SHELF_STATUS)]
        sized = [(b"content-type", b"image/webp"), (b"content-length", str(len(webp)).encode())]
        shelved = Shelved(
            etag=etag,
            start={"type": "http.response.start", "status": 200, "headers": [*sized, *kept]},
            body={"type": "http.response.body", "body": webp},
            unchanged={"type": "http.response.start", "status": 304, "headers": kept},
            key=key,
        )
        self._shelved.set(target, shelved)


def make_etag(data: bytes) -> str:
    """Return a strong entity tag: a digest of the bytes, so that another encoder's file has another one."""
    return f'"{xxhash.xxh3_64_hexdigest(data)}"'


def matches_etag(if_none_match: bytes, etag: bytes) -> bool:
    """True if a client that sent `if_none_match` has what `etag` names; weak comparison, as RFC 9110 wants it."""
    return if_none_match.strip() == b"*" or etag in (t.strip().removeprefix(b"W/") for t in if_none_match.split(b","))


class Front:
    """The ASGI application that the server runs."""

    def __init__(
        self,
        shelf: Shelf,
        inner: Callable[[Any, Any, Any], Awaitable[None]],
        door: Door,
        limits: RateLimits | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Serve `shelf`, and `inner` to whom `door` lets in, within `limits`; pictures on the shelf do not count.

        note: told the cache key of each picture that goes out from the shelf.
        """
        self._note = note
        self._limits = limits
        self._door = door
        self._shelf = shelf
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method = scope["method"]
            try:
                access = self._door.admit(scope["headers"])
            except Unauthorized as error:
                await _send_problem(error, scope, send)
                return
            scope[SCOPE_NAME] = access
            if method in ("GET", "HEAD") and access is not None and access.may("previews"):
                query = scope["query_string"]
                path = scope["path"]
                shelved = self._shelf.peek(_target(access, path, query))
                if shelved is not None:
                    if self._note is not None:
                        self._note(shelved.key)
                    await _send_shelved(shelved, scope, send)
                    return
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
            if method == "HEAD":
                scope["method"] = "GET"
                send = _without_body(send)
        await self._inner(scope, receive, send)


async def _send_shelved(shelved: Shelved, scope: Scope, send: Send) -> None:
    for name, value in scope["headers"]:
        if name == b"if-none-match" and matches_etag(value, shelved.etag):
            await send(shelved.unchanged)
            await send(_NO_BODY)
            return
    await send(shelved.start)
    await send(shelved.body if scope["method"] == "GET" else _NO_BODY)


def _is_allowed_host(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"host":
            return _PORT.sub(b"", value).lower() in _ALLOWED_HOSTS
    return True


def _target(access: Access, path: str, query: bytes) -> str:
    target = f"{path}?{query.decode('latin-1')}" if query else path
    return access.shelf_prefix + target


def _misdirected() -> MisdirectedRequest:
    allowed = "127.0.0.1, localhost or [::1]"
    return MisdirectedRequest(f"host: got another name; allowed: {allowed}", code="misdirected-request")


async def _send_problem(error: HalfdropError, scope: Scope, send: Send) -> None:
    problem, extra = problem_of(error, scope["path"])
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
    return len(target) + len(shelved.body["body"]) + _ENTRY_OVERHEAD_BYTES
