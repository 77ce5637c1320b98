"""The planner: takes in demand, has it forecast, plans each pool, and knows everything that the page asks for.

All state is in memory and can be made again from the demand history. It belongs to the loop; arithmetic that takes
longer than a moment is in the shards or in a thread.
"""

import asyncio
import contextlib
import time

import msgspec
import numpy as np
import structlog

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.contracts.errors import NotFound
from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.plan import STALE_AFTER_S
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, wanted_table
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.service.calendars import Calendar, OwnCalendar
from halfdrop.forecaster.service.forecasting import BEHIND_MINUTES_MAX, Forecasting, Node
from halfdrop.forecaster.service.planning import Planned, PoolBook
from halfdrop.forecaster.service.pools import POOLS_MAX, PoolTerms
from halfdrop.forecaster.service.series import (
    BOOT_S,
    COLD_STARTS,
    LATE,
    OFFERED,
    REQUESTS,
    Choice,
    DemandTable,
    Float32Array,
    MinuteTable,
)
from halfdrop.forecaster.service.shards import NodeForecast, NodeMinutes, PoolAsk, PoolPriced, Shard
from halfdrop.forecaster.service.sources import DemandSource
from halfdrop.forecaster.service.uplift import Touch, touched, uplift_factors
from halfdrop.forecaster.shadow_pools import Price
from halfdrop.forecaster.workload import MINUTE_S, FloatArray, IntArray

log = structlog.get_logger()

LEARN_DAYS = 21
"""Of the past, before the present: calibration remembers 8 days, and what-ifs replay what comes after those."""

BOOT_MINUTES = 7 * 1440
SHARE_MINUTES = 1440
"""Over which it is reckoned how much of a pool's demand an event multiplies."""

BOOTS_MIN = 5
"""Fewer boots than this within a week say nothing of their p95."""

CLOCK_AHEAD_MINUTES = 5
"""How far ahead of our clock a minute may be: clocks differ, and further ahead is a mistake."""


class Hindsight(msgspec.Struct, frozen=True, kw_only=True):
    """The last days of a pool afterwards: what it had, what the plan would have had, what knowing all would have."""

    days: float = 0.0
    oracle_gpu_hours: float = 0.0
    """Of the cheapest schedule that knows every arrival, with 1 % late jobs."""

    actual_gpu_hours: float | None = None
    actual_late_share: float | None = None
    planned_gpu_hours: float = 0.0
    """Of the present policy, replayed."""

    planned_late_share: float = 0.0
    until: float = 0.0
    detail: str = ""
    """Why there is no comparison."""


class Pool:
    """One pool: its terms, its plan, and its plans and forecasts of the past."""

    def __init__(self, terms: PoolTerms, *, minutes_kept: int, is_assumed: bool) -> None:
        self.terms = terms
        self.is_assumed = is_assumed
        """Nobody described this pool: its price and its boots are assumed."""

        self.book = PoolBook(terms.policy)
        self.planned_minutes = MinuteTable(1, minutes_kept=minutes_kept)
        self.record: MinuteTable | None = None
        """All quantiles at all horizons, flat, by the minute at whose end they were made."""

        self.horizons: tuple[int, ...] = ()
        self.verdict = Verdict(is_good=True)
        self.price: Price | None = None
        """What late work costs, as shadow pools found it. It is not stored: they serve the kept history again."""

        self.service_s = terms.mean_service_s
        self.planned_at_s = 0.0
        self.boot_p95_s = float(terms.boot_max_s)
        self.are_boots_measured = False
        self.hindsight: Hindsight | None = None
        self.looked_back_at = -(10**9)
        self.is_replanned = False
        """Planned anew for a minute whose plan is published already."""

        self.published = ""
        """What became of publishing its newest plan."""

    @property
    def planned(self) -> Planned | None:
        return self.book.planned


