"""Whose job comes next: weighted fair queueing by virtual time, over classes and then over the tenants of a class.

A lane is the jobs of one tenant in one class. Every class, and every lane within its class, has a start: how much
virtual time its work has used up. The least start goes first, and what is taken moves it on by work / weight
(start-time fair queueing: Goyal, Vin and Chen, SIGCOMM 1996). So

- whoever has jobs gets its share, and what somebody leaves is lent to the others: there is always a next lane if any
  is ready;
- two lanes that both have jobs never drift apart by more than one largest job each, whatever the sizes, which need not
  be known before a job is taken;
- a lane that was idle begins where the others are, and collects no credit;
- a lane that was passed over for `age_s` (a weight may be tiny) goes ahead, at every AGED_EVERY-th taking at most, so
  that a pool with too much to do still keeps to its weights.

Nothing here knows the time, a server or a task.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from halfdrop.contracts.jobs import JobClass

AGE_S = 120.0
"""Longer than anybody waits in a pool of the right size; a lane passed over for so long goes ahead of its share."""

AGED_EVERY = 8
"""Of so many takings one may go by age: an eighth of the pool at most, however many lanes wait."""

SPARE_STARTS = 1_024
"""Idle lanes remembered beside those that are ready, before those with nothing to remember are dropped."""


class LaneName(NamedTuple):
    """The jobs of one tenant in one class."""

    job_class: JobClass
    tenant: str


class Choice(NamedTuple):
    """The lane that is next, and why."""

    lane: LaneName
    reason: Literal["share", "age"]


class FairOrder:
    """Which lane is next. Whoever takes a job says so with `take`, for others' jobs as well as for its own."""

    def __init__(self, weights: Mapping[JobClass, float], *, age_s: float = AGE_S) -> None:
        self._age_s = age_s
        self._virtual = 0.0
        self._classes = {name: _Class(weight) for name, weight in weights.items()}
        self._since_aged = 0

    def set_weights(self, weights: Mapping[JobClass, float]) -> None:
        """Share by `weights` from now on; what was used up so far stays used."""
        for name, weight in weights.items():
            self._classes[name].weight = weight

    def set_ready(self, lane: LaneName, now: float) -> None:
        """Say that `lane` has a job that may be taken. now: seconds of any clock that does not go back."""
        group = self._classes[lane.job_class]
        if not group.is_ready:
            group.start = max(group.start, self._virtual)
        group.set_ready(lane.tenant, now)

    def set_idle(self, lane: LaneName) -> None:
        """Say that nothing of `lane` can be taken: it is empty, or its tenant has as much in hand as it may."""
        self._classes[lane.job_class].set_idle(lane.tenant)

    def is_ready(self, lane: LaneName) -> bool:
        """True if `lane` has a job that may be taken."""
        return lane.tenant in self._classes[lane.job_class].waiting

    def lag(self, lane: LaneName) -> float:
        """Return the work that the other lanes of its class are served before it is this one's turn again."""
        return self._classes[lane.job_class].lag(lane.tenant)

    def choose(self, classes: Iterable[JobClass], now: float) -> Choice | None:
        """Return the next lane among `classes`; None if none of them is ready."""
        ready = [(name, self._classes[name]) for name in classes if self._classes[name].is_ready]
        if not ready:
            return None
        if self._since_aged >= AGED_EVERY - 1:
            name, group = min(ready, key=lambda each: each[1].oldest()[1])
            tenant, since = group.oldest()
            if now - since > self._age_s:
                return Choice(LaneName(name, tenant), "age")
        name, group = min(ready, key=lambda each: each[1].start)
        return Choice(LaneName(name, group.first()), "share")

    def take(self, lane: LaneName, work: float, now: float) -> None:
        """Charge `lane` with `work` of a job that somebody takes now."""
        group = self._classes[lane.job_class]
        least = min((each.start for each in self._classes.values() if each.is_ready), default=self._virtual)
        self._virtual = max(self._virtual, least)
        waited_s = now - group.waiting.get(lane.tenant, now)
        is_next = group.start <= least and group.is_ready and group.first() == lane.tenant
        self._since_aged = 0 if waited_s > self._age_s and not is_next else self._since_aged + 1
        group.start = max(group.start, self._virtual) + work / group.weight
        group.take(lane.tenant, work, now)

    def give_back(self, lane: LaneName, work: float) -> None:
        """Undo the charge for `work` that was not done after all. Never more than the others' present place."""
        group = self._classes[lane.job_class]
        group.start = max(self._virtual, group.start - work / group.weight)
        group.give_back(lane.tenant, work)


class _Class:
    """One class: its place among the classes, and the places of its tenants' lanes."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.start = 0.0
        self._virtual = 0.0
        self.waiting: OrderedDict[str, float] = OrderedDict()
        """The tenants with a ready lane, the one that was served longest ago first; since when it waits."""

        self._starts: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        """(start, turn, tenant), the least first. An entry whose start is no longer the tenant's is out of date."""

        self._turns = 0

    @property
    def is_ready(self) -> bool:
        return bool(self.waiting)

    def set_ready(self, tenant: str, now: float) -> None:
        if tenant not in self.waiting:
            self.waiting[tenant] = now
            self._move(tenant, max(self._starts.get(tenant, 0.0), self._virtual))

    def set_idle(self, tenant: str) -> None:
        self.waiting.pop(tenant, None)
        if len(self._starts) > 2 * len(self.waiting) + SPARE_STARTS:
            # A start that the others have reached says no more than none.
            keep = {name: at for name, at in self._starts.items() if at > self._virtual or name in self.waiting}
            self._starts = keep

    def lag(self, tenant: str) -> float:
        return max(0.0, self._starts.get(tenant, 0.0) - self._virtual)

    def oldest(self) -> tuple[str, float]:
        return next(iter(self.waiting.items()))

    def first(self) -> str:
        """Return the ready tenant with the least start."""
        while True:
            start, _, tenant = self._heap[0]
            if tenant in self.waiting and self._starts.get(tenant) == start:
                return tenant
            heapq.heappop(self._heap)

    def take(self, tenant: str, work: float, now: float) -> None:
        if self.is_ready:
            self._virtual = max(self._virtual, self._starts[self.first()])
        if tenant in self.waiting:
            self.waiting[tenant] = now
            self.waiting.move_to_end(tenant)
        self._move(tenant, max(self._starts.get(tenant, 0.0), self._virtual) + work)

    def give_back(self, tenant: str, work: float) -> None:
        self._move(tenant, max(self._virtual, self._starts.get(tenant, 0.0) - work))

    def _move(self, tenant: str, start: float) -> None:
        self._starts[tenant] = start
        if tenant not in self.waiting:
            return
        self._turns += 1
        heapq.heappush(self._heap, (start, self._turns, tenant))
        if len(self._heap) > 4 * len(self.waiting) + 64:
            entries = {name: (at, turn, name) for at, turn, name in sorted(self._heap) if self._starts.get(name) == at}
            self._heap = [entries[name] for name in self.waiting]
            heapq.heapify(self._heap)
