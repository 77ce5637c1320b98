"""How a worker takes from the lanes of a real NATS server: fairly, within caps, through every loss.

What is done with a job does not matter here: workers note it, hold it as long as the test says, and ack it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobClass, accepted_status, encode_job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.pools import WorkerState, decode_state
from halfdrop.contracts.work import WORK_HEADER
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.outcomes import Outcome, Verdict
from halfdrop.hub.policy import QueuePolicy, change_policy
from halfdrop.hub.reading import read_job
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import open_objects
from halfdrop.runtime.streams import ensure_hub_streams

WaitUntil = Callable[..., Awaitable[None]]

SPEC = PatternSpec(prompt="red dots", model_digest="0" * 64)


class Pool:
    """Workers that note what they take, and the queue from outside."""

    def __init__(self, broker: Broker, nats_url: str, tmp_path: Path) -> None:
        self.broker = broker
        self.nats_url = nats_url
        self.tmp_path = tmp_path
        self.taken: list[tuple[str, str, str]] = []
        """(worker, tenant, job id) in the order of taking."""

        self.in_hand: list[str] = []
        """Tenants of the jobs that are in hand."""

        self.in_hand_max: dict[str, int] = {}
        self.hold_s = 0.0
        self.gate = asyncio.Event()
        """No job ends before it is set."""

        self.gate.set()
        self.nak_first_s: float | None = None
        """Each first delivery is handed back, to come again after this."""

        self.stamps: dict[str, list[float]] = {}

    async def order(self, *ids: str, tenant: str = "ann", job_class: JobClass = "standard", work: float = 1.0) -> None:
        for job_id in ids:
            job = Job(
                id=job_id,
                tenant=tenant,
                job_class=job_class,
                origin="test",
                spec=SPEC,
                size_px=256,
                created_at=time.time(),
            )
            headers = {"Nats-Msg-Id": job_id, WORK_HEADER: str(work)}
            await self.broker.js.publish(subjects.queued_job(job_class, tenant), encode_job(job), headers=headers)

    async def handle(self, hub: Hub, delivery: Delivery, stop: asyncio.Event) -> Outcome | None:
        job = read_job(delivery.data)
        self.taken.append((hub.settings.name, job.tenant, job.id))
        self.stamps.setdefault(job.id, []).append(time.monotonic())
        status = accepted_status(job, pattern_key(job.spec))
        if self.nak_first_s is not None and delivery.attempt == 1:
            await delivery.nak(self.nak_first_s)
            return Outcome(verdict=Verdict.RETRY, status=status)
        self.in_hand.append(job.tenant)
        self.in_hand_max[job.tenant] = max(self.in_hand_max.get(job.tenant, 0), self.in_hand.count(job.tenant))
        await asyncio.sleep(self.hold_s)
        await self.gate.wait()
        self.in_hand.remove(job.tenant)
        await delivery.ack()
        return Outcome(verdict=Verdict.COMPLETE, status=status)

    @asynccontextmanager
    async def worker(self, name: str = "hub-1", **changes: object) -> AsyncIterator[asyncio.Event]:
        settings = HubSettings(nats_url=self.nats_url, objects_url="memory://", ack_wait_s=2, warm=False)
        settings = msgspec.structs.replace(settings, name=name, **changes)
        stop = asyncio.Event()
        with (
            ThreadPoolExecutor(1) as threads,
            Sampler(self.tmp_path / "none", device="cpu", threads=1) as sampler,
            PlateRefiner(self.tmp_path / "none", self.tmp_path / "none", device="cpu") as refiner,
        ):
            domain = subjects.hub_domain(settings.region)
            async with open_broker(self.nats_url, name=name, domain=domain) as broker:
                objects = open_objects("memory://")
                hub = Hub(
                    settings=settings,
                    broker=broker,
                    objects=objects,
                    sampler=sampler,
                    refiner=refiner,
                    threads=threads,
                    models=("f" * 64,),
                )
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(run_worker(hub, stop, self.handle))
                    await hub.bound.wait()
                    try:
                        yield stop
                    finally:
                        stop.set()
                        self.gate.set()

    async def is_empty(self) -> bool:
        return (await self.broker.js.stream_info(subjects.JOBS_STREAM)).state.messages == 0

    @property
    def tenants(self) -> list[str]:
        return [tenant for _, tenant, _ in self.taken]


@pytest.fixture
async def pool(hub_nats: NatsServer, tmp_path: Path) -> AsyncIterator[Pool]:
    async with open_broker(hub_nats.url, name="test", domain=subjects.HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        yield Pool(broker, hub_nats.url, tmp_path)


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:03d}" for number in range(count)]


async def test_two_tenants_of_a_class_take_turns_each_in_its_own_order(pool: Pool, wait_until: WaitUntil) -> None:
    await pool.order(*ids("a", 12), tenant="ann")
    await pool.order(*ids("b", 12), tenant="bob")
    async with pool.worker():
        await wait_until(pool.is_empty)
    assert [job_id for _, tenant, job_id in pool.taken if tenant == "ann"] == ids("a", 12)
    assert [job_id for _, tenant, job_id in pool.taken if tenant == "bob"] == ids("b", 12)
    for end in range(2, 24, 2):
        assert pool.tenants[:end].count("ann") == end // 2, pool.tenants


async def test_work_counts_not_the_number_of_jobs(pool: Pool, wait_until: WaitUntil) -> None:
    await pool.order(*ids("a", 8), tenant="ann", work=4.0)
    await pool.order(*ids("b", 32), tenant="bob", work=1.0)
    async with pool.worker():
        await wait_until(pool.is_empty)
    assert 14 <= pool.tenants[:20].count("bob") <= 17


async def test_a_realtime_job_overtakes_a_long_backlog_of_bulk(pool: Pool, wait_until: WaitUntil) -> None:
    await pool.order(*ids("b", 300), tenant="bob", job_class="bulk")
    pool.hold_s = 0.01
    async with pool.worker():
        await wait_until(lambda: len(pool.taken) >= 10)
        before = len(pool.taken)
        await pool.order("now", tenant="ann", job_class="realtime")
        await wait_until(lambda: "now" in pool.stamps)
        place = pool.tenants.index("ann")
    assert place <= before + 5


async def test_shares_across_two_workers_follow_weights_that_change_while_they_run(
    pool: Pool, wait_until: WaitUntil
) -> None:
    for job_class in ("realtime", "standard", "bulk"):
        await pool.order(*ids(job_class, 150), tenant=job_class, job_class=job_class)
    pool.hold_s = 0.005
    async with pool.worker("hub-1"), pool.worker("hub-2"):
        await wait_until(lambda: len(pool.taken) >= 120)
        shares = [pool.tenants[:120].count(name) for name in ("realtime", "standard", "bulk")]
        await change_policy(
            pool.broker, lambda _: QueuePolicy(weights={"realtime": 0.001, "standard": 1.0, "bulk": 3.0})
        )
        changed = len(pool.taken)
        await wait_until(lambda: len(pool.taken) >= changed + 100)
        later = pool.tenants[changed + 20 : changed + 100]
    assert shares[0] == pytest.approx(80, abs=6), shares
    assert shares[1] == pytest.approx(30, abs=6), shares
    assert shares[2] == pytest.approx(10, abs=4), shares
    assert later.count("realtime") <= 2
    assert later.count("bulk") == pytest.approx(60, abs=8)


async def test_a_policy_that_nobody_can_read_changes_nothing(
    pool: Pool, wait_until: WaitUntil, capsys: pytest.CaptureFixture[str]
) -> None:
    await change_policy(pool.broker, lambda _: QueuePolicy(caps={"ann": {"standard": 1}}))
    async with pool.worker(slots=3):
        await pool.broker.nc.publish(f"$KV.{subjects.POLICY_BUCKET}.queue", b'{"weights": {"bulk": -1}}')
        await wait_until(lambda: "queue_policy_refused" in capsys.readouterr().out)
        pool.hold_s = 0.02
        await pool.order(*ids("a", 10), tenant="ann")
        await wait_until(pool.is_empty)
    assert pool.in_hand_max["ann"] == 1


async def test_a_cap_holds_across_workers_and_lends_nothing_away(pool: Pool, wait_until: WaitUntil) -> None:
    await change_policy(pool.broker, lambda _: QueuePolicy(caps={"ann": {"standard": 2}}))
    await pool.order(*ids("a", 30), tenant="ann")
    await pool.order(*ids("b", 30), tenant="bob")
    pool.hold_s = 0.05
    async with pool.worker("hub-1", slots=4), pool.worker("hub-2", slots=4):
        await wait_until(lambda: pool.tenants.count("bob") == 30)
        assert pool.in_hand_max["ann"] == 2
        assert pool.in_hand_max["bob"] >= 5  # the slots that ann may not use are bob's
        await change_policy(pool.broker, lambda _: QueuePolicy())
        await wait_until(pool.is_empty)
    assert pool.in_hand_max["ann"] > 2


async def test_a_worker_takes_the_classes_that_it_was_told_and_no_other(pool: Pool, wait_until: WaitUntil) -> None:
    async with pool.worker("fast", classes="realtime"):
        await pool.order("bulk1", job_class="bulk")
        await pool.order("now1", job_class="realtime")
        await wait_until(lambda: "now1" in pool.stamps)
        async with pool.worker("any"):
            await wait_until(pool.is_empty)
    assert pool.taken == [("fast", "ann", "now1"), ("any", "ann", "bulk1")]


async def test_a_worker_has_as_many_jobs_in_hand_as_slots_and_takes_the_next_as_one_ends(
    pool: Pool, wait_until: WaitUntil
) -> None:
    pool.gate.clear()
    await pool.order(*ids("a", 9))
    async with pool.worker(slots=4):
        await wait_until(lambda: len(pool.in_hand) == 4)
        await asyncio.sleep(0.2)
        assert len(pool.taken) == 4
        pool.gate.set()
        await wait_until(pool.is_empty)
    assert pool.in_hand_max["ann"] == 4


async def test_a_job_that_is_handed_back_for_a_while_comes_again_on_time(pool: Pool, wait_until: WaitUntil) -> None:
    pool.nak_first_s = 0.5
    await pool.order("a1")
    async with pool.worker():
        await wait_until(pool.is_empty)
    first, second = pool.stamps["a1"]
    assert 0.45 <= second - first <= 1.6


async def test_a_consumer_deleted_under_its_workers_is_made_again(pool: Pool, wait_until: WaitUntil) -> None:
    async with pool.worker():
        await pool.order("a1")
        await wait_until(pool.is_empty)
        assert await pool.broker.js.delete_consumer(subjects.JOBS_STREAM, "lane-standard-ann")
        await pool.order("a2")
        await wait_until(pool.is_empty)
    assert [job_id for _, _, job_id in pool.taken] == ["a1", "a2"]


async def test_jobs_queued_by_the_release_before_run_and_its_consumer_makes_room(
    pool: Pool, wait_until: WaitUntil
) -> None:
    old = ConsumerConfig(name="workers", durable_name="workers", ack_policy=AckPolicy.EXPLICIT, max_deliver=-1)
    await pool.broker.js.add_consumer(subjects.JOBS_STREAM, old)
    job = Job(id="old1", origin="test", spec=SPEC, size_px=256, created_at=time.time())
    await pool.broker.js.publish("jobs.standard.local.old1", encode_job(job), headers={"Nats-Msg-Id": "old1"})
    async with pool.worker():
        await wait_until(pool.is_empty)
        await pool.order("new1", tenant="local")
        await wait_until(pool.is_empty)
    assert [job_id for _, _, job_id in pool.taken] == ["old1", "new1"]


async def test_after_a_restart_of_the_server_jobs_go_on_and_no_cancel_is_forgotten(
    pool: Pool, hub_nats: NatsServer, wait_until: WaitUntil
) -> None:
    canceled = []

    async def handle(hub: Hub, delivery: Delivery, stop: asyncio.Event) -> Outcome | None:
        if hub.cancels.is_canceled(read_job(delivery.data).id):
            canceled.append(read_job(delivery.data).id)
        return await Pool.handle(pool, hub, delivery, stop)

    pool.handle = handle  # type: ignore[method-assign]
    async with pool.worker():
        await pool.order("a1")
        await wait_until(pool.is_empty)
        await hub_nats.kill()
        await wait_until(lambda: not pool.broker.is_connected)
        await hub_nats.start()
        await wait_until(lambda: pool.broker.is_connected)
        # perhaps before the worker is connected again: then nobody tells it
        await pool.broker.js.publish(subjects.cancel_job("a2"))
        await pool.order("a2", "a3")
        await wait_until(pool.is_empty)
    assert canceled == ["a2"]


async def test_each_worker_tells_what_all_of_them_work_on_and_whether_the_region_drains(
    pool: Pool, wait_until: WaitUntil
) -> None:
    told: dict[str, WorkerState] = {}

    async def hear(message: object) -> None:
        state = decode_state(message.data)  # type: ignore[attr-defined]
        told[state.worker] = state

    def tells(running: dict[str, int], *, is_draining: bool) -> bool:
        return len(told) == 2 and all(
            {lane.tenant: lane.running for lane in state.lanes} == running and state.is_draining is is_draining
            for state in told.values()
        )

    await pool.broker.nc.subscribe("pools.local.*", cb=hear)
    pool.gate.clear()
    await pool.order(*ids("a", 3), tenant="ann")
    async with pool.worker("hub-1", slots=2), pool.worker("hub-2", slots=2):
        await wait_until(lambda: len(pool.in_hand) == 3)
        await pool.order("b1", tenant="bob")
        await wait_until(lambda: tells({"ann": 3, "bob": 1}, is_draining=False))
        await pool.order(*ids("c", 2), tenant="ann")
        bucket = await pool.broker.js.key_value(subjects.POLICY_BUCKET)
        await bucket.put(subjects.DRAINING_KEY, b"true")
        await wait_until(lambda: tells({"ann": 3, "bob": 1}, is_draining=True))
        assert {lane.tenant: lane.jobs for lane in told["hub-1"].lanes} == {"ann": 5, "bob": 1}
        pool.gate.set()
        await wait_until(lambda: tells({}, is_draining=True))


async def test_workers_tell_what_they_know_of_the_pool(pool: Pool, wait_until: WaitUntil) -> None:
    states: list[WorkerState] = []

    async def hear(message: object) -> None:
        states.append(decode_state(message.data))  # type: ignore[attr-defined]

    await pool.broker.nc.subscribe("pools.local.*", cb=hear)
    pool.gate.clear()
    await pool.order(*ids("b", 5), tenant="bob", job_class="bulk", work=3.0)
    async with pool.worker(slots=2):
        await pool.order(*ids("a", 4), tenant="ann", work=2.0)
        await wait_until(lambda: states and states[-1].busy == 2 and len(states[-1].lanes) == 2)
        pool.gate.set()
        await wait_until(lambda: states[-1].busy == 0 and states[-1].lanes == ())
    full = next(state for state in states if state.busy == 2 and len(state.lanes) == 2)
    assert {(lane.job_class, lane.tenant, lane.jobs) for lane in full.lanes} == {
        ("bulk", "bob", 5),
        ("standard", "ann", 4),
    }
    assert {lane.tenant: lane.work for lane in full.lanes}["ann"] == pytest.approx(8.0)
    assert (full.worker, full.slots, full.models, full.size_max_px) == ("hub-1", 2, ("f" * 64,), 8192)
    assert states[-1].units_per_s > 0
    assert states[-1].pace is not None
    assert states[-1].newcomers > 0
