"""What the world is told of a running job: snapshots to EVENTS, each stage at least once, steps at a bounded rate."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
from msgspec import UNSET, MsgspecError
from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js.api import Header
from nats.js.errors import NotFoundError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import (
    Artifact,
    Job,
    JobState,
    JobStatus,
    ProgressPicture,
    accepted_status,
    decode_status,
    encode_status,
    revival_of,
)
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.subjects import EVENTS_STREAM, job_event
from halfdrop.hub.delivery import Delivery
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.durations import DurationsBy
from halfdrop.runtime.publishing import GroupPublisher
from halfdrop.runtime.tracing import OFF, Tracing, Value, carry

log = structlog.get_logger()

INTERVAL_S = 0.1
"""At most this often: EVENTS keeps 256 snapshots of a job, and nobody sees more than ten a second."""

WAITING_MAX = 16
LOG_LINES_MAX = 64

MakePicture = Callable[[], Awaitable[ProgressPicture | None]]


class Report:
    """The newest status of a running job, and its way to EVENTS. One per delivery, used from the loop's thread."""

    def __init__(self, broker: Broker, status: JobStatus, stages: DurationsBy, tracing: Tracing = OFF) -> None:
        self.status = status
        self._done = 0
        """Steps that this delivery knows to be done; what is told may be further, from an earlier one."""

        self._broker = broker
        self._stages = stages
        self._tracing = tracing
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[JobStatus] = deque(maxlen=WAITING_MAX)
        self._changed = asyncio.Event()
        self._picture: MakePicture | None = None
        self._offered = asyncio.Event()

    def plan(self, steps: int, *, done: int = 0) -> None:
        """Say how many steps the job has in all, known once it is known whether it must be sampled, and how many an
        earlier delivery has done for good. What was told before is never taken back."""
        self._done = done
        self._change(replace(self.status, steps=steps, step=max(done, min(self.status.step, steps))))

    @contextmanager
    def stage(self, name: str, **attributes: Value) -> Iterator[None]:
        """Say that `name` is going on; when it is done, note how long it took."""
        self._change(replace(self.status, stage=name))
        with self.timed(name, **attributes) as elapsed_s:
            yield
        self.note(f"{name}: {elapsed_s():.2f} s")

    @contextmanager
    def timed(self, name: str, **attributes: Value) -> Iterator[Callable[[], float]]:
        """Time what is going on, for metrics and traces alone; yields what tells the seconds since it began."""
        began_s = time.perf_counter()

        def elapsed_s() -> float:
            return time.perf_counter() - began_s

        with self._tracing.span(name, attributes=attributes):
            yield elapsed_s
        self._stages.add((name,), elapsed_s())

    def advance(self, by: int = 1) -> None:
        """Count one more step as done."""
        self._done = min(self._done + by, self.status.steps)
        self._change(replace(self.status, step=max(self.status.step, self._done)))

    def advance_from_thread(self, by: int = 1) -> None:
        """Count one more step as done, from any thread."""
        self._loop.call_soon_threadsafe(self.advance, by)

    def show_from_thread(self, make: MakePicture) -> None:
        """Have a picture of the progress made and told of, from any thread; one that waits still gives way to it."""
        self._loop.call_soon_threadsafe(self._show, make)

    def _show(self, make: MakePicture) -> None:
        self._picture = make
        self._offered.set()

    def part_done(self, last: int) -> Callable[[], float]:
        """Return what tells how much of the job's last `last` steps is done, 0 to 1."""
        return lambda: max(0.0, (self._done - (self.status.steps - last)) / last)

    def note(self, line: str) -> None:
        """Add a line to the job's log; it goes out with the next snapshot."""
        self.status = replace(self.status, log=(*self.status.log, line)[-LOG_LINES_MAX:])

    def turn_to(self, spec: PatternSpec, key: str) -> None:
        """Say that the order is now finished from another pattern; it goes out with the next snapshot."""
        self.note(f"another seed is tried: {spec.seed}")
        self.status = replace(self.status, spec=spec, pattern_key=key, refiner_digest=UNSET, progress_picture=UNSET)

    def keep_files(self, artifacts: tuple[Artifact, ...]) -> None:
        """Name files that stay although the order has failed."""
        self.status = replace(self.status, artifacts=artifacts)

    def name_refiner(self, digest: str) -> None:
        """Say which refiner drew the job's layers; it goes out with the next snapshot."""
        self.status = replace(self.status, refiner_digest=digest)

    def _change(self, status: JobStatus) -> None:
        if self._waiting and self._waiting[-1].stage == status.stage:
            self._waiting.pop()  # a newer snapshot of the same stage says all that it said
        self._waiting.append(status)
        self.status = status
        self._changed.set()

    async def publish_changes(self) -> None:
        """Publish snapshots, and have pictures made, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_snapshots())
            tasks.create_task(self._make_pictures())

    async def _make_pictures(self) -> None:
        while True:
            await self._offered.wait()
            self._offered.clear()
            make, self._picture = self._picture, None
            if make is not None and (picture := await make()) is not None:
                self._change(replace(self.status, progress_picture=picture))

    async def _publish_snapshots(self) -> None:
        """Publish until cancelled. One that is lost costs nothing once the next arrives, so none is
        acknowledged."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting:
                status = self._waiting.popleft()
                try:
                    await self._broker.nc.publish(job_event(status.origin, status.id), encode_status(status))
                except (NatsError, OSError) as error:
                    log.debug("progress_lost", job_id=status.id, error=repr(error))
            await asyncio.sleep(INTERVAL_S)


