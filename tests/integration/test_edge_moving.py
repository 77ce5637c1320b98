"""An order whose region fell silent in the middle of its sending goes to another one, and is run by one of the two."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from halfdrop.contracts.claims import CLAIM_HEADER, claim_path
from halfdrop.contracts.jobs import Job, JobState, JobStatus, decode_job, encode_status
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.pools import WorkerState
from halfdrop.contracts.subjects import CANCELS_STREAM, JOBS_STREAM, edge_domain, hub_domain, hub_mappings, job_event
from halfdrop.deploy.servers import NatsServer, run_nats_server
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.edge import lane
from halfdrop.edge.follower import follow_events
from halfdrop.edge.forwarder import forward_orders
from halfdrop.edge.listeners import Listeners
from halfdrop.edge.names import new_order_id
from halfdrop.edge.orders import OrderBook, open_orders
from halfdrop.edge.region_choice import SpillRule
from halfdrop.edge.regions import Regions, open_regions
from halfdrop.hub.claiming import find_claimant
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.fair_order import LaneName
from halfdrop.runtime import broker as broker_module
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.streams import ensure_hub_streams

WaitUntil = Callable[..., Awaitable[None]]

EU, US = "eu", "us"
MODEL = "0" * 64
RECOVERY_S = 30.0


class World:
    """Two regions, and an edge's own parts in this process."""

    def __init__(
        self,
        servers: dict[str, NatsServer],
        hubs: dict[str, Broker],
        broker: Broker,
        book: OrderBook,
        regions: Regions,
    ) -> None:
        self.broker = broker
        self.forwarding: asyncio.Future[None] | None = None
        self.servers = servers
        self.hubs = hubs
        self.book = book
        self.regions = regions
        self.claims = {EU: True, US: True}

    async def restart_forwarder(self) -> None:
        """Begin anew with what stands in ORDERS and OUTBOX alone."""
        await self.stop_forwarder()
        self.forwarding = asyncio.ensure_future(forward_orders(self.broker, self.regions, self.book))

    async def stop_forwarder(self) -> None:
        if self.forwarding is not None:
            self.forwarding.cancel()
            await asyncio.gather(self.forwarding, return_exceptions=True)

    async def tell(self) -> None:
        """Let each region be heard, but for one that is frozen."""
        while True:
            for name, link in self.regions.links.items():
                if link.is_up is not False:
                    told = {"region": name, "worker": "w", "at": time.time(), "claims": self.claims[name]}
                    state = WorkerState(units_per_s=1.0, models=(MODEL,), **told)  # type: ignore[arg-type]
                    self.regions.hear(state)
            await asyncio.sleep(0.2)

    async def submit(self, count: int) -> list[str]:
        jobs = [make_job() for _ in range(count)]
        await asyncio.gather(*(self.book.submit(job, pattern_key(job.spec)) for job in jobs))
        return [job.id for job in jobs]

    async def jobs(self, region: str) -> dict[str, tuple[Job, dict[str, str]]]:
        """Return what lies in a region's queue, and with which headers; nothing while it does not answer."""
        found = {}
        with contextlib.suppress(NatsError, TimeoutError):
            state = (await self.hubs[region].js.stream_info(JOBS_STREAM)).state
            for seq in range(max(1, state.first_seq), state.last_seq + 1):
                message = await self.hubs[region].js.get_msg(JOBS_STREAM, seq=seq)
                job = decode_job(message.data or b"")
                found[job.id] = (job, dict(message.headers or {}))
        return found

    async def has(self, region: str, order_ids: list[str]) -> bool:
        return set(order_ids) <= set(await self.jobs(region))

    async def cancels(self, region: str) -> int:
        with contextlib.suppress(NatsError, TimeoutError):
            return (await self.hubs[region].js.stream_info(CANCELS_STREAM)).state.messages
        return 0