class Planner:
    """Everything that is known, by the minute."""

    def __init__(
        self,
        source: DemandSource,
        shards: list[Shard],
        *,
        terms: dict[str, PoolTerms] | None = None,
        calendar: Calendar | None = None,
        learn_days: int = LEARN_DAYS,
        days_kept: int = 92,
    ) -> None:
        self.source = source
        self.table = DemandTable(days_kept=days_kept)
        self.forecasting = Forecasting(
            self.table, shards, learn_days=learn_days, take=self._take, asks_of=self._asks_of
        )
        self.pools: dict[str, Pool] = {}
        self.calendar: Calendar = calendar or OwnCalendar()
        self.events: tuple[DemandEvent, ...] = ()
        self.revision = 0
        self.lag_s: float | None = None
        """From a minute's rows to its plan, the last time."""

        self._terms = terms or {}
        self._days_kept = days_kept
        self._learn_minutes = learn_days * 1440
        self._news = asyncio.Event()
        self._taken_at_s = time.monotonic()

    def know(self, terms: dict[str, PoolTerms]) -> None:
        """Take terms that were applied before this start; they count more than the file's."""
        self._terms = {**self._terms, **terms}

    async def take_in(self) -> None:
        """Read the source until it ends or this is cancelled."""
        async for frame in self.source.frames():
            minute_max = int(time.time()) // MINUTE_S + CLOCK_AHEAD_MINUTES
            if not self.table.series:
                # The past is millions of rows: it is taken in beside the loop, by a table that nobody else knows yet.
                table = DemandTable(days_kept=self._days_kept)
                added = await asyncio.to_thread(table.add, frame, minute_max=minute_max)
                self.table = self.forecasting.table = table
            else:
                added = self.table.add(frame, minute_max=minute_max)
            if added.rejected:
                log.warning("demand_rejected", rows=added.rejected, until=minute_max)
            self._taken_at_s = time.monotonic()
            if added.new_series:
                self._open_pools()
                log.info("series_known", series=len(self.table.series), pools=len(self.pools))
            self.forecasting.update(
                [pool.terms.choice for pool in self.pools.values()], has_new_series=added.new_series > 0
            )
            self.tell()

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self.revision += 1
        self._news.set()
        self._news = asyncio.Event()

    async def wait_for_news(self, revision: int, *, timeout_s: float) -> int:
        """Return the present revision, once it is another than `revision` or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.revision == revision:
                    await self._news.wait()
        return self.revision

    def pool(self, region: str, name: str) -> Pool:
        """Return a pool. Raises NotFound, which names those there are."""
        found = self.pools.get(f"{region}.{name}")
        if found is None:
            known = ", ".join(sorted(self.pools)[:20]) or "none yet"
            raise NotFound(f"no pool is called {name[:64]!r} in region {region[:64]!r}; there are: {known}")
        return found

    def age_s(self) -> float:
        """Return how long ago the newest minute ended."""
        return max(0.0, self.source.now_s() - self.table.end * MINUTE_S)

    @property
    def is_stale(self) -> bool:
        return self.age_s() > STALE_AFTER_S

    def apply(self, pool: Pool, terms: PoolTerms) -> None:
        """Plan a pool by other terms from now on."""
        pool.terms, pool.is_assumed = terms, False
        pool.book.apply(terms.policy)
        self.replan(pool)
        node = self.forecasting.find(terms.choice)
        if node is not None:
            # Till its shadow pools have served the last days by this policy, the price is that of the one before.
            self.forecasting.ask_prices(node)
        self.tell()

    async def read_calendar(self) -> None:
        """Take the calendar as it is now; plans follow. Raises Unavailable."""
        events = tuple(await self.calendar.list())
        if events != self.events:
            self.events = events
            for pool in self.pools.values():
                self.replan(pool)
            self.tell()

    def replan(self, pool: Pool) -> None:
        """Plan a pool anew for the newest minute: its policy or the calendar is another."""
        node = self.forecasting.find(pool.terms.choice)
        pool.is_replanned = True
        quantiles = node.newest.plan_quantiles if node and node.newest else None
        wanted = self._wanted(pool, quantiles, self.table.end - 1) if quantiles is not None else None
        self._plan(pool, wanted, self.table.end - 1)

    def with_events(
        self, quantiles: FloatArray, horizons: tuple[int, ...], *, choice: Choice, minute: int
    ) -> FloatArray:
        """Return quantiles with what people announced for the minutes that they are of."""
        targets = minute + np.array(horizons, dtype=np.int64)
        return quantiles * uplift_factors(self.touches(choice), minute, targets)[:, None]

    def _wanted(self, pool: Pool, quantiles: FloatArray, minute: int) -> IntArray:
        """Return what is cheapest at each price, announced events included: [PLAN_HORIZONS_MINUTES, PRICES]."""
        lifted = self.with_events(quantiles, PLAN_HORIZONS_MINUTES, choice=pool.terms.choice, minute=minute)
        wanted: IntArray = wanted_table(lifted[None], policy=pool.terms.policy, service_s=pool.service_s)[0]
        return wanted

    def _asks_of(self, node: Node) -> tuple[PoolAsk, ...]:
        """Return what a node's shard is to find the prices of."""
        return tuple(
            PoolAsk(key=pool.terms.key, policy=pool.terms.policy, rules=self._rules(pool), service_s=pool.service_s)
            for pool in self.pools.values()
            if self.forecasting.find(pool.terms.choice) is node
        )

    def _rules(self, pool: Pool) -> PoolRules:
        return pool.terms.rules(boot_p95_s=pool.boot_p95_s if pool.are_boots_measured else None)

    def touches(self, choice: Choice) -> list[Touch]:
        """Return the events that touch the chosen series, each with the share of their demand of late."""
        end = self.table.end
        whole = float(np.nansum(self.table.gpus(choice, end - SHARE_MINUTES, end))) if self.events else 0.0
        found = []
        for event in self.events:
            part = touched(event, choice)
            if part is None or event.end < (end - SHARE_MINUTES) * MINUTE_S:
                continue
            share = 1.0
            if part != choice and whole > 0:
                share = float(np.nansum(self.table.gpus(part, end - SHARE_MINUTES, end))) / whole
            found.append(Touch(event=event, share=share))
        return found

    def _open_pools(self) -> None:
        """Make the pools that were described, and one for each region that none of them serves."""
        for terms in self._terms.values():
            self._open_pool(terms, is_assumed=False)
        described = {pool.terms.region for pool in self.pools.values()}
        for region in sorted({key.region for key in self.table.series} - described):
            try:
                terms = msgspec.convert({"region": region}, PoolTerms)
            except msgspec.ValidationError as error:
                log.warning("region_without_pool", region=region, error=str(error))
                continue
            self._open_pool(terms, is_assumed=True)

    def _open_pool(self, terms: PoolTerms, *, is_assumed: bool) -> None:
        if terms.key in self.pools or len(self.pools) >= POOLS_MAX or not self.table.keys(terms.choice):
            return
        self.pools[terms.key] = Pool(terms, minutes_kept=self._learn_minutes, is_assumed=is_assumed)

    def _take(self, node: Node, minutes: NodeMinutes, forecast: NodeForecast) -> None:
        """Take in what a shard answered; plan the pools whose demand it is."""
        for pool in self.pools.values():
            if self.forecasting.find(pool.terms.choice) is not node:
                continue
            priced = next((each for each in forecast.priced if each.key == pool.terms.key), None)
            if priced is not None and forecast.record is not None:
                self._plan_all(pool, minutes, forecast, priced)
            if priced is not None:
                pool.price = priced.price
            pool.verdict = forecast.verdict
            if not len(minutes.gpus):
                self.replan(pool)
        if node.next_minute == self.table.end:
            self.lag_s = time.monotonic() - self._taken_at_s
        self.tell()

    def _plan_all(self, pool: Pool, minutes: NodeMinutes, forecast: NodeForecast, priced: PoolPriced) -> None:
        """Plan each of these minutes as it would have been then."""
        assert forecast.record is not None
        count = len(minutes.gpus)
        columns = len(forecast.horizons) * len(QUANTILES)
        if pool.record is None or pool.horizons != forecast.horizons or minutes.is_first:
            pool.record = MinuteTable(columns, minutes_kept=self._learn_minutes)
            pool.horizons = forecast.horizons
            pool.book = PoolBook(pool.terms.policy)
        moments = np.arange(minutes.start_minute, minutes.start_minute + count)
        pool.record.put(moments, forecast.record.reshape(count, columns).astype(np.float64))
        self._measure(pool, minutes.start_minute + count)
        seen = self.table.read(pool.terms.choice, minutes.start_minute, minutes.start_minute + count)
        capacity = self.table.read_pools((pool.terms.region,), minutes.start_minute, minutes.start_minute + count)
        planned = np.empty((count, 1))
        for row in range(count):
            pool.book.note(
                gpus=float(minutes.gpus[row]),
                arrived=float(seen[row, REQUESTS]),
                late=float(seen[row, LATE]),
                capacity=float(capacity[row, 0]),
                boot_p95_s=pool.boot_p95_s,
            )
            minute = minutes.start_minute + row
            pool.price = msgspec.structs.replace(priced.price, log_price=float(priced.log_prices[row]))
            wanted = priced.wanted[row]
            if self.events and minute >= self.table.end - 1 and forecast.plan_quantiles is not None:
                wanted = self._wanted(pool, forecast.plan_quantiles, minute)
            planned[row] = self._plan(pool, wanted, minute).replicas
        pool.planned_minutes.put(moments, planned)

    def _plan(self, pool: Pool, wanted: IntArray | None, minute: int) -> Planned:
        node = self.forecasting.find(pool.terms.choice)
        is_newest = minute >= self.table.end - 1
        is_learning = node is None or self.table.end - node.next_minute > BEHIND_MINUTES_MAX
        planned = pool.book.plan(
            wanted,
            pool.price,
            minute=minute,
            boot_p50_s=self._rules(pool).boot_quantile_s(0.5),
            boot_p95_s=pool.boot_p95_s,
            verdict=pool.verdict,
            age_s=self.age_s() if is_newest else 0.0,
            missing="the forecaster is learning" if is_learning else "no forecast yet",
        )
        if is_newest:
            pool.planned_at_s = time.time()
        return planned

    def _measure(self, pool: Pool, end: int) -> None:
        """Set the pool's boot p95 and the seconds of its jobs to those of the last week, where enough is known."""
        seen = self.table.read(pool.terms.choice, end - BOOT_MINUTES, end)
        pool.service_s = measure_service(seen, pool.terms.mean_service_s)
        boots = np.nan_to_num(seen[:, COLD_STARTS])
        is_known = (boots > 0) & ~np.isnan(seen[:, BOOT_S])
        if boots[is_known].sum() < BOOTS_MIN:
            return
        # Minutes know their boots' mean alone; of single boots, which most minutes have, that is the boot itself.
        means = seen[is_known, BOOT_S] / boots[is_known]
        order = np.argsort(means)
        reached = np.cumsum(boots[is_known][order])
        place = int(np.searchsorted(reached, 0.95 * reached[-1]))
        pool.boot_p95_s = float(np.clip(means[order][min(place, len(order) - 1)], 1.0, 7200.0))
        pool.are_boots_measured = True


def measure_service(seen: Float32Array, assumed_s: float) -> float:
    """Return the mean GPU-seconds of a job. seen: [minutes, SUM_COLUMNS]; assumed_s: where nobody counted jobs."""
    is_counted = ~np.isnan(seen[:, REQUESTS]) & ~np.isnan(seen[:, OFFERED])
    jobs = float(seen[is_counted, REQUESTS].sum())
    return float(np.clip(float(seen[is_counted, OFFERED].sum()) / jobs if jobs else assumed_s, 1.0, 3600.0))
