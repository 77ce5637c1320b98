"""When an order will start and end: weighted fair sharing worked out on paper, from what a pool tells of itself.

The pool takes jobs by virtual time: over the classes by weight, over the tenants of a class equally, within a tenant
first in, first out, and what somebody leaves is lent (the hub's fair queueing). Seen as a fluid, that has a closed
form. Let `height` be the work of its own lane that an order waits for. Until it starts, each other lane of its class
is served to the same height, if it has so much; the class as a whole is served A; each other class is served A times
the proportion of the weights, if it has so much. All slots are busy meanwhile, so the wait is the seconds of all that
work, dealt out to the slots as they fall free. Jobs are not fluid, so

- a lane stands on average half a job before its turn: half of its mean job is added, for one with a single job all of
  it (it has not been served lately, so it is before whoever comes now);
- jobs that run and do not say how long yet are expected to end one after the other, evenly, within a mean job;
- while an order waits behind others of its own lane, newcomers go ahead of it: what they took of the slots lately is
  not there for what waits.

What a job really takes, and who comes, nobody can know: `Calibration` learns how much longer orders of a kind waited
than was predicted. Nothing here knows the time, a server or a task.
"""

import heapq
import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

import msgspec

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import Lane, Pace

RATIOS_KEPT = 64
"""Orders of a kind that a calibration remembers: a few minutes of a busy pool."""

PRIOR_RATIOS = 3
"""So many ratios of 1 are taken as seen before the first: one odd order must not bend all estimates."""

FACTOR_MAX = 8.0
"""A calibration never multiplies or divides by more: beyond that something is broken, and no estimate is right."""

NEWCOMERS_MAX = 0.8
"""Share of the slots that newcomers are thought to take, at most: for a pool with too much to do there is no estimate
that holds for long."""

LOOKED_AHEAD = 64
"""Jobs that are dealt out to the slots one by one; further ahead it makes no difference."""

LEARN_FROM_S = 0.05
"""Shorter waits are the way over the network; no ratio is learnt from them."""


class PoolLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What a region's workers told, as far as they take one class of jobs."""

    slots: int
    busy: int
    pace: Pace | None
    """Of one busy slot; None: not measured yet."""

    weights: Mapping[JobClass, float]
    lanes: tuple[Lane, ...]
    other_work: float = 0.0
    rests_s: tuple[float, ...] = ()
    """How long running jobs still take, of those that say so."""

    newcomers: float = 0.0
    """Slots that newcomers keep busy."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order stands in its lane."""

    job_class: JobClass
    tenant: str
    jobs_ahead: float = 0.0
    work_ahead: float = 0.0
    """Of its own lane, waiting before it."""


class Wait(NamedTuple):
    """What is expected of an order that has not started."""

    starts_in_s: float
    jobs_ahead: int
    """Of all lanes, waiting, to be started before it."""


def expect_wait(pool: PoolLoad, place: Place) -> Wait | None:
    """Return the wait of an order at `place`; None if the pool has no slots or has not measured its rate."""
    if pool.slots < 1 or pool.pace is None:
        return None
    ahead = _served_before(_waiting(pool), pool, place)
    jobs, work = sum(lane.jobs for lane in ahead), sum(lane.work for lane in ahead)
    if pool.busy < pool.slots and work == 0:
        return Wait(0.0, 0)
    ahead_s = pool.pace.seconds(work, jobs)
    if place.jobs_ahead >= 1:
        ahead_s /= 1 - min(NEWCOMERS_MAX, pool.newcomers / pool.slots)
    return Wait(_free_slot_after(jobs, ahead_s, pool, pool.pace), max(math.floor(place.jobs_ahead), round(jobs)))


