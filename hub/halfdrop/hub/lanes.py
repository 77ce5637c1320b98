"""What a worker knows of the lanes: how many jobs wait in each, for how much work they ask, and which to look at.

Known from three sides: the stream's own counts (certain, once a second), the headers of jobs just queued, and what the
workers of the pool tell of jobs that they took and settled. The counts set right whatever the others got wrong.
Nothing here knows the time, a server or a task.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from msgspec import UNSET

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import LANES_MAX, Lane, Pace
from halfdrop.hub.fair_order import Choice, FairOrder, LaneName

LOOK_AGAIN_S = 0.8
"""A lane that has jobs, all of them in somebody's hand, is looked at again after this: one may have come back."""

CAPPED_S = 0.1
"""The same for a lane whose tenant has as many in hand as it may: more often, as what ends makes room."""

WORK_UNKNOWN = 1.0
"""What a job counts for before any of its lane told: a master of a megapixel."""

MEAN_SHARE = 0.1
"""How much the newest job moves the mean work of its lane."""

LATELY_S = 300.0
"""Newcomers are counted over about this time: long enough for a mean, and short beside a day's course."""

CLASSES: tuple[JobClass, ...] = get_args(JobClass)


class _Known:
    """What is known of one lane."""

    def __init__(self) -> None:
        self.jobs = 0
        self.told = 0
        """Of these jobs, the newest ones, those that told how much work they are …"""

        self.told_work = 0.0
        """… and how much that is."""

        self.mean_work = 0.0
        self.heard_at = -math.inf

    @property
    def work(self) -> float:
        return self.told_work + (self.jobs - self.told) * (self.mean_work or WORK_UNKNOWN)

    def add(self, jobs: int, work: float, now: float) -> None:
        """Put in the newest jobs, which told their work in all."""
        self.jobs += jobs
        self.told += jobs
        self.told_work += work
        self.heard_at = now
        self._note(work / jobs)

    def remove(self, jobs: int, work: float) -> None:
        """Take out the oldest jobs: first those that told nothing."""
        self._note(work / jobs)
        gone = min(jobs, self.jobs)
        gone_told = max(0, gone - (self.jobs - self.told))
        self.jobs -= gone
        self.told -= gone_told
        self.told_work = max(0.0, self.told_work - work * gone_told / gone) if self.told and gone else 0.0

    def count(self, jobs: int) -> None:
        """Take over how many there are."""
        if jobs < self.told:
            self.told_work *= jobs / self.told
            self.told = jobs
        self.jobs = jobs

    def _note(self, work: float) -> None:
        self.mean_work += (work - self.mean_work) * (MEAN_SHARE if self.mean_work else 1.0)


@dataclass(kw_only=True, eq=False)
class Planned:
    """Jobs to take from one lane."""

    lane: LaneName
    reason: Literal["share", "age"]
    jobs: int = 0
    work: float = 0.0
    """What the lane was charged with for them."""


class Newcomers:
    """Jobs that came to empty lanes lately; older ones are forgotten little by little."""

    def __init__(self) -> None:
        self._jobs = self._work = 0.0
        self._at = -math.inf

    def add(self, jobs: int, work: float, now: float) -> None:
        """Take in jobs that are `work` in all."""
        self._forget(now)
        self._jobs, self._work = self._jobs + jobs, self._work + work

    def slots(self, pace: Pace, now: float) -> float:
        """Return how many slots they keep busy if they go on to come so."""
        self._forget(now)
        return pace.seconds(self._work, self._jobs) / LATELY_S

    def _forget(self, now: float) -> None:
        kept = math.exp((self._at - now) / LATELY_S)
        self._jobs, self._work, self._at = self._jobs * kept, self._work * kept, now


