"""What the workers of a pool tell each other: which jobs they heard of, took and settled, so that shares hold across
the pool and nobody sleeps while jobs wait.

Plain messages, a few dozen bytes, at most one each NEWS_EVERY_S and none while nothing happens. A lost one makes the
receiver's view of the shares wrong by a few jobs, once; what it would have heard of it finds at its next count.
"""

import asyncio
import secrets
import time
from collections import Counter
from typing import NamedTuple

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import STATE_KEPT_S
from halfdrop.contracts.subjects import taken_jobs
from halfdrop.hub.fair_order import LaneName
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

SENDERS_MAX = 4_096
"""Workers whose jobs in hand are remembered; those beyond tell of theirs to edges all the same."""

NEWS_EVERY_S = 0.02
"""Shares are off by what one worker takes in this time at most; a worker that takes 1,000 jobs a second sends 50."""


class LaneNews(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What happened in one lane, in units of work."""

    job_class: JobClass
    tenant: str
    jobs_heard: int = 0
    """Jobs that were just queued. Of all workers one hears of each, and tells the others."""

    work_heard: float = 0.0
    taken: float = 0.0
    given_back: float = 0.0
    jobs_settled: int = 0
    work_settled: float = 0.0

    @property
    def lane(self) -> LaneName:
        return LaneName(self.job_class, self.tenant)


class InHand(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs of one lane a worker is working on."""

    job_class: JobClass
    tenant: str
    jobs: int


class News(msgspec.Struct, frozen=True, kw_only=True, tag="news.v1"):
    """What one worker tells."""

    sender: str
    lanes: tuple[LaneNews, ...]
    in_hand: tuple[InHand, ...] | msgspec.UnsetType = msgspec.UNSET
    """All that it works on, each time anew, so that what is lost is made good by the next. Unset: a worker of an
    earlier release, which does not say."""


class _Other(NamedTuple):
    at: float
    in_hand: tuple[InHand, ...] | msgspec.UnsetType


class PoolNews:
    """Collects what this worker did and tells it; hands over what others tell."""

    def __init__(self) -> None:
        self._sender = secrets.token_hex(8)
        self._untold: dict[LaneName, LaneNews] = {}
        self._is_any = asyncio.Event()
        self._in_hand: Counter[LaneName] = Counter()
        self._others: dict[str, _Other] = {}
        """What the others work on, by sender, those heard last at the end."""

    def about(self, lane: LaneName) -> LaneNews:
        """Return what will be told of `lane`, to be added to."""
        self._is_any.set()
        if lane not in self._untold:
            self._untold[lane] = LaneNews(job_class=lane.job_class, tenant=lane.tenant)
        return self._untold[lane]

    def begin(self, lane: LaneName) -> None:
        """Note that a job of `lane` is in hand now."""
        self._in_hand[lane] += 1
        self._is_any.set()

    def end(self, lane: LaneName) -> None:
        """Note that it is no longer."""
        self._in_hand[lane] -= 1
        if not self._in_hand[lane]:
            del self._in_hand[lane]
        self._is_any.set()

    def remind(self) -> None:
        """Tell again what is in hand, if anything is: whoever came late did not hear of it."""
        if self._in_hand:
            self._is_any.set()

    def running(self, now: float) -> Counter[LaneName] | None:
        """Return how many jobs of each lane the pool is working on; None while somebody does not say what it works on.

        now: by time.monotonic. A worker that was not heard for STATE_KEPT_S has nothing in hand any more.
        """
        for sender in [name for name, other in self._others.items() if now - other.at > STATE_KEPT_S]:
            del self._others[sender]
        running = self._in_hand.copy()
        for other in self._others.values():
            if other.in_hand is msgspec.UNSET:
                return None
            running.update({LaneName(each.job_class, each.tenant): each.jobs for each in other.in_hand})
        return running

    async def tell(self, broker: Broker, region: str) -> None:
        """Tell what is to be told, until cancelled."""
        while True:
            await self._is_any.wait()
            in_hand = tuple(InHand(job_class=name, tenant=of, jobs=n) for (name, of), n in self._in_hand.items())
            news = News(sender=self._sender, lanes=tuple(self._untold.values()), in_hand=in_hand)
            self._untold.clear()
            self._is_any.clear()
            try:
                await broker.nc.publish(taken_jobs(region), msgspec.json.encode(news))
            except (NatsError, OSError) as error:
                log.debug("news_lost", error=repr(error))
            await asyncio.sleep(NEWS_EVERY_S)

    def read(self, message: Msg) -> tuple[LaneNews, ...]:
        """Return what another worker tells; nothing of what is our own or no news."""
        try:
            news = msgspec.json.decode(message.data, type=News)
        except msgspec.MsgspecError as error:
            log.warning("news_unreadable", error=str(error))
            return ()
        if news.sender == self._sender:
            return ()
        self._others.pop(news.sender, None)
        if len(self._others) < SENDERS_MAX:
            self._others[news.sender] = _Other(time.monotonic(), news.in_hand)
        return news.lanes
