"""An edge between two regions: real NATS servers with leaf nodes; the test tells what workers would tell.

What counts in the end is what lies in the regions' JOBS: each order in one of them, once.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import nats.errors
import pytest

from halfdrop.contracts.jobs import Job, JobState, accepted_status, decode_job, encode_status
from halfdrop.contracts.pools import Lane, WorkerState, encode_state
from halfdrop.contracts.subjects import (
    CANCELS_STREAM,
    JOBS_STREAM,
    cancel_job,
    edge_domain,
    hub_domain,
    hub_mappings,
    job_event,
    worker_state,
)
from halfdrop.deploy.regions import set_draining
from halfdrop.deploy.servers import NatsServer, run_nats_server
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.streams import ensure_hub_streams

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

pytestmark = pytest.mark.timeout(240)

EU, US = "eu", "us"
SLOW, FREE = 10_000.0, 0.0
"""Work that waits, for a worker of one unit a second."""

RECOVERY_S = 60.0


class Region:
    """A region's hub: its server, a connection of its workers, and what they tell."""

    def __init__(self, name: str, server: NatsServer, hub: Broker) -> None:
        self.name = name
        self.server = server
        self.hub = hub
        self.work = FREE

    async def tell(self) -> None:
        """Tell of one worker, four times a second, as long as the server answers."""
        while True:
            lanes = (Lane(job_class="standard", tenant="t", jobs=9, work=self.work),) if self.work else ()
            state = WorkerState(region=self.name, worker="w", at=time.time(), units_per_s=1.0, lanes=lanes)
            with contextlib.suppress(nats.errors.Error):
                await self.hub.nc.publish(worker_state(self.name, "w"), encode_state(state))
            await asyncio.sleep(0.25)

    async def jobs(self) -> list[Job]:
        """Return what lies in its queue, oldest first."""
        state = (await self.hub.js.stream_info(JOBS_STREAM)).state
        found = [await self.hub.js.get_msg(JOBS_STREAM, seq=seq) for seq in range(1, state.last_seq + 1)]
        return [decode_job(message.data or b"") for message in found]

    async def has(self, *order_ids: str) -> bool:
        with contextlib.suppress(nats.errors.Error):
            return set(order_ids) <= {job.id for job in await self.jobs()}
        return False

    async def say(self, job: Job, **members: Any) -> None:
        """Publish a status, as a worker that does not name its region."""
        status = msgspec.structs.replace(accepted_status(job, "0" * 32), attempt=1, **members)
        await self.hub.js.publish(job_event(job.origin, job.id), encode_status(status))


@pytest.fixture
async def regions(tmp_path: Path) -> AsyncIterator[dict[str, Region]]:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        found = {}
        for name in (EU, US):
            server = await stack.enter_async_context(
                run_nats_server(
                    name=name,
                    data_dir=tmp_path / f"nats-{name}",
                    domain=hub_domain(name),
                    leaf_port=0,
                    mappings=hub_mappings(name),
                )
            )
            hub = await stack.enter_async_context(open_broker(server.url, name="test", domain=hub_domain(name)))
            await ensure_hub_streams(hub.js)
            found[name] = Region(name, server, hub)
        telling = [tasks.create_task(region.tell()) for region in found.values()]
        yield found
        for task in telling:
            task.cancel()


@pytest.fixture
async def edge_nats(tmp_path: Path, regions: dict[str, Region]) -> AsyncIterator[NatsServer]:
    """In place of the edge's server with one hub: a leaf of both."""
    async with run_nats_server(
        name=edge_domain("test"),
        data_dir=tmp_path / "nats-edge",
        domain=edge_domain("test"),
        leaf_remote=[str(region.server.leaf_url) for region in regions.values()],
    ) as server:
        for name in regions:
            await wait_until_linked(server.url, domain=hub_domain(name))
        yield server


@pytest.fixture
async def edge(start_edge: "StartEdge") -> "LiveEdge":
    return await start_edge(HUBS=f"{EU},{US}", SPILL_FACTOR=2, SPILL_MIN_S=1)


