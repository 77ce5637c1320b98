"""The end of a delivery: first the truth at rest, then the news, then the answer to the queue.

Each step may be the last before a crash. Whatever was done is found again by the next delivery, and doing it twice
changes nothing.
"""

import time

import msgspec
import structlog

from halfdrop.contracts.errors import PermanentError, TransientError
from halfdrop.contracts.jobs import JobStatus, decode_status, encode_status
from halfdrop.contracts.subjects import artifact_path
from halfdrop.hub.dead_letters import bury
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.outcomes import Outcome, Verdict, finished_before
from halfdrop.hub.reporting import announce
from halfdrop.hub.saved_work import SAVED_NAME
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.publishing import GroupPublisher

log = structlog.get_logger()

RESULT_NAME = "result.json"
"""Written last: a job that has one is finished, whatever else is known."""


async def find_result(objects: ObjectStore, tenant: str, job_id: str) -> JobStatus | None:
    """Return the final status of a job that was finished before, or None."""
    data = await objects.get(artifact_path(tenant, job_id, RESULT_NAME))
    if data is None:
        return None
    try:
        return decode_status(data)
    except msgspec.MsgspecError as error:
        log.warning("result_unreadable", job_id=job_id, error=str(error))
        return None


async def settle(
    broker: Broker, events: GroupPublisher, objects: ObjectStore, delivery: Delivery, outcome: Outcome
) -> None:
    """Carry out `outcome`. Raises Unavailable where that is not possible; the job is then delivered again."""
    status = outcome.status
    match outcome.verdict:
        case Verdict.COMPLETE:
            earlier = await _store_result(objects, status)
            await announce(events, finished_before(earlier, status).status if earlier else status)
            await delivery.ack()
        case Verdict.YIELD:
            await delivery.ack()
        case Verdict.REPEAT:
            await announce(events, status)
            await delivery.ack()
        case Verdict.CANCEL:
            earlier = await find_result(objects, status.tenant, status.id)
            if earlier is None:
                for path in await objects.list(artifact_path(status.tenant, status.id, "").rstrip("/")):
                    await objects.delete(path)
            await announce(events, finished_before(earlier, status).status if earlier else status)
            await delivery.ack()
        case Verdict.RETRY:
            # The news first: it carries the account of the job's deliveries, which the next worker reads.
            try:
                await announce(events, status)
            finally:
                await delivery.nak(outcome.retry_after_s)
        case Verdict.BURY:
            cause = status.error.code if status.error is not None else "unknown"
            await bury(
                broker,
                delivery,
                status.id,
                cause=cause,
                detail=status.error.detail if status.error is not None else "",
                worker=status.worker,
                now=status.completed_at or time.time(),
            )
            await announce(events, status)
            await delivery.term(cause)
    if outcome.is_saved and status.state.is_final:
        await _forget_progress(objects, status)


async def _store_result(objects: ObjectStore, status: JobStatus) -> JobStatus | None:
    """Store the job's result, unless it has one: after an outage two workers may have worked at one job, and the first
    result stands. Return that one."""
    path, data = artifact_path(status.tenant, status.id, RESULT_NAME), encode_status(status)
    if await objects.create(path, data, media_type="application/json"):
        return None
    earlier = await find_result(objects, status.tenant, status.id)
    if earlier is None:  # unreadable
        await objects.put(path, data, media_type="application/json")
    return earlier


async def _forget_progress(objects: ObjectStore, status: JobStatus) -> None:
    """Remove what was saved of the job's progress: it has ended. Left behind it harms nobody."""
    try:
        await objects.delete(artifact_path(status.tenant, status.id, SAVED_NAME))
    except TransientError as error:
        log.warning("saved_work_left_behind", job_id=status.id, error=error.detail)


async def bury_unreadable(broker: Broker, delivery: Delivery, error: PermanentError) -> None:
    """Move a message that is no job to DEAD. It names no origin, so nobody can be told but the operator."""
    log.error("job_unreadable", subject=delivery.subject, sequence=delivery.sequence, error=error.detail)
    name = f"unreadable-{delivery.sequence}"
    await bury(broker, delivery, name, cause=error.code, detail=error.detail, worker="", now=time.time())
    await delivery.term(error.code)
