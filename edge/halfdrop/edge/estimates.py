"""Estimates for this edge's orders: the pools' states, the places of the orders, and what the past taught.

Each order is predicted once when it is accepted; when it is heard to start or end, the calibration learns from the
difference. What is said of an order afterwards is worked out anew from the newest states.
"""

import time
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from halfdrop.contracts.jobs import JobClass, JobState, JobStatus
from halfdrop.contracts.work import work_of
from halfdrop.edge.estimating import Calibration, Course, Estimate, Place, expect_rest, expect_wait
from halfdrop.edge.pools import Pools

REMEMBERED_MAX = 10_000
"""Orders whose prediction is remembered until they start, those accepted last."""

NEWS_LATE_S = 5.0
"""A start that is heard of so much later, or by a clock so far off, teaches nothing."""


class _Said(NamedTuple):
    """What was predicted of an order when it was accepted."""

    place: Place
    wait_s: float
    work_s: float
    at: float


class _OwnLane:
    """The waiting orders of one tenant in one class at this edge."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.work: dict[str, float] = {}
        self.total_work = 0.0

    def add(self, order_id: str, work: float) -> None:
        insort(self.ids, order_id)
        self.work[order_id] = work
        self.total_work += work

    def remove(self, order_id: str) -> None:
        self.total_work -= self.work.pop(order_id)
        del self.ids[bisect_left(self.ids, order_id)]

    def work_before(self, place: int) -> float:
        """Return the work of the orders before `place`, summed from the nearer end: most often it is the newest's."""
        if place <= len(self.ids) // 2:
            return sum(self.work[order_id] for order_id in self.ids[:place])
        return max(0.0, self.total_work - sum(self.work[order_id] for order_id in self.ids[place:]))


