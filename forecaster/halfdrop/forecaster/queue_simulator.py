"""A queue in front of a pool of GPUs, at one-second ticks: boots take minutes and are paid, jobs start in order.

Rules, the same for every policy. A decision each 15 s names a number of GPUs. More than there are: boots begin, each
lasting its own drawn time and paid from its first second. Fewer: boots under way are given up first, the youngest
first, then idle GPUs; a GPU at work finishes its job and is paid until then. A job starts on the first free GPU, in
order of arrival; it is late if it waited more than `late_after_s`.

Fast where nothing waits: while no job is delayed, the GPUs at work are those of a pool without limits, which is known
beforehand for the whole trace. Only where that would exceed the capacity is every tick walked through.
"""

import heapq
from collections import deque

import msgspec
import numpy as np

from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, Policy
from halfdrop.forecaster.workload import IntArray, Workload

LATE_AFTER_S = 10
BOOT_MIN_S, BOOT_MAX_S = 240, 480
"""4 to 8 minutes: node, driver, image, weights."""


class PoolRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool is like."""

    boot_min_s: int = BOOT_MIN_S
    boot_max_s: int = BOOT_MAX_S
    late_after_s: int = LATE_AFTER_S
    replicas_min: int = 1
    replicas_max: int = 2_000
    seed: int = 7
    """Of the boot times."""

    def boot_quantile_s(self, quantile: float) -> float:
        """Return a quantile of the pool's boot times, which the replay draws evenly between the two limits."""
        return self.boot_min_s + quantile * (self.boot_max_s - self.boot_min_s)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay. GPU-hours include boots and draining."""

    jobs: int
    late_jobs: int
    gpu_hours: float
    work_hours: float
    boots: int
    boot_hours: float
    replicas: IntArray
    """GPUs paid for at each decision."""

    is_whole: bool = True
    """False where the replay was given up: the policy is later than it may be, and its hours are too few."""

    @property
    def late_share(self) -> float:
        return self.late_jobs / max(1, self.jobs)


class Timeline:
    """A workload laid out per tick, as it would be served without limits. Made once, shared by all policies."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        length = workload.length_s
        starts = np.bincount(workload.arrivals_s, minlength=length)[:length]
        ends_s = workload.arrivals_s + workload.service_s
        ends = np.bincount(ends_s[ends_s < length], minlength=length)[:length]
        self.in_service = np.cumsum(starts - ends)
        self.arrived = np.concatenate([[0], np.cumsum(starts)])
        """arrived[t]: jobs that came before tick t."""

        self.arrivals: list[int] = workload.arrivals_s.tolist()
        self.services: list[int] = workload.service_s.tolist()
        """Plain lists beside the arrays: single elements of an array cost ten times as much."""

        self._work = np.concatenate([[0], np.cumsum(workload.service_s)])
        edges = np.arange(0, length + 1, DECISION_INTERVAL_S)
        self.peaks: list[int] = np.maximum.reduceat(self.in_service, edges[:-1]).tolist()
        self.busy_sums: list[int] = np.add.reduceat(self.in_service, edges[:-1]).tolist()
        at_edges = self.arrived[edges]
        self.counts: list[int] = np.diff(at_edges).tolist()
        self.offered: list[int] = np.diff(self._work[at_edges]).tolist()
        self.last_busy: list[int] = self.in_service[edges[1:] - 1].tolist()

    def unfinished_ends(self, tick: int) -> list[int]:
        """Return when the jobs that came before `tick` end, those that are still in work then."""
        jobs = self.workload
        first = int(np.searchsorted(jobs.arrivals_s, tick - int(jobs.service_s.max(initial=1))))
        last = int(self.arrived[tick])
        ends = jobs.arrivals_s[first:last] + jobs.service_s[first:last]
        found: list[int] = ends[ends >= tick].tolist()
        return found


class _Pool:
    """GPUs that serve, GPUs that boot, and the bill."""

    def __init__(self, rules: PoolRules, replicas: int) -> None:
        self.rules = rules
        self.capacity = replicas
        self.booting: list[tuple[int, int]] = []
        """(ready at tick, begun at tick): a heap."""

        self.boots = 0
        self.boot_s = 0
        self._dice = np.random.default_rng(rules.seed)
        self._drawn: deque[int] = deque()

    def scale(self, wanted: int, tick: int) -> None:
        wanted = min(max(wanted, self.rules.replicas_min), self.rules.replicas_max)
        missing = wanted - self.capacity - len(self.booting)
        for _ in range(missing):
            heapq.heappush(self.booting, (tick + self._draw_boot_s(), tick))
        self.boots += max(0, missing)
        if missing >= 0:
            return
        kept = sorted(self.booting, key=lambda boot: boot[1])[: max(0, len(self.booting) + missing)]
        self.boot_s += sum(tick - begun for _, begun in self.booting) - sum(tick - begun for _, begun in kept)
        self.booting = kept
        heapq.heapify(self.booting)
        self.capacity = min(self.capacity, wanted)

    def finish_boots(self, tick: int) -> None:
        while self.booting and self.booting[0][0] <= tick:
            ready_at, begun = heapq.heappop(self.booting)
            self.boot_s += ready_at - begun
            self.capacity += 1

    def _draw_boot_s(self) -> int:
        if not self._drawn:
            self._drawn.extend(self._dice.integers(self.rules.boot_min_s, self.rules.boot_max_s + 1, 1024).tolist())
        return self._drawn.popleft()


