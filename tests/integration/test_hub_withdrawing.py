"""A job that waits for a retry is canceled at once: it has no worker, so whoever hears of it ends it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest
from nats.js.errors import NotFoundError

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobState, accepted_status, decode_status, encode_job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.cancels import Cancels
from halfdrop.hub.collecting import open_queue
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.metrics import Tally
from halfdrop.hub.outcomes import Outcome, Verdict
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.settling import settle
from halfdrop.hub.withdrawing import withdraw_canceled
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.publishing import GroupPublisher
from halfdrop.runtime.streams import ensure_hub_streams

WaitUntil = Callable[..., Awaitable[None]]

WAIT_S = 60.0
"""The retry's: nothing in these tests lasts so long."""


@pytest.fixture
async def broker(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=subjects.HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        yield broker


@pytest.fixture
def objects(objects_url: str) -> ObjectStore:
    return open_objects(objects_url)


@pytest.fixture
async def withdrawing(broker: Broker, objects: ObjectStore) -> AsyncIterator[None]:
    """Two workers that listen, of whom one acts."""
    async with asyncio.TaskGroup() as tasks:
        listening = [tasks.create_task(withdraw_canceled(broker, objects, time.time)) for _ in range(2)]
        await asyncio.sleep(0)
        await broker.nc.flush()
        yield
        for task in listening:
            task.cancel()


@asynccontextmanager
async def taking(broker: Broker) -> AsyncIterator[AsyncIterator[Delivery]]:
    """What a worker takes that has slots enough for all of it."""
    stop = asyncio.Event()
    settings = HubSettings(objects_url="memory://", slots=8)
    async with (
        open_queue(broker, settings, Cancels(), Tally()) as queue,
        aclosing(queue.collect(stop, asyncio.Event())) as deliveries,
    ):
        yield deliveries
        stop.set()


async def fail_once(broker: Broker, objects: ObjectStore, *job_ids: str, state: JobState = JobState.RETRYING) -> None:
    """Order jobs, take each and give it back for a retry a minute later, with a file that it made."""
    for job_id in job_ids:
        spec = PatternSpec(prompt="red dots", model_digest="0" * 64)
        job = Job(id=job_id, origin="test", spec=spec, size_px=256, created_at=time.time())
        await broker.js.publish(subjects.queued_job(job.job_class, job.tenant), encode_job(job))
    events = GroupPublisher(broker, broker.js, subjects.EVENTS_STREAM)
    async with taking(broker) as deliveries:
        for job_id in job_ids:
            delivery = await anext(deliveries)
            spec = PatternSpec(prompt="red dots", model_digest="0" * 64)
            job = Job(id=job_id, origin="test", spec=spec, size_px=256, created_at=1.0)
            told = accepted_status(job, pattern_key(spec))
            await objects.put(subjects.artifact_path("local", job_id, "master.png"), b"png")
            status = msgspec.structs.replace(told, state=state, attempt=1, queue_sequence=delivery.sequence)
            outcome = Outcome(verdict=Verdict.RETRY, status=status, retry_after_s=WAIT_S)
            await settle(broker, events, objects, delivery, outcome)


async def state_of(broker: Broker, job_id: str) -> JobState | None:
    try:
        message = await broker.js.get_last_msg(subjects.EVENTS_STREAM, subjects.job_event("test", job_id))
    except NotFoundError:
        return None
    return decode_status(message.data or b"").state


async def waiting(broker: Broker) -> int:
    return (await broker.js.stream_info(subjects.JOBS_STREAM)).state.messages


async def test_a_job_that_waits_for_a_retry_is_canceled_at_once_and_no_other(
    broker: Broker, objects: ObjectStore, withdrawing: None, wait_until: WaitUntil
) -> None:
    await fail_once(broker, objects, "goes", "stays")
    await broker.js.publish(subjects.cancel_job("goes"))

    async def is_canceled() -> bool:
        return await state_of(broker, "goes") is JobState.CANCELED

    await wait_until(is_canceled)
    assert await state_of(broker, "stays") is JobState.RETRYING
    assert await waiting(broker) == 1
    assert await objects.list("jobs") == ["jobs/local/stays/master.png"]


async def test_a_job_in_a_workers_hands_is_left_to_that_worker(
    broker: Broker, objects: ObjectStore, withdrawing: None, wait_until: WaitUntil
) -> None:
    await fail_once(broker, objects, "runs", state=JobState.PROCESSING)
    await fail_once(broker, objects, "goes")
    await broker.js.publish(subjects.cancel_job("runs"))
    await broker.js.publish(subjects.cancel_job("goes"))

    async def is_canceled() -> bool:
        return await state_of(broker, "goes") is JobState.CANCELED

    await wait_until(is_canceled)
    assert await state_of(broker, "runs") is JobState.PROCESSING
    assert await waiting(broker) == 1


async def test_a_worker_that_got_the_job_meanwhile_can_still_answer_for_it(
    broker: Broker, objects: ObjectStore
) -> None:
    """The message is gone from JOBS while it is in hand: the ack must not be taken for an outage."""
    job = Job(id="a1", origin="test", spec=PatternSpec(prompt="x", model_digest="0" * 64), size_px=256, created_at=1.0)
    placed = await broker.js.publish(subjects.queued_job("standard", "local"), encode_job(job))
    async with taking(broker) as deliveries:
        delivery = await anext(deliveries)
        await broker.js.delete_msg(subjects.JOBS_STREAM, placed.seq)
        await delivery.ack()
    assert await waiting(broker) == 0
