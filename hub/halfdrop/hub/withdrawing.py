"""Cancels of jobs that nobody works on: those that wait for a retry end at once, not when their wait is over.

A job in a worker's hands is that worker's to stop. One that waits for its next delivery has no worker, so whoever of
all workers hears the cancel first takes its message out of JOBS and tells its end. A cancel that nobody heard is found
at the next delivery, as before.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from msgspec.structs import replace
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import JobState, JobStatus, decode_job, decode_status
from halfdrop.contracts.subjects import (
    EVENTS_STREAM,
    JOBS_STREAM,
    artifact_path,
    cancel_job,
    job_event,
)
from halfdrop.hub.dead_letters import NO_MESSAGE_CODE
from halfdrop.hub.reporting import announce
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.publishing import GroupPublisher

log = structlog.get_logger()

QUEUE_GROUP = "withdrawing"
"""Of all workers one hears each cancel."""

SUBSCRIBE_AGAIN_S = 1.0
WAITING_MAX = 1_000
"""Cancels heard and not looked at; beyond them, the next delivery of the job finds its cancel."""


async def withdraw_canceled(broker: Broker, objects: ObjectStore, clock: Callable[[], float]) -> None:
    """End canceled jobs that wait for a retry, until cancelled itself. Whatever fails is logged."""
    events = GroupPublisher(broker, broker.js, EVENTS_STREAM)
    heard: asyncio.Queue[str] = asyncio.Queue(WAITING_MAX)

    async def hear(message: Msg) -> None:
        if not heard.full():
            heard.put_nowait(message.subject.removeprefix(cancel_job("")))

    while True:
        try:
            await broker.nc.subscribe(cancel_job("*"), queue=QUEUE_GROUP, cb=hear)
            break
        except (NatsError, OSError) as error:
            log.warning("cancels_not_heard", error=repr(error))
            await asyncio.sleep(SUBSCRIBE_AGAIN_S)
    while True:
        job_id = await heard.get()
        try:
            await _withdraw(broker, events, objects, job_id, now=clock())
        except (NatsError, OSError, TimeoutError, Unavailable, msgspec.MsgspecError) as error:
            log.warning("cancel_left_to_the_next_delivery", job_id=job_id, error=repr(error))


async def _withdraw(broker: Broker, events: GroupPublisher, objects: ObjectStore, job_id: str, *, now: float) -> None:
    """End the job if the last that is known of it is that it waits for a retry."""
    status = await _last_status(broker, job_id)
    if status is None or status.state is not JobState.RETRYING:
        return
    sequence = status.queue_sequence
    if sequence is msgspec.UNSET:
        return
    try:
        message = await broker.js.get_msg(JOBS_STREAM, seq=sequence)
        if decode_job(message.data or b"").id != job_id:
            return
        await broker.js.delete_msg(JOBS_STREAM, sequence)
    except APIError as error:
        if isinstance(error, NotFoundError) or error.err_code == NO_MESSAGE_CODE:
            return  # settled meanwhile
        raise
    for path in await objects.list(artifact_path(status.tenant, job_id, "").rstrip("/")):
        await objects.delete(path)
    await announce(events, replace(status, state=JobState.CANCELED, completed_at=now))
    log.info("job_withdrawn", job_id=job_id)


async def _last_status(broker: Broker, job_id: str) -> JobStatus | None:
    try:
        message = await broker.js.get_last_msg(EVENTS_STREAM, job_event("*", job_id))
    except NotFoundError:
        return None
    return decode_status(message.data or b"")