async def order(edge: "LiveEdge", seed: int) -> str:
    body = {"input": {"prompt": "red dots on white", "size_px": 256, "seed": seed}}
    answer = await edge.client.post("/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def look_up(edge: "LiveEdge", order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await edge.client.get(f"/v1/predictions/{order_id}")).json()
    return found


async def has_state(edge: "LiveEdge", order_id: str, state: str) -> bool:
    return bool((await look_up(edge, order_id))["state"] == state)


async def settle_in(regions: dict[str, Region], edge: "LiveEdge") -> None:
    """Let what the workers tell reach the edge: an order goes where it should only once they were heard."""
    await asyncio.sleep(1.5)


async def where(regions: dict[str, Region]) -> dict[str, list[str]]:
    return {name: [job.id for job in await region.jobs()] for name, region in regions.items()}


async def test_orders_spill_while_home_is_slow_are_followed_and_canceled_there_and_come_home(
    edge: "LiveEdge", regions: dict[str, Region], wait_until: "WaitUntil"
) -> None:
    eu, us = regions[EU], regions[US]
    await settle_in(regions, edge)
    first = await order(edge, 1)
    await wait_until(lambda: eu.has(first))
    eu.work = SLOW
    await settle_in(regions, edge)
    spilled = [await order(edge, 2), await order(edge, 3)]
    await wait_until(lambda: us.has(*spilled))

    done, running = await us.jobs()
    await us.say(done, state=JobState.COMPLETED, completed_at=time.time())
    await us.say(running, state=JobState.PROCESSING, started_at=time.time())
    (at_home,) = await eu.jobs()
    await eu.say(at_home, state=JobState.FAILED, completed_at=time.time())
    await wait_until(lambda: has_state(edge, done.id, "completed"))
    await wait_until(lambda: has_state(edge, at_home.id, "failed"))
    await wait_until(lambda: has_state(edge, running.id, "processing"))

    await edge.client.post(f"/v1/predictions/{running.id}/cancel")

    async def is_told() -> bool:
        return bool((await us.hub.js.stream_info(CANCELS_STREAM)).state.messages)

    await wait_until(is_told)
    assert (await us.hub.js.get_last_msg(CANCELS_STREAM, cancel_job(running.id))).subject
    assert (await eu.hub.js.stream_info(CANCELS_STREAM)).state.messages == 0

    eu.work = FREE
    await settle_in(regions, edge)
    back = await order(edge, 4)
    await wait_until(lambda: eu.has(back))
    assert await where(regions) == {EU: [first, back], US: spilled}


async def test_a_drained_region_gets_nothing_new_and_with_all_drained_orders_wait_and_say_so(
    edge: "LiveEdge", regions: dict[str, Region], wait_until: "WaitUntil"
) -> None:
    eu, us = regions[EU], regions[US]
    await set_draining(EU, eu.server.url, True)
    await settle_in(regions, edge)
    elsewhere = await order(edge, 1)
    await wait_until(lambda: us.has(elsewhere))
    await set_draining(US, us.server.url, True)
    await settle_in(regions, edge)
    kept = [await order(edge, 2), await order(edge, 3)]

    async def says_so() -> bool:
        return "the order waits at this edge: eu takes no new orders" in (await look_up(edge, kept[0]))["logs"]

    await wait_until(says_so)
    await edge.client.post(f"/v1/predictions/{kept[1]}/cancel")
    await asyncio.sleep(3)  # longer than it is put off for
    assert await where(regions) == {EU: [], US: [elsewhere]}
    await set_draining(EU, eu.server.url, False)
    await wait_until(lambda: eu.has(kept[0]))
    assert "waits at this edge" not in (await look_up(edge, kept[0]))["logs"]
    assert await where(regions) == {EU: [kept[0]], US: [elsewhere]}
    assert await has_state(edge, kept[1], "canceled")


async def test_a_killed_region_is_passed_over_and_used_again_when_it_is_back(
    edge: "LiveEdge", regions: dict[str, Region], wait_until: "WaitUntil"
) -> None:
    eu, us = regions[EU], regions[US]
    await settle_in(regions, edge)
    await eu.server.kill()
    meanwhile = [await order(edge, seed) for seed in range(3)]
    await wait_until(lambda: us.has(*meanwhile), timeout_s=RECOVERY_S)
    assert (await edge.client.get("/healthz")).json()["parts"]["hub"]["state"] == "ok"
    await eu.server.start()

    async def is_home_again() -> bool:
        probe = await order(edge, 100 + len(placed))
        placed.append(probe)
        await asyncio.sleep(0.5)
        return await eu.has(probe)

    placed: list[str] = []
    await wait_until(is_home_again, timeout_s=RECOVERY_S)
    await wait_until(lambda: all_arrived(regions, [*meanwhile, *placed]))
    await assert_each_once(regions, [*meanwhile, *placed])


async def test_an_edge_killed_in_the_middle_of_a_spill_gives_each_order_to_one_region(
    edge: "LiveEdge", regions: dict[str, Region], wait_until: "WaitUntil"
) -> None:
    """The other region hangs while orders are on their way to it, so that nobody knows whether they arrived; then the
    edge dies, and when it is back home is the better place for all of them."""
    eu, us = regions[EU], regions[US]
    eu.work = SLOW
    await settle_in(regions, edge)
    first = await order(edge, 0)
    await wait_until(lambda: us.has(first))
    us.server.process.signal(signal.SIGSTOP)
    try:
        placed = await asyncio.gather(*(order(edge, seed) for seed in range(1, 25)))
        await asyncio.sleep(0.5)
        await edge.kill()
    finally:
        us.server.process.signal(signal.SIGCONT)
    eu.work = FREE
    await edge.start()
    late = await order(edge, 99)
    await wait_until(lambda: all_arrived(regions, [first, *placed, late]), timeout_s=RECOVERY_S)
    await asyncio.sleep(1)  # a second copy would follow at once
    await assert_each_once(regions, [first, *placed, late])


async def all_arrived(regions: dict[str, Region], order_ids: list[str]) -> bool:
    with contextlib.suppress(nats.errors.Error):
        return set(order_ids) <= {order_id for ids in (await where(regions)).values() for order_id in ids}
    return False


async def assert_each_once(regions: dict[str, Region], order_ids: list[str]) -> None:
    found = [order_id for ids in (await where(regions)).values() for order_id in ids]
    assert sorted(found) == sorted(order_ids)
