"""The regions whose hubs this edge reaches: how their links are, what their workers tell, and where an order goes.

The first one is home. With one region only there is nothing to choose, and nobody hands over what workers tell.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from halfdrop.contracts.jobs import Job, JobState, JobStatus, accepted_work
from halfdrop.contracts.pools import STATE_EVERY_S, STATE_KEPT_S, WorkerState
from halfdrop.contracts.subjects import hub_domain
from halfdrop.edge.hub_link import HubLink
from halfdrop.edge.region_choice import (
    Heard,
    RegionChoice,
    RegionView,
    SpillRule,
    choose_region,
)
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

WORKERS_MAX = 4_096
"""Workers remembered in all regions; more tell of their pool just what these do."""

SENT_MAX = 10_000
"""Jobs remembered as sent since a region's workers last told how much they have."""


class _Sent:
    """What went to a region lately, and how much work that is."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[float, float]] = deque()
        self.work = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, at: float, work: float) -> None:
        if len(self._jobs) == SENT_MAX:
            self._drop()
        self._jobs.append((at, work))
        self.work += work

    def forget_until(self, at: float) -> None:
        while self._jobs and self._jobs[0][0] < at:
            self._drop()

    def _drop(self) -> None:
        self.work -= self._jobs.popleft()[1]
        if not self._jobs:
            self.work = 0.0  # not what rounding left of it


class Regions:
    """The links to all regions, and the choice between them."""

    def __init__(self, links: Sequence[HubLink], rule: SpillRule | None = None) -> None:
        self.links: Mapping[str, HubLink] = {link.region: link for link in links}
        self.home = links[0]
        self._rule = rule or SpillRule()
        self._heard: dict[tuple[str, str], Heard] = {}
        self._sent = {name: _Sent() for name in self.links}
        self._previous: dict[str, str] = {}
        """By class: where its last order went."""
        self._why_waiting = ""
        self._claiming_at: dict[str, float] = {}
        self._not_claiming_at: dict[str, float] = {}
        """When a worker of a region was last heard that claims doubtful orders, and one that does not."""

    @property
    def are_several(self) -> bool:
        return len(self.links) > 1

    @property
    def is_up(self) -> bool | None:
        """Whether any hub answers; None until one was tried."""
        known = {link.is_up for link in self.links.values()}
        return True if True in known else None if None in known else False

    @property
    def detail(self) -> str:
        """What is the matter, with the region's name where there are several."""
        if not self.are_several:
            return self.home.detail
        away = [f"{link.region} is away: {link.detail}" for link in self.links.values() if not link.is_up]
        draining = [f"{link.region} takes no new orders" for link in self.links.values() if link.is_draining]
        return "; ".join(away + draining)

    async def probe(self) -> None:
        """Ask every hub whether it is there and takes orders."""
        await asyncio.gather(*(link.probe() for link in self.links.values()))

    def choose(self, order: Job) -> RegionChoice:
        """Return where `order` goes now, and remember it for the next of its class."""
        now = time.time()
        if self.are_several:
            choice = choose_region(
                order,
                [self._view(link, now) for link in self.links.values()],
                home=self.home.region,
                now=now,
                previous=self._previous.get(order.job_class, ""),
                rule=self._rule,
            )
        elif self.home.is_draining:
            choice = RegionChoice(region=None, reason=f"{self.home.region} takes no new orders")
        else:
            choice = RegionChoice(region=self.home.region, reason="home")
        self._why_waiting = choice.reason if choice.region is None else ""
        if choice.region is not None:
            if self._previous.get(order.job_class, self.home.region) != choice.region:
                log.info("region_changed", job_class=order.job_class, region=choice.region, reason=choice.reason)
            self._previous[order.job_class] = choice.region
        return choice

    def has_refuge(self, order: Job, region: str) -> bool:
        """True if `order` would go to another region than `region` now, one that claims orders in doubt."""
        other = self.choose(order).region
        return other is not None and other != region and self.claims(other)

    def note_sent(self, region: str, order: Job) -> None:
        """Remember that `order` went to `region`: its workers tell of it with their next state only."""
        self.links[region].forwarded += 1
        if self.are_several:
            self._sent[region].add(time.time(), accepted_work(order))

    def hear(self, state: WorkerState) -> None:
        """Take what a worker tells of itself and its pool."""
        if state.region in self.links:
            (self._claiming_at if state.claims else self._not_claiming_at)[state.region] = time.time()
        key = (state.region, state.worker)
        if state.region in self.links and (key in self._heard or len(self._heard) < WORKERS_MAX):
            self._heard[key] = Heard(at=time.time(), state=state)

    def claims(self, region: str) -> bool:
        """True if all workers of the region, when they were last heard, claimed orders that are in doubt."""
        claiming_at = self._claiming_at.get(region, -math.inf)
        return claiming_at - self._not_claiming_at.get(region, -math.inf) > STATE_KEPT_S

    def why_waiting(self, status: JobStatus) -> str:
        """Return why the order still waits at this edge though hubs are there, or ""."""
        is_here = status.state is JobState.QUEUED and status.queued_at is None and status.region is msgspec.UNSET
        return self._why_waiting if is_here else ""

    @property
    def none_since(self) -> float | None:
        """Since when no hub answers; None while one does."""
        return None if any(link.is_up for link in self.links.values()) else self.home.away_since

    def away_since(self, status: JobStatus) -> float | None:
        """Return since when no news of the order can come; None while the hub that matters answers."""
        if status.region is not msgspec.UNSET and status.region in self.links:
            return self.links[status.region].away_since
        return self.none_since

    def _view(self, link: HubLink, now: float) -> RegionView:
        for key in [key for key, heard in self._heard.items() if now - heard.at > STATE_KEPT_S]:
            del self._heard[key]
        heard = tuple(each for (region, _), each in self._heard.items() if region == link.region)
        sent = self._sent[link.region]
        sent.forget_until(max((each.at for each in heard), default=now) - STATE_EVERY_S)
        return RegionView(
            name=link.region,
            is_up=link.is_up is not False,
            is_draining=link.is_draining,
            heard=heard,
            sent_jobs=len(sent),
            sent_work=sent.work,
        )


def open_regions(broker: Broker, names: Sequence[str], rule: SpillRule) -> Regions:
    """Return the regions `names`, home first, as the edge's own server reaches them."""
    return Regions([HubLink(broker.jetstream(hub_domain(name)), name) for name in names], rule)
