"""A live system for benchmarks: the real processes over embedded servers, all on this machine.

One region: a hub's NATS, a Valkey and an object store in a folder, shared by as many edges as asked for, each with a
NATS of its own that is a leaf of the hub's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.processes import EDGE_NAME, make_edge, make_hub
from halfdrop.deploy.servers import NatsServer, ValkeyServer, run_nats_server, run_valkey
from halfdrop.deploy.topology import wait_until_linked

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEdge:
    """An edge process and where it serves."""

    name: str
    part: Part
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSystem:
    """What runs. `cable` is the edges' way to the hub."""

    edges: list[LiveEdge]
    hub: Part | None
    hub_nats: NatsServer
    valkey: ValkeyServer
    objects_url: str
    cable: "Cable"


@dataclass(kw_only=True)
class Cable:
    """A TCP relay that can be cut: nothing gets through then, and nobody is told, as when packets are lost."""

    host: str
    port: int
    listens: int = 0
    _whole: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """Let nothing through until `mend`."""
        self._whole.clear()

    def mend(self) -> None:
        """Let everything through, first what waited."""
        self._whole.set()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection in both directions until either side ends it."""
        await self._whole.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.close()
            return
        ways = [self._carry(reader, far_writer), self._carry(far_reader, writer)]
        _, unfinished = await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when="FIRST_COMPLETED")
        for way in unfinished:
            way.cancel()
        for each in (writer, far_writer):
            each.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return


@asynccontextmanager
async def run_cable(url: str) -> AsyncIterator[Cable]:
    """Run a relay to the server at `url`; its port is `listens`."""
    far = urlsplit(url)
    assert far.hostname is not None
    assert far.port is not None
    cable = Cable(host=far.hostname, port=far.port)
    cable.mend()
    server = await asyncio.start_server(cable.join, LOOPBACK, 0)
    cable.listens = server.sockets[0].getsockname()[1]
    try:
        yield cable
    finally:
        cable.mend()
        server.close()


@asynccontextmanager
async def run_system(
    folder: Path, *, edge_names: tuple[str, ...] = (EDGE_NAME,), has_hub: bool = True
) -> AsyncIterator[LiveSystem]:
    """Run a region in `folder`. What it is told beside addresses it takes from our environment (HALFDROP_EDGE_…)."""
    objects_url = (folder / "objects").as_uri()
    async with AsyncExitStack() as stack:
        hub_nats = await stack.enter_async_context(
            run_nats_server(name="hub", data_dir=folder / "nats-hub", domain=HUB_DOMAIN, leaf_port=0)
        )
        assert hub_nats.leaf_url is not None
        cable = await stack.enter_async_context(run_cable(hub_nats.leaf_url))
        valkey = await stack.enter_async_context(run_valkey(data_dir=folder / "valkey"))
        hub = None
        if has_hub:
            hub = make_hub(name="hub-1", nats_url=hub_nats.url, objects_url=objects_url, log_path=folder / "hub.log")
            stack.push_async_callback(hub.stop)
            await hub.start()
        edges = []
        for name in edge_names:
            nats = await stack.enter_async_context(
                run_nats_server(
                    name=edge_domain(name),
                    data_dir=folder / f"nats-{name}",
                    domain=edge_domain(name),
                    leaf_remote=f"nats-leaf://{LOOPBACK}:{cable.listens}",
                )
            )
            await wait_until_linked(nats.url, domain=HUB_DOMAIN)
            port = choose_port()
            part = make_edge(
                port=port,
                nats_url=nats.url,
                redis_url=valkey.url,
                objects_url=objects_url,
                data_dir=folder / name,
                log_path=folder / f"{name}.log",
                name=name,
            )
            stack.push_async_callback(part.stop)
            await part.start()
            edges.append(LiveEdge(name=name, part=part, url=f"http://{LOOPBACK}:{port}"))
        yield LiveSystem(edges=edges, hub=hub, hub_nats=hub_nats, valkey=valkey, objects_url=objects_url, cable=cable)
