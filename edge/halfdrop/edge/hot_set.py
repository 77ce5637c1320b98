"""The region's hot set: what each edge is asked for most, told to all, and fetched by those who lack it.

Reports go over plain NATS, so they may be lost: the next one says it again. A key carries its tenant, and what is
fetched is kept under that key, so it is served to that tenant alone. Speed only: without any of this an edge answers
the same, later.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TypeVar

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.popularity import Popularity
from halfdrop.cache.tiered import TieredCache
from halfdrop.contracts.popularity import HOT_KEYS_MAX, HotReport, decode_hot_report, encode_hot_report
from halfdrop.contracts.subjects import hot_pictures
from halfdrop.edge.previewer import DrawingQueue
from halfdrop.edge.shelf import Shelf
from halfdrop.runtime.bandwidth import Bandwidth
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

ROUND_S = 2.0
"""Reports and prefetches this often: a new favourite is everywhere within a few seconds, for 20 KB a report."""

HALF_LIFE_S = 300.0
"""A request counts half after this: a campaign's first minutes show, and yesterday does not."""

LEAST_WEIGHT = 1.5
"""Asked for twice, lately: once is what every picture is."""

EDGES_MAX = 256
REPORT_KEPT_S = 60.0
"""The last word of an edge that is heard no more."""

ABSENT_S = 60.0
"""A picture that no tier had is looked for again after this."""

NOTED_MAX = 100_000
"""Requests between two rounds that are counted: the last ones. The front notes them beside the event loop."""

REMEMBERED_MAX = 8192
"""Prefetched pictures that were not asked for yet, and absent ones, that are remembered."""

Clock = Callable[[], float]
T = TypeVar("T")


class HotStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start."""

    hot: int
    """Pictures in the region's hot set now."""

    prefetched: int
    """Pictures brought into memory before they were asked for, from whichever tier."""

    prefetched_bytes: int
    """Bytes of those that came from Redis or the object store: what the bandwidth bound counts."""

    used: int
    """Prefetched pictures that were asked for afterwards, each counted once."""

    skipped_busy: int
    """Rounds broken off because previews were being drawn."""

    skipped_absent: int
    """Pictures that no tier had."""

    reports_refused: int
    """Reports that were malformed."""


class HotSet:
    """Counts what is asked for here, merges what the region's edges say, and prefetches from it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._noted: deque[str] = deque(maxlen=NOTED_MAX)
        self._asked = Popularity()
        self._reports: OrderedDict[str, tuple[float, dict[str, float]]] = OrderedDict()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        """Prefetched and not asked for yet."""
        self._absent: OrderedDict[str, float] = OrderedDict()
        self._faded_s = clock()
        self._prefetched = self._prefetched_bytes = self._used = 0
        self._skipped_busy = self._skipped_absent = self._refused = 0

    def note(self, key: str) -> None:
        """Count one request for the picture with this cache key, tenant included. Safe in any thread."""
        self._noted.append(key)

    def _count_noted(self) -> None:
        while self._noted:
            key = self._noted.popleft()
            self._asked.note(key)
            if key in self._waiting:
                del self._waiting[key]
                self._used += 1

    def report(self, edge: str) -> HotReport:
        """Return what this edge is asked for most, after letting it fade."""
        self._count_noted()
        now_s = self._clock()
        self._asked.fade(0.5 ** ((now_s - self._faded_s) / HALF_LIFE_S))
        self._faded_s = now_s
        top = self._asked.top(HOT_KEYS_MAX, least=LEAST_WEIGHT)
        return HotReport(edge=edge, pictures={key: round(weight, 1) for key, weight in top.items()})

    def take(self, data: bytes) -> None:
        """Take an edge's report in place of its last; one that is malformed is counted and dropped."""
        try:
            report = decode_hot_report(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._refused += 1
            log.warning("hot_report_refused", error=str(error))
            return
        self._reports[report.edge] = (self._clock(), report.pictures)
        self._reports.move_to_end(report.edge)
        if len(self._reports) > EDGES_MAX:
            self._reports.popitem(last=False)

    def ranked(self) -> list[str]:
        """Return the region's hot pictures, the hottest first."""
        oldest_s = self._clock() - REPORT_KEPT_S
        sums: dict[str, float] = {}
        for heard_s, pictures in self._reports.values():
            if heard_s >= oldest_s:
                for key, weight in pictures.items():
                    sums[key] = sums.get(key, 0.0) + weight
        return sorted(sums, key=lambda key: -sums[key])[:HOT_KEYS_MAX]

    def stats(self) -> HotStats:
        self._count_noted()
        return HotStats(
            hot=len(self.ranked()),
            prefetched=self._prefetched,
            prefetched_bytes=self._prefetched_bytes,
            used=self._used,
            skipped_busy=self._skipped_busy,
            skipped_absent=self._skipped_absent,
            reports_refused=self._refused,
        )

    async def prefetch(
        self, cache: TieredCache, memory: MemoryTier, shelf: Shelf, *, queue: DrawingQueue, bandwidth: Bandwidth
    ) -> None:
        """Bring what is hot and not in memory there and onto the shelf, hottest first, until previews are drawn."""
        for key in self.ranked():
            if memory.peek(key) is not None or self._absent.get(key, 0.0) > self._clock():
                continue
            if not queue.is_idle:
                self._skipped_busy += 1
                return
            found = await cache.get(key)
            if found is None:
                self._skipped_absent += 1
                _remember(self._absent, key, self._clock() + ABSENT_S)
                continue
            self._prefetched += 1
            _remember(self._waiting, key, None)
            shelf.put_picture(key, found.data)
            if found.is_remote:
                self._prefetched_bytes += len(found.data)
                await bandwidth.take(len(found.data))


async def share_hot_set(broker: Broker, hot: HotSet, *, edge: str, region: str) -> None:
    """Tell the region what is asked for here, and hear the others, for ever; an outage is waited out."""
    subject = hot_pictures(region)

    async def hear(message: Msg) -> None:
        hot.take(message.data)

    await broker.nc.subscribe(subject, cb=hear)
    while True:
        report = hot.report(edge)
        try:
            await broker.nc.publish(subject, encode_hot_report(report))
        except (NatsError, OSError) as error:
            log.debug("hot_report_not_sent", error=repr(error))
        await asyncio.sleep(ROUND_S)


async def keep_hot(
    hot: HotSet, cache: TieredCache, memory: MemoryTier, shelf: Shelf, *, queue: DrawingQueue, bandwidth: Bandwidth
) -> None:
    """Prefetch for ever."""
    while True:
        await asyncio.sleep(ROUND_S)
        try:
            await hot.prefetch(cache, memory, shelf, queue=queue, bandwidth=bandwidth)
        except Exception:  # speed only: no reason to end an edge
            log.exception("prefetch_failed")


def _remember(kept: "OrderedDict[str, T]", key: str, value: "T") -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)
