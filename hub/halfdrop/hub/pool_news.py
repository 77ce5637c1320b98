"""What the workers of a pool tell each other: which jobs they heard of, took and settled, so that shares hold across
the pool and nobody sleeps while jobs wait.

Plain messages, a few dozen bytes, at most one each NEWS_EVERY_S and none while nothing happens. A lost one makes the
receiver's view of the shares wrong by a few jobs, once; what it would have heard of it finds at its next count.
"""

import asyncio
import secrets

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.subjects import taken_jobs
from halfdrop.hub.fair_order import LaneName
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

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


class News(msgspec.Struct, frozen=True, kw_only=True, tag="news.v1"):
    """What one worker tells."""

    sender: str
    lanes: tuple[LaneNews, ...]


class PoolNews:
    """Collects what this worker did and tells it; hands over what others tell."""

    def __init__(self) -> None:
        self._sender = secrets.token_hex(8)
        self._untold: dict[LaneName, LaneNews] = {}
        self._is_any = asyncio.Event()

    def about(self, lane: LaneName) -> LaneNews:
        """Return what will be told of `lane`, to be added to."""
        self._is_any.set()
        if lane not in self._untold:
            self._untold[lane] = LaneNews(job_class=lane.job_class, tenant=lane.tenant)
        return self._untold[lane]

    async def tell(self, broker: Broker, region: str) -> None:
        """Tell what is to be told, until cancelled."""
        while True:
            await self._is_any.wait()
            news = News(sender=self._sender, lanes=tuple(self._untold.values()))
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
        return () if news.sender == self._sender else news.lanes
