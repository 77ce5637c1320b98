"""What this worker tells of itself and its pool, every second: `contracts.pools` says who reads it and what for."""

import asyncio
import time
from collections.abc import Callable

import structlog
from nats.errors import Error as NatsError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.imported import ImportedModel
from halfdrop.contracts.patterns import SIZE_MAX_PX
from halfdrop.contracts.pools import STATE_EVERY_S, Pace, WorkerState, encode_state
from halfdrop.contracts.subjects import worker_state
from halfdrop.hub.collecting import JobQueue
from halfdrop.hub.settings import HubSettings
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

KEPT = 0.98
"""How much of what was measured before counts beside the newest job: about the last fifty count."""

UNLIKELY_JOBS = 0.5
"""So many jobs of no work that took no time are taken as seen: while all jobs are of one size their time is put down to
their work, and other sizes tell otherwise as soon as they come."""


class PaceMeter:
    """How fast a busy slot works, lately: a line through the jobs that were done, time against work."""

    def __init__(self) -> None:
        self._jobs = self._work = self._work_squared = self._seconds = self._work_seconds = 0.0

    def add(self, work: float, seconds: float) -> None:
        """Take in a job that was done."""
        self._jobs = self._jobs * KEPT + 1
        self._work = self._work * KEPT + work
        self._work_squared = self._work_squared * KEPT + work * work
        self._seconds = self._seconds * KEPT + seconds
        self._work_seconds = self._work_seconds * KEPT + work * seconds

    @property
    def units_per_s(self) -> float:
        """All work by all time, so that a large job counts as such; 0 before the first job."""
        return self._work / self._seconds if self._seconds else 0.0

    @property
    def pace(self) -> Pace | None:
        """The line of least squares with neither part below zero; None before the first job."""
        if not self._seconds:
            return None
        jobs = self._jobs + UNLIKELY_JOBS
        spread = jobs * self._work_squared - self._work**2
        job_s = (self._seconds * self._work_squared - self._work_seconds * self._work) / spread
        unit_s = (jobs * self._work_seconds - self._work * self._seconds) / spread
        if job_s <= 0:
            return Pace(unit_s=self._work_seconds / self._work_squared)
        return Pace(job_s=job_s, unit_s=unit_s) if unit_s > 0 else Pace(job_s=self._seconds / self._jobs)


async def tell_state(
    broker: Broker,
    settings: HubSettings,
    queue: JobQueue,
    meter: PaceMeter,
    models: Callable[[], tuple[tuple[str, ...], tuple[ImportedModel, ...]]],
    *,
    rests_s: Callable[[Pace | None], tuple[float, ...]],
    bound: asyncio.Event,
    clock: Callable[[], float] = time.time,
) -> None:
    """Count the lanes and tell the state every STATE_EVERY_S, from `bound` (there are lanes) until cancelled.

    models: digests of what it samples with, and what its users imported. An outage is logged and waited out: in it the
    last counts are told, as nobody knows better ones.
    """
    await bound.wait()
    while True:
        try:
            await queue.count()
        except Unavailable as error:
            log.warning("lanes_unknown", error=error.detail)
        pace = meter.pace
        own, imported = models()
        lanes, other_work = queue.lanes.describe(queue.news.running(time.monotonic()))
        state = WorkerState(
            region=settings.region,
            worker=settings.name,
            at=clock(),
            slots=settings.slots,
            busy=queue.in_hand,
            classes=settings.taken_classes,
            models=own,
            imported=imported,
            size_max_px=SIZE_MAX_PX,
            units_per_s=meter.units_per_s,
            pace=pace,
            rests_s=rests_s(pace),
            newcomers=queue.lanes.newcomers.slots(pace, time.monotonic()) if pace is not None else 0.0,
            is_draining=queue.is_draining,
            claims=True,
            weights=queue.policy.all_weights(),
            lanes=lanes,
            other_work=other_work,
        )
        try:
            await broker.nc.publish(worker_state(settings.region, settings.name), encode_state(state))
        except (NatsError, OSError) as error:
            log.debug("state_not_told", error=repr(error))
        queue.news.remind()
        await asyncio.sleep(STATE_EVERY_S)