class Estimates:
    """Says when orders start and end. Listens to every status that the order book takes in."""

    def __init__(
        self, pools: Pools, *, home: str, unfinished: Iterable[JobStatus] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._pools = pools
        self._home = home
        self._clock = clock
        self._lanes: dict[tuple[JobClass, str], _OwnLane] = {}
        self._said: OrderedDict[str, _Said] = OrderedDict()
        self.waits, self.durations = Calibration(), Calibration()
        for status in unfinished:
            self._place_in_lane(status)

    def note(self, status: JobStatus) -> None:
        """Take in a status: a new order is predicted, one that starts or ends is learnt from."""
        now = self._clock()
        self._place_in_lane(status)
        if status.state is JobState.QUEUED and status.id not in self._said:
            self._remember(status, now)
        elif status.state is JobState.PROCESSING and status.attempt <= 1:
            said = self._said.get(status.id)
            if said is not None and said.wait_s >= 0 and status.started_at is not None:
                if abs(now - status.started_at) <= NEWS_LATE_S:
                    self.waits.learn(said.place, said.wait_s, now - said.at)
                self._said[status.id] = said._replace(wait_s=-1.0)  # learnt from
        elif status.state.is_final:
            said = self._said.pop(status.id, None)
            is_whole = status.state is JobState.COMPLETED and status.attempt <= 1
            if said is not None and is_whole and status.started_at and status.completed_at:
                bare = Place(job_class=status.job_class, tenant=status.tenant)
                self.durations.learn(bare, said.work_s, status.completed_at - status.started_at)

    def estimate(self, status: JobStatus, *, hub_away: bool = False) -> Estimate:
        """Return what can be said now of an order's place and time."""
        if status.state.is_final:
            return Estimate(region=_region_of(status))
        position = self._own_jobs_ahead(status) if status.state is JobState.QUEUED else None
        if hub_away:
            return Estimate(queue_position=position, region=_region_of(status), why="the hub is away")
        region = _region_of(status) or self._choose_region()
        if region is None:
            return Estimate(queue_position=position, why="no pool is heard")
        if status.state is JobState.QUEUED:
            return self._estimate_waiting(status, region)
        if status.state is JobState.RETRYING:
            return Estimate(region=region, why="it is tried again later")
        elapsed_s = max(0.0, self._clock() - (status.started_at or self._clock()))
        course = Course(elapsed_s, status.step, status.steps, self._work_seconds(status, region))
        return Estimate(region=region, ends_in_s=expect_rest(course))

    def _estimate_waiting(self, status: JobStatus, region: str) -> Estimate:
        load, place = self._pools.load(region, status.job_class), self._place(status, region)
        own = self._own_jobs_ahead(status)
        if load.slots < 1:
            is_heard = bool(self._pools.workers(region))
            why = f"no worker of region {region} takes {status.job_class} orders" if is_heard else "no pool is heard"
            return Estimate(queue_position=own, region=region, why=why)
        wait = expect_wait(load, place)
        if wait is None:
            return Estimate(queue_position=own, region=region, why=f"region {region} has not measured its rate yet")
        starts_in_s = self.waits.correct(place, wait.starts_in_s)
        work_s = self._work_seconds(status, region)
        position = max(own, wait.jobs_ahead)
        return Estimate(
            queue_position=position,
            starts_in_s=starts_in_s,
            ends_in_s=None if work_s is None else starts_in_s + work_s,
            region=region,
            why=self._say_why(region, position),
        )

    def _say_why(self, region: str, position: int) -> str:
        if self._pools.is_draining(region):
            return f"region {region} is draining; orders that it has are finished"
        if position:
            return f"behind {position} {'order' if position == 1 else 'orders'}"
        return "next"

    def _choose_region(self) -> str | None:
        """Return where an order goes that no hub has yet: home, unless it is not heard or draining."""
        regions = self._pools.regions()
        open_ones = [name for name in regions if not self._pools.is_draining(name)] or regions
        if self._home in open_ones or not open_ones:
            return self._home if open_ones else None
        return open_ones[0]

    def _remember(self, status: JobStatus, now: float) -> None:
        region = _region_of(status) or self._choose_region()
        if region is None:
            return
        place = self._place(status, region)
        wait = expect_wait(self._pools.load(region, status.job_class), place)
        raw_s = self._raw_seconds(status, region)
        if wait is not None and raw_s is not None:
            self._said[status.id] = _Said(place, wait.starts_in_s, raw_s, now)
            if len(self._said) > REMEMBERED_MAX:
                self._said.popitem(last=False)

    def _place(self, status: JobStatus, region: str) -> Place:
        """Return the place in the lane: orders of this edge exactly, those of other edges in proportion.

        What of the lane's jobs is not ours came through other edges; before the newest of ours is all of it, before
        the first of ours nearly none.
        """
        jobs = self._own_jobs_ahead(status)
        lane = self._lanes.get((status.job_class, status.tenant))
        work = lane.work_before(jobs) if lane is not None else 0.0
        own = len(lane.ids) if lane is not None else 0
        told = next(
            (
                each
                for each in self._pools.load(region, status.job_class).lanes
                if (each.job_class, each.tenant) == (status.job_class, status.tenant)
            ),
            None,
        )
        if told is not None and told.jobs > 0:
            busy = sum(heard.state.busy for heard in self._pools.workers(region))
            running = told.running if isinstance(told.running, int) else busy
            others = max(0, told.jobs - min(running, told.jobs) - own) * (jobs + 1) / max(1, own)
            jobs, work = jobs + int(others), work + int(others) * told.work / told.jobs
        return Place(job_class=status.job_class, tenant=status.tenant, jobs_ahead=jobs, work_ahead=work)

    def _own_jobs_ahead(self, status: JobStatus) -> int:
        """Return how many orders of this edge are before `status` in its lane."""
        lane = self._lanes.get((status.job_class, status.tenant))
        return 0 if lane is None else bisect_left(lane.ids, status.id)

    def _place_in_lane(self, status: JobStatus) -> None:
        key = status.job_class, status.tenant
        if status.state is JobState.QUEUED:
            waiting = self._lanes.setdefault(key, _OwnLane())
            if status.id not in waiting.work:
                waiting.add(status.id, _work_of(status))
        elif (lane := self._lanes.get(key)) is not None and status.id in lane.work:
            lane.remove(status.id)
            if not lane.ids:
                del self._lanes[key]

    def _raw_seconds(self, status: JobStatus, region: str) -> float | None:
        pace = self._pools.load(region, status.job_class).pace
        return None if pace is None else pace.seconds(_work_of(status))

    def _work_seconds(self, status: JobStatus, region: str) -> float | None:
        raw_s = self._raw_seconds(status, region)
        place = Place(job_class=status.job_class, tenant=status.tenant)
        return None if raw_s is None else self.durations.correct(place, raw_s)


def _region_of(status: JobStatus) -> str | None:
    return None if status.region is msgspec.UNSET else status.region


def _work_of(status: JobStatus) -> float:
    """Return an order's work; orders of earlier releases do not say it, and brought their plates."""
    return work_of(size_px=status.size_px, steps=0) if status.work is msgspec.UNSET else status.work