def _free_slot_after(jobs: float, ahead_s: float, pool: PoolLoad, pace: Pace) -> float:
    """Return when a slot falls free for whoever comes after what runs and `jobs` jobs of `ahead_s` seconds in all.

    Each slot that falls free takes the next of them, all alike; those beyond LOOKED_AHEAD are shared out as a fluid.
    """
    told_jobs = max(1, sum(lane.jobs for lane in pool.lanes))
    mean_s = pace.seconds((sum(lane.work for lane in pool.lanes) + pool.other_work) / told_jobs)
    busy = min(pool.busy, pool.slots)
    told = sorted(pool.rests_s)[:busy]
    silent = busy - len(told)
    rests_s = [*told, *(mean_s * (number + 1) / (silent + 1) for number in range(silent)), *[0.0] * (pool.slots - busy)]
    heapq.heapify(rests_s)
    whole_jobs = round(jobs)
    taken = min(LOOKED_AHEAD, whole_jobs)
    for _ in range(taken):
        heapq.heapreplace(rests_s, rests_s[0] + ahead_s / whole_jobs)
    if whole_jobs == taken:
        return rests_s[0]
    return rests_s[0] + ahead_s * (1 - taken / whole_jobs) / pool.slots


class _Share(NamedTuple):
    """Jobs and work of a lane or class, not always whole ones."""

    job_class: JobClass
    tenant: str
    jobs: float
    work: float
    lag: float | None = None


def _waiting(pool: PoolLoad) -> list[_Share]:
    """Return what waits in each lane: all of it less the running jobs, which nobody says whose they are.

    Where a lane does not say how many of its jobs run, they are taken to be spread over the lanes as the slots are
    shared out: by class and tenant, none more than it has.
    """
    running = _spread(pool)
    return [
        _Share(lane.job_class, lane.tenant, lane.jobs - run, lane.work * (lane.jobs - run) / lane.jobs, _lag(lane))
        for lane, run in running
        if lane.jobs > run
    ]


def _spread(pool: PoolLoad) -> list[tuple[Lane, float]]:
    """Return each lane with its part of the busy slots."""
    lanes = [lane for lane in pool.lanes if lane.jobs > 0]
    if all(isinstance(lane.running, int) for lane in lanes):
        return [(lane, float(lane.running)) for lane in lanes if isinstance(lane.running, int)]
    tenants = {lane.job_class: 0 for lane in lanes}
    for lane in lanes:
        tenants[lane.job_class] += 1
    share = [pool.weights.get(lane.job_class, 1.0) / tenants[lane.job_class] for lane in lanes]
    # Fill by level: those with few jobs for their share are full first, and leave the rest to the others.
    left, weight = float(min(pool.busy, sum(lane.jobs for lane in lanes))), sum(share)
    running = [0.0] * len(lanes)
    for index in sorted(range(len(lanes)), key=lambda i: lanes[i].jobs / share[i]):
        running[index] = min(lanes[index].jobs, left * share[index] / weight) if weight > 0 else 0.0
        left, weight = left - running[index], weight - share[index]
    return list(zip(lanes, running, strict=True))


def _served_before(waiting: list[_Share], pool: PoolLoad, place: Place) -> list[_Share]:
    """Return what is served before an order at `place` starts: its own lane, its class, then the other classes."""
    served = [_Share(place.job_class, place.tenant, place.jobs_ahead, place.work_ahead)]
    others: dict[JobClass, list[_Share]] = {}
    own_lags = (_lag(lane) for lane in pool.lanes if (lane.job_class, lane.tenant) == (place.job_class, place.tenant))
    height = place.work_ahead + (next(own_lags, None) or 0.0)
    for lane in waiting:
        if lane.job_class != place.job_class:
            others.setdefault(lane.job_class, []).append(lane)
        elif lane.tenant != place.tenant:
            served.append(_serve(lane, height))
    done = sum(lane.work for lane in served)
    weight = max(pool.weights.get(place.job_class, 1.0), 1e-9)
    for job_class, lanes in others.items():
        together = _Share(job_class, "", sum(lane.jobs for lane in lanes), sum(lane.work for lane in lanes))
        served.append(_serve(together, done * pool.weights.get(job_class, 1.0) / weight))
    if pool.other_work:
        told = sum(lane.work for lane in pool.lanes)
        served.append(_Share(place.job_class, "", 0.0, pool.other_work * min(1.0, done / max(told, 1e-9))))
    return served


