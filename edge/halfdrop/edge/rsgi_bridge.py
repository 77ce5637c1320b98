"""An ASGI application behind granian's own protocol (RSGI), whose cheaper calls the hits need.

Only what HTTP/1.1 without websockets asks for. Values of header fields that are not ASCII, which RSGI withholds,
arrive as U+FFFD: whoever reads the field sees that it is wrong, instead of nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from granian._granian import RSGIHTTPProtocol, RSGIProtocolClosed, RSGIProtocolError
from granian.rsgi import Scope

UNREADABLE = "\N{REPLACEMENT CHARACTER}".encode()

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class _Transport(Protocol):
    async def send_bytes(self, data: bytes) -> None: ...


async def run_asgi(app: AsgiApp, scope: Scope, proto: RSGIHTTPProtocol) -> None:
    """Answer one request by `app`."""
    length = scope.headers.get("content-length", "")
    exchange = _Exchange(proto, body_bytes=int(length) if length.isdigit() else 0)
    await app(make_asgi_scope(scope), exchange.receive, exchange.send)


def make_asgi_scope(scope: Scope) -> dict[str, Any]:
    """Return the ASGI scope (HTTP, version 2.4) of a request."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
    if len(headers) != len(names := scope.headers.keys()):
        missing = set(names) - {name.decode("latin-1") for name, _ in headers}
        headers += [(name.encode("latin-1"), UNREADABLE) for name in sorted(missing)]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": scope.http_version,
        "method": scope.method,
        "scheme": scope.scheme,
        "path": scope.path,
        "query_string": scope.query_string.encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "client": _address(scope.client),
        "server": _address(scope.server),
        "state": {},
    }


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else None


class _Exchange:
    """Body and disconnect of one request, start and body of its answer."""

    def __init__(self, proto: RSGIHTTPProtocol, *, body_bytes: int) -> None:
        """body_bytes: how long the body is said to be; 0 if that is not said."""
        self._proto = proto
        self._missing_bytes = body_bytes
        self._chunks = aiter(proto)
        self._is_read = False
        self._status, self._headers = 0, list[tuple[str, str]]()
        self._transport: _Transport | None = None
        self._is_gone = False
        self._over = asyncio.Event()
        """Set with the last part of the answer."""

    async def receive(self) -> dict[str, Any]:
        """Return the next part of the body; after the last, wait until the client has gone or has its answer."""
        if self._is_read:
            ends = [asyncio.ensure_future(self._wait_until_gone()), asyncio.ensure_future(self._over.wait())]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
            return {"type": "http.disconnect"}
        try:
            chunk = await anext(self._chunks)
        except (StopAsyncIteration, RSGIProtocolError, RSGIProtocolClosed):
            chunk = b""
        self._is_read = not chunk
        self._missing_bytes -= len(chunk)
        if self._is_read and self._missing_bytes > 0:  # RSGI ends a body that was cut short as if it were whole
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the answer; after the client has gone they lead nowhere."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in message["headers"]]
            if any(n == "content-type" and v.startswith("text/event-stream") for n, v in self._headers):
                await self._stream(b"")  # its first event may be long in coming, and the client waits for the head
            return
        body, has_more = message.get("body", b""), message.get("more_body", False)
        if self._transport is None and not has_more:
            self._proto.response_bytes(self._status, self._headers, bytes(body))
        else:
            await self._stream(bytes(body))
        if not has_more:
            self._transport = None  # its end is the end of the answer
            self._over.set()

    async def _stream(self, body: bytes) -> None:
        if self._transport is None:
            self._transport = self._proto.response_stream(self._status, self._headers)
        if body and not self._is_gone:
            try:
                await self._transport.send_bytes(body)
            except RSGIProtocolClosed:
                self._is_gone = True

    async def _wait_until_gone(self) -> None:
        await self._proto.client_disconnect()
