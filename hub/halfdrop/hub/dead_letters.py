"""The stream DEAD: jobs are put there by workers, and read, brought back or dropped by operators.

A revived job is a new message in JOBS with the old id. The order of things makes every crash harmless: the letter goes
only when JOBS has the job, and JOBS drops a second one under the same message id.
"""

from collections.abc import AsyncIterator

from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import APIError, NotFoundError

from halfdrop.contracts.dead_letters import DeadLetter, letter_headers, read_letter
from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.contracts.jobs import Job, accepted_status, encode_job, encode_status, revival_of
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import DEAD_STREAM, JOBS_STREAM, dead_job, job_event, queued_job
from halfdrop.hub.delivery import Delivery
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.tracing import carry

_OUTAGE = (NatsError, OSError, TimeoutError)
NO_MESSAGE_CODE = 10057
"""JetStream's error code for a message that is not (any more) in the stream."""

_SERVERS_OWN = "nats-"
"""Headers that speak to the server and mean nothing in a new message."""


async def bury(
    broker: Broker, delivery: Delivery, job_id: str, *, cause: str, detail: str, worker: str, now: float
) -> None:
    """Copy the delivered message to DEAD. Raises Unavailable if DEAD does not take it."""
    headers = letter_headers(
        cause=cause,
        detail=detail,
        subject=delivery.subject,
        deliveries=delivery.attempt,
        worker=worker,
        queued_at=delivery.queued_at,
        buried_at=now,
        headers=delivery.headers,
    )
    headers = carry(headers) | {Header.MSG_ID.value: f"dead.{delivery.sequence}"}
    try:
        await broker.js.publish(dead_job(job_id), delivery.data, headers=headers)
    except _OUTAGE as error:
        raise Unavailable(f"DEAD did not take the job: {error!r}") from error


async def read_letters(js: JetStreamContext) -> AsyncIterator[DeadLetter]:
    """Yield what lies in DEAD, oldest first. Raises Unavailable if the hub's NATS does not answer."""
    sequence = 0
    while True:
        try:
            found = await js.get_msg(DEAD_STREAM, seq=sequence + 1, subject=dead_job(">"), next=True)
        except NotFoundError:  # the end, or a hub that never ran
            return
        except _OUTAGE as error:
            raise Unavailable(f"DEAD cannot be read: {error!r}") from error
        assert found.seq is not None
        assert found.subject is not None
        sequence = found.seq
        yield read_letter(sequence, found.subject, found.headers or {}, found.data or b"")


async def revive(js: JetStreamContext, letter: DeadLetter, *, now: float) -> Job:
    """Put the letter's job back into JOBS, say so, and remove the letter; return the job as it is now.

    Raises PermanentError for what is no job or is past its deadline, Unavailable if a stream did not take its part; it
    can then be done again.
    """
    job = letter.job
    if job is None:
        raise PermanentError(f"{letter.job_id} is no job that this release can read; it can be dropped", code="bad-job")
    if isinstance(job.cancel_at, float) and job.cancel_at <= now:
        raise PermanentError(
            f"{job.id} was to be canceled {now - job.cancel_at:.0f} s ago (Cancel-After); it can be dropped",
            code="past-deadline",
        )
    number = revival_of(job) + 1
    revived = replace(job, revival=number)
    theirs = {name: value for name, value in letter.headers.items() if not name.lower().startswith(_SERVERS_OWN)}
    status = replace(accepted_status(revived, pattern_key(job.spec)), queued_at=now)
    try:
        await js.publish(
            queued_job(job.job_class, job.tenant, job.id),
            encode_job(revived),
            stream=JOBS_STREAM,
            headers=theirs | {Header.MSG_ID.value: f"{job.id}.revival-{number}"},
        )
        await js.publish(
            job_event(job.origin, job.id),
            encode_status(status),
            headers=theirs | {Header.MSG_ID.value: f"{job.id}.queued.{number}"},
        )
    except _OUTAGE as error:
        raise Unavailable(f"the hub did not take {job.id} back: {error!r}; its letter stays") from error
    await drop(js, letter)
    return revived


async def drop(js: JetStreamContext, letter: DeadLetter) -> None:
    """Remove the letter; one that is gone already is no error. Raises Unavailable."""
    try:
        await js.delete_msg(DEAD_STREAM, letter.sequence)
    except _OUTAGE as error:
        if not (isinstance(error, APIError) and error.err_code == NO_MESSAGE_CODE):
            raise Unavailable(f"DEAD did not remove {letter.job_id}: {error!r}") from error
