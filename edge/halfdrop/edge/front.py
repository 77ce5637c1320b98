"""The front: pictures that are on the shelf go out from here, everything else goes on to Litestar.

A hit costs a look-up and one call of the server's (hits_first.py); through the framework it would be four times that.
Here, too, are the rules that concern every other request whatever its route: keys, signed addresses, rate limits,
foreign Host names, and HEAD.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from granian._granian import RSGIHTTPProtocol
from granian.rsgi import Scope as RsgiScope

from halfdrop.contracts.errors import HalfdropError, TransientError
from halfdrop.edge.access import KEY_HEADERS, SCOPE_NAME, Access, Door, Unauthorized
from halfdrop.edge.limits import Limit, QuotaExceeded, RateLimits, find_exceeded, limit_headers
from halfdrop.edge.observing import PROBLEM_NAME, Observer
from halfdrop.edge.problems import MisdirectedRequest, code_of, encode_problem, problem_of
from halfdrop.edge.shelf import Shelf
from halfdrop.edge.signing import AddressRefused, without_signature
from halfdrop.runtime.entity_tags import matches_tag

_ALLOWED_HOSTS = frozenset({b"127.0.0.1", b"[::1]", b"localhost"})
_PORT = re.compile(rb":\d*$")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Front:
    """What the server runs: `try_hit` for each request, and as an ASGI application what that leaves."""

    def __init__(
        self,
        shelf: Shelf,
        inner: Callable[[Any, Any, Any], Awaitable[None]],
        door: Door,
        limits: RateLimits | None = None,
        *,
        observer: Observer | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Serve `shelf`, and `inner` to whom `door` lets in, within `limits`; pictures on the shelf do not count.

        note: told the cache key of each picture that goes out from the shelf, in the server's thread.
        """
        self._observer = observer or Observer()
        self._note = note
        self._limits = limits
        self._door = door
        self._shelf = shelf
        self._inner = inner

    def try_hit(self, scope: RsgiScope, proto: RSGIHTTPProtocol) -> bool:
        """Answer from the shelf and return True, or leave the request as it is. Runs in the server's thread."""
        is_head = scope.method == "HEAD"
        if not is_head and scope.method != "GET":
            return False
        query, headers = scope.query_string, scope.headers
        access, seconds = self._door.local_access, None
        if access is None:
            access, seconds = self._admit_quietly(scope)
            query = without_signature(query.encode()).decode() if seconds is not None else query
        if access is None or not access.may("previews"):
            return False
        shelved = self._shelf.peek(access.shelf_prefix + (f"{scope.path}?{query}" if query else scope.path))
        if shelved is None:
            return False
        if self._note is not None and shelved.key:
            self._note(shelved.key)
        if_none_match = headers.get("if-none-match")
        is_known = if_none_match is not None and matches_tag(if_none_match, shelved.etag)
        fields = shelved.unchanged_headers if is_known else shelved.headers
        if seconds is not None:
            fields = [field for field in fields if field[0] != "cache-control"]
            fields.append(("cache-control", _lifetime(seconds)))
        self._shelf.count(is_head=is_head, is_known=is_known)
        if is_known:
            proto.response_empty(304, fields)
        else:
            proto.response_bytes(200, fields, b"" if is_head else shelved.data)
        return True

    def _admit_quietly(self, scope: RsgiScope) -> tuple[Access | None, int | None]:
        """Return who asks, and for how many seconds a signed address is good; nobody where __call__ says why."""
        query = scope.query_string.encode()
        try:
            if self._door.asks_signature(scope.method, query):
                access, signed = self._door.admit_signed(scope.path, query)
                return access, self._door.signer.seconds_left(signed)
            shown = ((name, scope.headers.get(name)) for name in KEY_HEADERS)
            key_fields = ((name.encode(), value.encode()) for name, value in shown if value is not None)
            return self._door.admit(key_fields), None
        except (Unauthorized, AddressRefused):
            return None, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        access: Access | None = None
        refusal: HalfdropError | None = None
        try:
            access = self._door.admit(scope["headers"])
        except Unauthorized as error:
            refusal = error
        query = scope["query_string"]
        if self._door.asks_signature(scope["method"], query):
            # A right signature counts whatever key comes with it; where it is not right (any more), the key counts.
            try:
                access, signed = self._door.admit_signed(scope["path"], query)
                refusal = None
                send = _with_lifetime(send, self._door.signer.seconds_left(signed))
            except AddressRefused as error:
                refusal = error if access is None else None
            scope["query_string"] = without_signature(query)
        if refusal is not None:
            await self._observer.observe(scope, receive, send, partial(_refuse, refusal))
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
            if exceeded := find_exceeded(stands):
                await _send_problem(QuotaExceeded(exceeded, stands), scope, send)
                return
        if scope["method"] == "HEAD":
            scope["method"] = "GET"
            send = _without_body(send)
        try:
            await self._inner(scope, receive, send)
        except TransientError as error:  # from Admission, which raises before anything was sent
            await _send_problem(error, scope, send)


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
    status, body, media_type = encode_problem(problem, scope["path"])
    headers = [(b"content-type", media_type.encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body, "more_body": False})


def _is_order(scope: Scope) -> bool:
    # However the path is written: the framework forgives slashes.
    return bool(scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/predictions"))


def _with_limits(send: Send, limits: list[Limit]) -> Send:
    fields = limit_headers(limits)

    async def send_limits(message: Any) -> None:
        if message["type"] == "http.response.start":
            # A handler that counted on knows better.
            names = {name.lower() for name, _ in message["headers"]}
            message = {
                **message,
                "headers": [*message["headers"], *(field for field in fields if field[0] not in names)],
            }
        await send(message)

    return send_limits


def _with_lifetime(send: Send, seconds: int) -> Send:
    """Let nobody keep what is sent for longer than its address is good for."""
    lifetime = (b"cache-control", _lifetime(seconds).encode())

    async def send_lifetime(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            kept = [field for field in message["headers"] if field[0].lower() != b"cache-control"]
            message = {**message, "headers": [*kept, lifetime]}
        await send(message)

    return send_lifetime


def _lifetime(seconds: int) -> str:
    return f"private, max-age={seconds}"


def _without_body(send: Send) -> Send:
    async def send_headers(message: Any) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers
