"""What this worker tells of demand: what it served, how long jobs had waited, its start, and that it is there.

A job that goes on over several minutes counts in each of them. All of it belongs to the loop.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from nats.errors import Error as NatsError
from nats.js.api import Header

from halfdrop.contracts.demand import FINISH, LATE_AFTER_S, DemandReport, SeriesName, series_of
from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import Job
from halfdrop.contracts.subjects import DEMAND_STREAM, demand_report
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.settings import HubSettings
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.demand import Count, DemandCounter

log = structlog.get_logger()

WAIT_MAX_S = 7 * 86_400.0
"""Longer than JOBS can hold a job's wait to be true; a clock that jumped tells such."""

TICKS_PER_S = 100
"""USER_HZ: what /proc counts a process's start in on every Linux."""


class HubDemand:
    """Counts a worker's deliveries, and sends what was counted."""

    def __init__(
        self,
        settings: HubSettings,
        *,
        model: str = "house",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._model = model
        self._clock = clock
        self._monotonic = monotonic
        self._ready_since: float | None = None
        """Until when its being there is counted already; None before it can take jobs."""

        self._running: dict[int, tuple[SeriesName, float]] = {}
        """Deliveries that go on: their series, and until when their work is counted already."""

        self.counter = DemandCounter(
            f"hub-{settings.name}",
            blank={"gpu_s_served": 0.0, "replica_s": 0.0},
            usual=self._usual,
            settle=self._settle,
            clock=clock,
        )

    def begin(self) -> None:
        """From now on it can take jobs."""
        if self._ready_since is None:
            self._ready_since = self._monotonic()

    def note_boot(self, boot_s: float) -> None:
        """Count the start of this worker, which took `boot_s`."""
        self.counter.add(self._usual()[0], cold_starts=1, boot_s_sum=boot_s)

    @contextmanager
    def delivery(self, delivery: Delivery, job: Job) -> Iterator[None]:
        """Count a delivery from its bytes to its answer."""
        series = series_of(job, self._settings.region)
        if delivery.attempt == 1:
            wait_s = min(max(0.0, self._clock() - delivery.queued_at), WAIT_MAX_S)
            self.counter.add(series, late=int(wait_s > LATE_AFTER_S), wait_s_sum=wait_s)
        self._running[delivery.sequence] = series, self._monotonic()
        try:
            yield
        finally:
            self.counter.close(is_over=False)  # what it did in minutes that are over belongs there
            _, since = self._running.pop(delivery.sequence)
            self.counter.add(series, gpu_s_served=self._gpu_s(since, self._monotonic()))

    async def tell(self, broker: Broker) -> None:
        """Tell of each minute until cancelled, and then of the last one."""

        async def send(report: DemandReport, data: bytes) -> None:
            headers = {Header.MSG_ID.value: report.id}
            subject = demand_report(self._settings.region, report.member)
            try:
                await broker.js.publish(subject, data, stream=DEMAND_STREAM, headers=headers)
            except (NatsError, OSError, TimeoutError) as error:
                raise Unavailable(f"DEMAND did not take the report: {error!r}") from error

        await self.counter.run_until_cancelled(send)

    def _usual(self) -> list[SeriesName]:
        region, model = self._settings.region, self._model[:64]
        return [SeriesName(region, name, model, FINISH) for name in self._settings.taken_classes]

    def _settle(self, count: Count) -> None:
        now = self._monotonic()
        for sequence, (series, since) in list(self._running.items()):
            count(series, {"gpu_s_served": self._gpu_s(since, now)})
            self._running[sequence] = series, now
        if self._ready_since is not None:
            for series in self._told():
                count(series, {"replica_s": now - self._ready_since})
            self._ready_since = now

    def _told(self) -> Iterable[SeriesName]:
        """Return the series that this worker serves: the usual ones, and those it had jobs of."""
        return dict.fromkeys([*self._usual(), *self.counter.known()])

    def _gpu_s(self, since: float, until: float) -> float:
        return max(0.0, until - since) / self._settings.slots


def process_age_s() -> float:
    """Return how long ago this process was started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / TICKS_PER_S)
