"""Whether a process lives, and whether it is ready, for a kubelet: GET /healthz and /readyz on a port of their own.

/healthz asks the event loop to turn once, so a process that hangs is found out; /readyz says in words what is missing.
Served from a thread, because a loop that hangs could not say so itself.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from halfdrop.contracts.errors import PermanentError

TURN_S = 4.0
"""Importing torch holds the interpreter for a second or two; a loop that has not turned for longer hangs."""

READ_S = 5.0
"""For a probe's request to arrive."""


@contextmanager
def serve_health(
    *, host: str, port: int, setting: str, why_not_ready: Callable[[], str], loop: asyncio.AbstractEventLoop
) -> Iterator[int]:
    """Answer probes at http://host:port inside the block, and yield the port that was taken; with port 0 none is.

    why_not_ready: what is missing, in words for whoever reads the Events of a pod; empty: ready. It is called in a
    thread beside the loop. Raises PermanentError(port-taken), which names `setting`.
    """
    if port == 0:
        yield 0
        return

    def answer(path: str) -> tuple[int, str]:
        if path == "/healthz":
            return (200, "ok") if _turns(loop) else (503, f"the event loop has not turned for {TURN_S:g} s")
        if path == "/readyz":
            missing = why_not_ready()
            return (503, missing) if missing else (200, "ready")
        return 404, f"got {path[:80]}; allowed: /healthz, /readyz"

    try:
        server = ThreadingHTTPServer((host, port), _handler(answer))
    except OSError as error:
        detail = f"cannot answer probes on {host} port {port}: {error.strerror or error}; choose another {setting}"
        raise PermanentError(detail, code="port-taken") from error
    thread = threading.Thread(target=server.serve_forever, name="health", kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _turns(loop: asyncio.AbstractEventLoop) -> bool:
    turned = threading.Event()
    try:
        loop.call_soon_threadsafe(turned.set)
    except RuntimeError:  # it is closed
        return False
    return turned.wait(TURN_S)


def _handler(answer: Callable[[str], tuple[int, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_S

        def do_GET(self) -> None:
            status, text = answer(self.path.partition("?")[0])
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002  the library's name
            """A probe every few seconds is no news."""

    return Handler