def _serve(lane: _Share, height: float) -> _Share:
    """Return what of `lane` is served while another one is served `height`."""
    job = lane.work / max(lane.jobs, 1.0)
    if lane.lag is None:
        work = min(lane.work, height + (job if lane.jobs <= 1 else job / 2))
    elif lane.lag > height:
        work = 0.0
    else:  # as many jobs as begin up to there: the last of them goes beyond it
        work = min(lane.work, (math.floor((height - lane.lag) / job) + 1) * job if job > 0 else 0.0)
    return lane._replace(jobs=lane.jobs * work / lane.work if lane.work > 0 else 0.0, work=work)


def _lag(lane: Lane) -> float | None:
    return max(0.0, lane.lag) if isinstance(lane.lag, float) else None


class Kind(NamedTuple):
    """Orders that a calibration treats alike: of one class, with own orders before them or not, of like waits."""

    job_class: JobClass
    is_behind_own: bool
    magnitude: int


class Calibration:
    """Learns from orders that were seen to start how much longer than predicted orders of a kind wait."""

    def __init__(self) -> None:
        self._ratios: dict[Kind, deque[float]] = {}

    def correct(self, place: Place, predicted_s: float) -> float:
        """Return `predicted_s` times the median ratio of orders of this kind."""
        ratios = self._ratios.get(kind_of(place, predicted_s))
        return predicted_s * (_middle(ratios) if ratios else 1.0)

    def learn(self, place: Place, predicted_s: float, real_s: float) -> None:
        """Take in that an order for which `predicted_s` was predicted, uncorrected, waited `real_s`."""
        if predicted_s < LEARN_FROM_S or not 0 <= real_s < math.inf:
            return
        ratios = self._ratios.setdefault(kind_of(place, predicted_s), deque(maxlen=RATIOS_KEPT))
        ratios.append(min(max(real_s / predicted_s, 1 / FACTOR_MAX), FACTOR_MAX))

    def factors(self) -> dict[Kind, float]:
        """Return what each kind is multiplied by now."""
        return {kind: _middle(ratios) for kind, ratios in self._ratios.items()}


def kind_of(place: Place, predicted_s: float) -> Kind:
    """Return the kind of an order; magnitudes are factors of four, from a quarter of a second to an hour."""
    magnitude = round(math.log(max(predicted_s, 0.25)) / math.log(4))
    return Kind(place.job_class, place.jobs_ahead >= 1, min(magnitude, 6))


def _middle(ratios: deque[float]) -> float:
    return median([*ratios, *[1.0] * PRIOR_RATIOS])


class Course(NamedTuple):
    """What the rest of a running job is reckoned from."""

    elapsed_s: float
    step: int
    steps: int
    expected_s: float | None
    """What the whole job should take at the pool's rate; None if that is unknown."""


def expect_rest(course: Course) -> float | None:
    """Return the seconds that a running job still takes, never negative; None if there is nothing to go by.

    Before its first step the pool's rate says it; the more steps are done, the more these do: the two are mixed in
    proportion to the steps, so the figure does not jump.
    """
    done = min(1.0, course.step / course.steps) if course.steps > 0 else 0.0
    by_rate = None if course.expected_s is None else max(0.0, course.expected_s - course.elapsed_s)
    if done == 0:
        return by_rate
    by_steps = max(0.0, course.elapsed_s) * (1 - done) / done
    return by_steps if by_rate is None else done * by_steps + (1 - done) * by_rate


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of an order's course."""

    queue_position: int | None = None
    starts_in_s: float | None = None
    ends_in_s: float | None = None
    region: str | None = None
    why: str = ""
    """In words, why it waits, or why nothing is said of its time."""