def make_job() -> Job:
    spec = PatternSpec(prompt="red dots", model_digest=MODEL)
    # Bulk, and of no plates: nothing is drawn here.
    return Job(id=new_order_id(), origin="test", spec=spec, size_px=256, created_at=time.time(), job_class="bulk")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(broker_module, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(lane, "PUBLISH_TIMEOUT_S", 0.5)
    monkeypatch.setattr(lane, "MOVE_AFTER_S", 1.0)
    async with AsyncExitStack() as stack:
        servers, hubs = {}, {}
        for name in (EU, US):
            server = run_nats_server(
                name=name, data_dir=tmp_path / name, domain=hub_domain(name), leaf_port=0, mappings=hub_mappings(name)
            )
            servers[name] = await stack.enter_async_context(server)
            hub = open_broker(servers[name].url, name="test", domain=hub_domain(name))
            hubs[name] = await stack.enter_async_context(hub)
            await ensure_hub_streams(hubs[name].js)
        leaf_urls = [str(server.leaf_url) for server in servers.values()]
        domain = edge_domain("test")
        own = run_nats_server(name=domain, data_dir=tmp_path / "edge", domain=domain, leaf_remote=leaf_urls)
        own_nats = await stack.enter_async_context(own)
        for name in servers:
            await wait_until_linked(own_nats.url, domain=hub_domain(name))
        broker = await stack.enter_async_context(open_broker(own_nats.url, name="test", domain=domain))
        book, regions = (
            await open_orders(broker, Listeners()),
            open_regions(broker, [EU, US], SpillRule(wait_min_s=1e6)),
        )
        found = World(servers, hubs, broker, book, regions)
        async with running(
            found.tell(),
            *(follow_events(broker, link, "test", book) for link in regions.links.values()),
        ):
            await found.restart_forwarder()
            yield found
            await found.stop_forwarder()
        for server_ in servers.values():
            server_.process.signal(signal.SIGCONT)


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_queue(world: World, region: str, objects: ObjectStore, ran: Counter[str]) -> None:
    """Do what lies in a region's queue, as a worker does as far as claims go."""
    for job, headers in (await world.jobs(region)).values():
        delivery = Delivery.__new__(Delivery)
        delivery.headers, delivery.lane = headers, LaneName(job.job_class, job.tenant)
        if await find_claimant(objects, delivery, job, region=region) != region:
            continue
        ran[job.id] += 1
        done = JobStatus(
            id=job.id, origin=job.origin, state=JobState.COMPLETED, spec=job.spec, size_px=job.size_px,
            pattern_key="", created_at=job.created_at, job_class=job.job_class, attempt=1, completed_at=time.time(),
        )  # fmt: skip
        await world.hubs[region].js.publish(job_event("test", job.id), encode_status(done))


async def test_orders_in_doubt_move_and_exactly_one_region_runs_each(
    world: World, tmp_path: Path, wait_until: WaitUntil
) -> None:
    (first,) = await world.submit(1)
    await wait_until(lambda: world.has(EU, [first]))
    world.servers[EU].process.signal(signal.SIGSTOP)
    placed = await world.submit(12)
    await wait_until(lambda: world.has(US, placed), timeout_s=RECOVERY_S)
    moved = [await world.book.find(order_id, "local") for order_id in placed]
    assert {status.region for status in moved} == {US}
    doubtful = [status.id for status in moved if status.perhaps_in == (EU,)]
    assert doubtful
    assert {headers[CLAIM_HEADER] for _, headers in (await world.jobs(US)).values()} == {US}
    await world.book.cancel(doubtful[0], "local", time.time())
    world.servers[EU].process.signal(signal.SIGCONT)
    await wait_until(lambda: world.has(EU, doubtful), timeout_s=RECOVERY_S)
    for region in (EU, US):  # who may have it hears of its cancel
        await wait_until(lambda region=region: world.cancels(region), timeout_s=RECOVERY_S)
    objects, ran = open_objects((tmp_path / "objects").as_uri()), Counter[str]()
    await asyncio.gather(*(run_queue(world, region, objects, ran) for region in (EU, US)))
    assert ran == Counter([first, *placed])
    await wait_until(lambda: not world.book.unfinished(), timeout_s=RECOVERY_S)
    for order_id in placed[1:]:
        assert (await objects.get(claim_path("local", order_id))) in (b"eu", b"us")


async def test_without_claims_an_order_in_doubt_waits_for_its_region(world: World, wait_until: WaitUntil) -> None:
    world.claims[EU] = False
    (first,) = await world.submit(1)
    await wait_until(lambda: world.has(EU, [first]))
    world.servers[EU].process.signal(signal.SIGSTOP)
    (doubtful,) = await world.submit(1)
    eu = world.regions.links[EU]
    await wait_until(lambda: eu.away_since is not None and time.time() - eu.away_since > 3 * lane.MOVE_AFTER_S)
    await world.restart_forwarder()  # which does not know what became of it
    failures = eu.failures
    await wait_until(lambda: eu.failures >= failures + 4, timeout_s=RECOVERY_S)
    assert not await world.has(US, [doubtful])
    (later,) = await world.submit(1)  # nothing holds up what came after
    await wait_until(lambda: world.has(US, [later]), timeout_s=RECOVERY_S)
    world.servers[EU].process.signal(signal.SIGCONT)
    await wait_until(lambda: world.has(EU, [doubtful]), timeout_s=RECOVERY_S)
    assert not await world.has(US, [doubtful])
