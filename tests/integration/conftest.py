"""A live edge for integration tests: the real process over real servers, with the shipped bundle."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
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
