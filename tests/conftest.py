"""Real servers for tests, each test its own: embedded NATS and Valkey on free ports, an object store in a folder.

A missing program fails the test, it never skips it.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.servers import NatsServer, ValkeyServer, run_nats_server, run_valkey
from halfdrop.deploy.topology import wait_until_linked

WaitUntil = Callable[..., Awaitable[None]]

EDGE = "test"
"""Name of the edge in tests; its JetStream domain is "edge-test"."""


@pytest.fixture
async def hub_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """The hub's NATS: JetStream domain "hub", takes leaf nodes."""
    async with run_nats_server(name="hub", data_dir=tmp_path / "nats-hub", domain=HUB_DOMAIN, leaf_port=0) as server:
        yield server


@pytest.fixture
async def edge_nats(tmp_path: Path, hub_nats: NatsServer) -> AsyncIterator[NatsServer]:
    """An edge's NATS, linked as a leaf of `hub_nats`: the hub's JetStream answers through it."""
    async with run_nats_server(
        name=edge_domain(EDGE),
        data_dir=tmp_path / "nats-edge",
        domain=edge_domain(EDGE),
        leaf_remote=hub_nats.leaf_url,
    ) as server:
        await wait_until_linked(server.url, domain=HUB_DOMAIN)
        yield server


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """An empty Valkey."""
    async with run_valkey(data_dir=tmp_path / "valkey", maxmemory_bytes=32 * 2**20) as server:
        yield server


@pytest.fixture
def objects_url(tmp_path: Path) -> str:
    """An empty object store in a folder."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder.as_uri()


@pytest.fixture
def wait_until() -> WaitUntil:
    """`await wait_until(condition, timeout_s=10)`: wait for a function, plain or async, to return something true."""
    return _wait_until


async def _wait_until(condition: Callable[[], object], *, timeout_s: float = 10.0, poll_s: float = 0.02) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            outcome = condition()
            if await outcome if inspect.isawaitable(outcome) else outcome:
                return
            await asyncio.sleep(poll_s)