class _Backlog:
    """The ticks in which some job is delayed, walked through one by one."""

    def __init__(self, timeline: Timeline, tick: int) -> None:
        self._timeline = timeline
        self.started = int(timeline.arrived[tick])
        self._ends = timeline.unfinished_ends(tick)
        heapq.heapify(self._ends)
        self._delayed_until = 0
        self.late = 0

    @property
    def busy(self) -> int:
        return len(self._ends)

    def queued(self, tick: int) -> int:
        return int(self._timeline.arrived[tick]) - self.started

    def is_over(self, tick: int) -> bool:
        """Tell whether no job waits and none that was delayed is still in work: the fast path is exact again."""
        return tick > self._delayed_until and self.queued(tick) == 0

    def walk(self, first: int, pool: _Pool, late_after_s: int) -> tuple[int, int, int]:
        """Serve one interval; return the sums over its ticks of GPUs paid, GPUs at work, and jobs in the system."""
        paid = worked = inside = 0
        ends, started = self._ends, self.started
        arrivals, services = self._timeline.arrivals, self._timeline.services
        booting = pool.booting
        arrived: list[int] = self._timeline.arrived[first + 1 : first + 1 + DECISION_INTERVAL_S].tolist()
        for tick, here in enumerate(arrived, start=first):
            if booting and booting[0][0] <= tick:
                pool.finish_boots(tick)
            while ends and ends[0] <= tick:
                heapq.heappop(ends)
            busy = len(ends)
            while started < here and busy < pool.capacity:
                end = tick + services[started]
                heapq.heappush(ends, end)
                wait = tick - arrivals[started]
                if wait:
                    self._delayed_until = max(self._delayed_until, end)
                    self.late += wait > late_after_s
                started += 1
                busy += 1
            paid += max(pool.capacity, busy) + len(booting)
            worked += busy
            inside += busy + here - started
        self.started = started
        return paid, worked, inside

    def late_waiters(self, tick: int, late_after_s: int) -> int:
        """Return how many jobs still wait at `tick`, and for too long."""
        waiting = self._timeline.workload.arrivals_s[self.started : int(self._timeline.arrived[tick])]
        return int((tick - waiting > late_after_s).sum())


def simulate(
    timeline: Timeline, policy: Policy, *, rules: PoolRules, replicas: int, give_up_share: float = 1.0
) -> Outcome:
    """Serve the whole workload with `policy`, from `replicas` ready GPUs on.

    give_up_share: stop once more than this share of all jobs was late; `is_whole` is false then.
    """
    late_max = give_up_share * len(timeline.workload.arrivals_s)
    length = timeline.workload.length_s
    pool = _Pool(rules, replicas)
    backlog: _Backlog | None = None
    paid_s = late = 0
    history = np.zeros(len(timeline.peaks), dtype=np.int64)
    for number, peak in enumerate(timeline.peaks):
        tick = number * DECISION_INTERVAL_S
        if late > late_max:
            break
        late_before = late
        pool.finish_boots(tick)
        if backlog is None and peak > pool.capacity:
            backlog = _Backlog(timeline, tick)
        if backlog is None:
            paid = (pool.capacity + len(pool.booting)) * DECISION_INTERVAL_S
            worked = inside = timeline.busy_sums[number]
            busy, queued = timeline.last_busy[number], 0
            pool.finish_boots(tick + DECISION_INTERVAL_S - 1)
        else:
            paid, worked, inside = backlog.walk(tick, pool, rules.late_after_s)
            busy, queued = backlog.busy, backlog.queued(tick + DECISION_INTERVAL_S)
            late, backlog.late = late + backlog.late, 0
            if backlog.is_over(tick + DECISION_INTERVAL_S) and busy <= pool.capacity:
                backlog = None
        paid_s += paid
        history[number] = pool.capacity + len(pool.booting)
        seen = Observation(
            now_s=tick + DECISION_INTERVAL_S,
            ready=pool.capacity,
            booting=len(pool.booting),
            busy=busy,
            queued=queued,
            mean_busy=worked / DECISION_INTERVAL_S,
            mean_concurrency=inside / DECISION_INTERVAL_S,
            arrived=timeline.counts[number],
            offered_gpu_s=timeline.offered[number],
            late=late - late_before,
        )
        pool.scale(policy.decide(seen).replicas, tick + DECISION_INTERVAL_S)
    if backlog is not None:
        late += backlog.late_waiters(length, rules.late_after_s)
    boot_s = pool.boot_s + sum(length - begun for _, begun in pool.booting)
    return Outcome(
        jobs=len(timeline.workload.arrivals_s),
        late_jobs=late,
        gpu_hours=paid_s / 3600,
        work_hours=timeline.workload.work_gpu_s / 3600,
        boots=pool.boots,
        boot_hours=boot_s / 3600,
        replicas=history,
        is_whole=late <= late_max,
    )
