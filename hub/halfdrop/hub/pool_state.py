"""What this worker tells of itself and its pool, every second: `contracts.pools` says who reads it and what for."""

import asyncio
import time
from collections.abc import Callable

import structlog
from nats.errors import Error as NatsError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.imported import ImportedModel
from halfdrop.contracts.patterns import SIZE_MAX_PX
from halfdrop.contracts.pools import STATE_EVERY_S, WorkerState, encode_state
from halfdrop.contracts.subjects import worker_state
from halfdrop.hub.collecting import JobQueue
from halfdrop.hub.settings import HubSettings
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

KEPT = 0.9
"""How much of what was measured before counts beside the newest job: about the last ten count."""


class WorkRate:
    """How much work a busy slot does in a second, lately: all work by all time, so that a large job counts as such."""

    def __init__(self) -> None:
        self._work = 0.0
        self._seconds = 0.0

    def add(self, work: float, seconds: float) -> None:
        """Take in a job that was done."""
        self._work = self._work * KEPT + work
        self._seconds = self._seconds * KEPT + seconds

    @property
    def units_per_s(self) -> float:
        """0 before the first job."""
        return self._work / self._seconds if self._seconds else 0.0


async def tell_state(
    broker: Broker,
    settings: HubSettings,
    queue: JobQueue,
    rate: WorkRate,
    models: Callable[[], tuple[tuple[str, ...], tuple[ImportedModel, ...]]],
    *,
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
            units_per_s=rate.units_per_s,
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
