"""A receiver of webhooks for benchmarks: a small HTTP server that remembers what it was told, and under which id."""

import asyncio
import json
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

QUIET_S = 3.0
QUIET_LIMIT_S = 120.0


class Receiver:
    """What came so far. `url` is its address."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._last_s = time.monotonic()

    def take(self, webhook_id: str, body: bytes) -> None:
        """Remember one delivery."""
        event: dict[str, Any] = json.loads(body)
        with self._lock:
            self._ids[event["type"].rpartition(".")[2], event["data"]["id"]].add(webhook_id)
            self._last_s = time.monotonic()

    def told(self, event: str) -> dict[str, set[str]]:
        """Return the webhook ids by order, of one kind of event ("completed")."""
        with self._lock:
            return {job: set(ids) for (kind, job), ids in self._ids.items() if kind == event}

    async def wait_quiet(self) -> None:
        """Wait until nothing came for QUIET_S."""
        deadline_s = time.monotonic() + QUIET_LIMIT_S
        while (left_s := min(deadline_s, self._last_s + QUIET_S) - time.monotonic()) > 0:  # noqa: ASYNC110  # told by other threads
            await asyncio.sleep(left_s)


@asynccontextmanager
async def run_receiver() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of this machine until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.take(self.headers["webhook-id"], body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
