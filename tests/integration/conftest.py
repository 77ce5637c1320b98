"""A live edge for integration tests: the real process over real servers, with the shipped bundle."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from halfdrop.deploy.children import Child
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.servers import NatsServer, ValkeyServer

READY_TIMEOUT_S = 60.0


class LiveEdge(Part):
    """An edge process and a client for it. Killed or stopped and started again it keeps port, NATS and data."""

    def __init__(self, process: Child, *, port: int) -> None:
        super().__init__(process, answers=self._is_healthy, ready_timeout_s=READY_TIMEOUT_S)
        self.url = f"http://{LOOPBACK}:{port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=30)

    async def _is_healthy(self) -> bool:
        try:
            return (await self.client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False


StartEdge = Callable[..., Awaitable[LiveEdge]]


@pytest.fixture
async def start_edge(
    tmp_path: Path, edge_nats: NatsServer, valkey: ValkeyServer, objects_url: str
) -> AsyncIterator[StartEdge]:
    """`edge = await start_edge(PREVIEWS_MAX=1)`: run an edge called "test" until the test ends."""
    edges: list[LiveEdge] = []

    async def start(**settings: object) -> LiveEdge:
        port = choose_port()
        known = {
            "NAME": "test",
            "PORT": port,
            "NATS_URL": edge_nats.url,
            "REDIS_URL": valkey.url,
            "OBJECTS_URL": objects_url,
            "DATA_DIR": tmp_path / "edge",
            **settings,
        }
        environ = {f"HALFDROP_EDGE_{name}": str(value) for name, value in known.items()}
        process = Child(
            name="edge",
            argv=[sys.executable, "-m", "halfdrop.edge"],
            log_path=tmp_path / "edge.log",
            environ={**os.environ, "HALFDROP_LOG": "json", **environ},
        )
        edge = LiveEdge(process, port=port)
        edges.append(edge)
        await edge.start()
        return edge

    yield start
    for edge in edges:
        await edge.client.aclose()
        await edge.stop()


@pytest.fixture
async def edge(start_edge: StartEdge) -> LiveEdge:
    """A live edge with its usual settings."""
    return await start_edge()


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One request that a receiver of webhooks got."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"

Answer = Callable[[asyncio.StreamWriter, Received], Awaitable[None]]


class Receiver:
    """A server that takes down each request, and answers with `answer`: bytes, or a function that may take its time."""

    def __init__(self, answer: bytes | Answer) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/hook?token=s3cret"

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.received]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = dict(line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in fields.items()}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                one = Received(path=head[0].split()[1], headers=headers, body=body, at_s=time.time())
                self.received.append(one)
                if isinstance(self.answer, bytes):
                    writer.write(self.answer)
                else:
                    await self.answer(writer, one)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


StartReceiver = Callable[..., Awaitable[Receiver]]


@pytest.fixture
async def start_receiver() -> AsyncIterator[StartReceiver]:
    """`receiver = await start_receiver(answer)`: a receiver of webhooks until the test ends."""
    receivers: list[Receiver] = []

    async def start(answer: bytes | Answer = NO_CONTENT) -> Receiver:
        receiver = Receiver(answer)
        receivers.append(receiver)
        await receiver.start()
        return receiver

    yield start
    for receiver in receivers:
        await receiver.stop()