class Lanes:
    """All lanes of the queue, and the order in which this worker takes from them."""

    def __init__(self, weights: Mapping[JobClass, float], classes: Iterable[JobClass]) -> None:
        self._order = FairOrder(weights)
        self._classes = tuple(classes)
        self._known: dict[LaneName, _Known] = {}
        self._resting: dict[LaneName, float] = {}
        """Lanes with jobs of which none can be taken now, as far as is known; when to look again."""

        self._capped: set[LaneName] = set()
        """Those of them whose tenant has as many in hand as it may."""

        self._wake_at = math.inf
        self.newcomers = Newcomers()

    @property
    def known(self) -> int:
        """How many lanes have jobs, as far as is known."""
        return len(self._known)

    def set_weights(self, weights: Mapping[JobClass, float]) -> None:
        """Share by `weights` from now on."""
        self._order.set_weights(weights)

    def choose(self, now: float) -> Choice | None:
        """Return the lane to take from next; None if there is none to look at."""
        if now >= self._wake_at:
            for lane in [lane for lane, at in self._resting.items() if at <= now]:
                self.wake(lane, now)
            self._wake_at = min(self._resting.values(), default=math.inf)
        return self._order.choose(self._classes, now)

    def plan(self, jobs: int, now: float) -> list[Planned]:
        """Return from which lanes to take the next `jobs`, each lane once, in the order of their turns.

        They are charged beforehand with what a job of theirs usually asks for, so that each gets its share of the
        round too; give that back once it is known what came.
        """
        plan: dict[LaneName, Planned] = {}
        for _ in range(jobs):
            choice = self.choose(now)
            if choice is None:
                break
            known = self._known.get(choice.lane)
            work = (known.mean_work if known is not None else 0.0) or WORK_UNKNOWN
            self.take(choice.lane, work, now)
            planned = plan.setdefault(choice.lane, Planned(lane=choice.lane, reason=choice.reason))
            planned.jobs += 1
            planned.work += work
        return list(plan.values())

    def wake_in_s(self, now: float) -> float:
        """Return after how long a lane that rests must be looked at; infinity if none rests."""
        return max(0.0, self._wake_at - now)

    def count(self, counts: Mapping[LaneName, int], *, asked_at: float, now: float) -> None:
        """Take over the stream's own counts. What was heard since they were asked for may not be in them."""
        for lane in self._known.keys() - counts.keys():
            if self._known[lane].heard_at < asked_at:
                del self._known[lane]
                self._forget_rest(lane)
                self._order.set_idle(lane)
        for lane, jobs in counts.items():
            self._find(lane).count(jobs)
            if lane not in self._resting:
                self._order.set_ready(lane, now)

    def hear(self, lane: LaneName, work: float, now: float, *, jobs: int = 1) -> None:
        """Note jobs that were just queued, which are `work` in all."""
        if not self._find(lane).jobs:
            self.newcomers.add(jobs, work, now)
        self._find(lane).add(jobs, work, now)
        if lane not in self._capped:
            self.wake(lane, now)

    def wake(self, lane: LaneName, now: float) -> None:
        """Look at `lane` at once: something of it can perhaps be taken."""
        self._forget_rest(lane)
        self._order.set_ready(lane, now)

    def rest(self, lane: LaneName, *, is_capped: bool, asked_at: float, now: float) -> None:
        """Do not look at `lane` for a while, or until there is news: a pull found nothing that can be taken.

        Not so if a job of it was heard since the pull was sent: the answer may be older than that job.
        """
        if not is_capped and self._find(lane).heard_at >= asked_at:
            return
        self._order.set_idle(lane)
        if is_capped:
            self._capped.add(lane)
        self._resting[lane] = now + (CAPPED_S if is_capped else LOOK_AGAIN_S)
        self._wake_at = min(self._wake_at, self._resting[lane])

    def take(self, lane: LaneName, work: float, now: float) -> None:
        """Charge `lane` with a job that somebody in the pool took."""
        self._order.take(lane, work, now)

    def give_back(self, lane: LaneName, work: float) -> None:
        """Undo a charge for work that was not done."""
        self._order.give_back(lane, work)

    def settle(self, lane: LaneName, jobs: int, work: float, now: float) -> None:
        """Note that `jobs` have left `lane`, the oldest ones, which were `work` in all. Its tenant has room again."""
        known = self._known.get(lane)
        if known is not None and jobs > 0:
            known.remove(jobs, work)
        if lane in self._capped:
            self.wake(lane, now)

    def describe(self, running: Mapping[LaneName, int] | None = None) -> tuple[tuple[Lane, ...], float]:
        """Return the lanes with the most work, LANES_MAX at most, and the work of the rest.

        running: how many jobs of each lane are being worked on; None: nobody knows.
        """
        rows = [
            Lane(
                job_class=name.job_class,
                tenant=name.tenant,
                jobs=known.jobs,
                work=round(known.work, 3),
                running=UNSET if running is None else min(known.jobs, running.get(name, 0)),
                lag=round(self._order.lag(name), 3),
            )
            for name, known in self._known.items()
            if known.jobs
        ]
        rows.sort(key=lambda lane: lane.work, reverse=True)
        return tuple(rows[:LANES_MAX]), sum(lane.work for lane in rows[LANES_MAX:])

    def _forget_rest(self, lane: LaneName) -> None:
        self._resting.pop(lane, None)
        self._capped.discard(lane)

    def _find(self, lane: LaneName) -> _Known:
        if lane not in self._known:
            self._known[lane] = _Known()
        return self._known[lane]


def read_lane(subject: str) -> LaneName | None:
    """Return the lane that a subject of JOBS names; None if it names none.

    jobs.<class>.<tenant>; with the job's id behind it where a release before this one queued it.
    """
    parts = subject.split(".")
    if len(parts) not in (3, 4) or parts[0] != "jobs":
        return None
    return next((LaneName(name, parts[2]) for name in CLASSES if name == parts[1]), None)