async def announce(events: GroupPublisher, status: JobStatus) -> None:
    """Publish `status` and wait until EVENTS has it. Raises Unavailable if it does not take it.

    A final status goes under one message id, so that announcing it again within the window changes nothing. Each
    revival has a final status of its own.
    """
    life = f".{revival_of(status)}" if revival_of(status) else ""
    headers = {Header.MSG_ID.value: f"{status.id}.{status.state}{life}"} if status.state.is_final else {}
    try:
        await events.publish(job_event(status.origin, status.id), encode_status(status), headers=carry(headers))
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"EVENTS did not take the status: {error!r}") from error


async def begin_status(
    broker: Broker,
    job: Job,
    pattern_key: str,
    delivery: Delivery,
    *,
    worker: str,
    clock: Callable[[], float] = time.time,
) -> JobStatus:
    """Return the status of a job whose delivery begins now.

    From the second delivery on, the first start, the log, the steps and the account of the deliveries go on from what
    EVENTS last heard.
    """
    earlier = await _last_status(broker, job) if delivery.attempt > 1 else None
    if earlier is not None and revival_of(earlier) != revival_of(job):
        earlier = None  # of its former life, whose account is closed
    started_at = earlier.started_at if earlier is not None else None
    return replace(
        accepted_status(job, pattern_key),
        state=JobState.PROCESSING,
        attempt=delivery.attempt,
        queued_at=delivery.queued_at,
        started_at=clock() if started_at is None else started_at,
        worker=worker,
        log=earlier.log if earlier is not None else (),
        step=earlier.step if earlier is not None else 0,
        steps=earlier.steps if earlier is not None else 0,
        tries=earlier.tries if earlier is not None else UNSET,
        queue_sequence=delivery.sequence,
    )


async def _last_status(broker: Broker, job: Job) -> JobStatus | None:
    try:
        message = await broker.js.get_last_msg(EVENTS_STREAM, job_event(job.origin, job.id))
        return decode_status(message.data or b"")
    except NotFoundError:
        return None
    except (NatsError, OSError, TimeoutError, MsgspecError) as error:
        log.warning("history_unavailable", job_id=job.id, error=repr(error))
        return None
