"""Where series are worked: processes that each hold a share of the forecasters and of what judges them.

One minute of one series costs about a millisecond, which thousands of series would take from the loop that answers. A
shard is one process with one thing to do at a time; what it holds can be learnt again, so a shard that dies is replaced
and told of it anew.
"""

import asyncio
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import msgspec
import numpy as np

from halfdrop.contracts.errors import Unavailable
from halfdrop.forecaster.forecast import SeriesForecaster
from halfdrop.forecaster.honesty import Drift, Judge, Score, Verdict
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, SMOOTH_MINUTES, wanted_table
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.replay import SHADOW_MINUTES
from halfdrop.forecaster.shadow_pools import Price, PriceBook
from halfdrop.forecaster.workload import FloatArray, IntArray

DAY_HOURS, WEEK_HOURS = 24, 168


class PoolAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A pool whose price is to be found beside the forecast of its demand."""

    key: str
    policy: PlanPolicy
    rules: PoolRules
    service_s: float


class PoolPriced(msgspec.Struct, frozen=True, kw_only=True):
    """What is cheapest at each price, at each of the minutes, and the price that held then."""

    key: str
    wanted: IntArray
    """[minutes, PLAN_HORIZONS_MINUTES, PRICES]"""

    log_prices: FloatArray
    """[minutes]"""

    price: Price
    """That the next minute is planned at."""


class NodeMinutes(msgspec.Struct, frozen=True, kw_only=True):
    """The next minutes of a series, or none: then only prices are asked for anew, those of the last minute.

    is_first: what was learnt of it before is thrown away.
    """

    node: int
    start_minute: int
    gpus: FloatArray
    horizons: tuple[int, ...]
    judged_horizon: int
    is_first: bool = False
    is_recorded: bool = False
    """Whether all the forecasts made on the way are wanted back, for plans that are looked at afterwards."""

    pools: tuple[PoolAsk, ...] = ()
    shadows_from: int = 0
    """Minutes since the epoch: shadow pools serve what comes after."""


class HorizonScore(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the forecasts at one horizon."""

    horizon: int
    day: Score
    week: Score
    drift: Drift
    weights: dict[str, float]
    """What the hedge makes of each expert there now."""


class NodeForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard answers: the forecast made at its last minute, and how good forecasts have been."""

    node: int
    end_minute: int
    """One past the last minute that was learnt: the forecast was made at its end."""

    horizons: tuple[int, ...]
    points: FloatArray
    """[horizons], mean GPUs."""

    quantiles: FloatArray
    """[horizons, QUANTILES]"""

    scores: tuple[HorizonScore, ...]
    verdict: Verdict
    record: "np.ndarray | None" = None
    """[minutes, horizons, QUANTILES], float32: row m was made at the end of the m-th of the minutes."""

    plan_quantiles: "np.ndarray | None" = None
    """[PLAN_HORIZONS_MINUTES, QUANTILES] of three-minute demand, made at the last minute: what pools are planned by."""

    priced: tuple[PoolPriced, ...] = ()


class _Node:
    def __init__(self, minutes: NodeMinutes) -> None:
        self.forecaster = SeriesForecaster(start_minute=minutes.start_minute, horizons=minutes.horizons)
        self.judge = Judge(minutes.horizons)
        self.plans = _Plans(minutes) if minutes.is_recorded else None
        self.newest: NodeForecast | None = None


class _Plans:
    """What pools are planned by: the forecasts that are made for it, kept for as long as shadow pools look back."""

    def __init__(self, minutes: NodeMinutes) -> None:
        self._forecaster = SeriesForecaster(
            start_minute=minutes.start_minute, horizons=PLAN_HORIZONS_MINUTES, smooth_minutes=SMOOTH_MINUTES
        )
        self._books: dict[str, PriceBook] = {}
        self._gpus: deque[FloatArray] = deque()
        self._quantiles: deque[FloatArray] = deque()
        self._kept_minutes = 0

    def extend(self, minutes: NodeMinutes) -> tuple[FloatArray, tuple[PoolPriced, ...]]:
        """Return the newest forecast, and for each pool what is cheapest at each price."""
        skipped = min(max(0, minutes.shadows_from - minutes.start_minute), len(minutes.gpus))
        gpus = minutes.gpus[skipped:]
        if not len(minutes.gpus):
            return self._quantiles[-1][-1], tuple(
                self._price(ask, gpus, self._quantiles[-1][-1:]) for ask in minutes.pools
            )
        made = self._forecaster.extend(minutes.gpus).quantiles
        priced = tuple(self._price(ask, gpus, made) for ask in minutes.pools)
        self._gpus.append(gpus)
        self._quantiles.append(made[skipped:] if skipped < len(made) else made[-1:])
        self._kept_minutes += len(gpus)
        while self._kept_minutes - len(self._gpus[0]) >= SHADOW_MINUTES:
            self._kept_minutes -= len(self._gpus.popleft())
            self._quantiles.popleft()
        return made[-1], priced

    def _price(self, ask: PoolAsk, gpus: FloatArray, made: FloatArray) -> PoolPriced:
        """gpus: those of the newest minutes that shadow pools serve; made: the forecasts of them all."""
        book = self._books.get(ask.key)
        if book is None or book.policy != ask.policy:
            book = self._books[ask.key] = self._serve_again(ask)
        book.renew(rules=ask.rules, service_s=ask.service_s)
        wanted = wanted_table(made, policy=ask.policy, service_s=ask.service_s)
        log_prices = np.full(len(made), book.price.log_price)
        if len(gpus):
            log_prices[-len(gpus) :] = book.extend(gpus, wanted[-len(gpus) :])
        return PoolPriced(key=ask.key, wanted=wanted, log_prices=log_prices, price=book.price)

    def _serve_again(self, ask: PoolAsk) -> PriceBook:
        """Return a book for a pool that is new or has another policy: shadows serve what is kept once more."""
        book = PriceBook(policy=ask.policy, rules=ask.rules, service_s=ask.service_s)
        if ask.policy.is_price_sought and self._kept_minutes:
            gpus = np.concatenate(self._gpus)
            made = np.concatenate(self._quantiles)[-len(gpus) :]
            book.extend(gpus, wanted_table(made, policy=ask.policy, service_s=ask.service_s))
        return book


_nodes: dict[int, _Node] = {}
"""Of this process. A shard's own; in the parent process it stays empty."""


def extend_nodes(batch: Sequence[NodeMinutes]) -> list[NodeForecast]:
    """Work a batch, in the shard's process. KeyError for a node that is not there and does not begin here."""
    return [_extend(minutes) for minutes in batch]


def _extend(minutes: NodeMinutes) -> NodeForecast:
    if minutes.is_first:
        _nodes[minutes.node] = _Node(minutes)
    node = _nodes[minutes.node]
    plan_quantiles, priced = node.plans.extend(minutes) if node.plans else (None, ())
    if not len(minutes.gpus):
        assert node.newest is not None
        node.newest = msgspec.structs.replace(node.newest, priced=priced, record=None)
        return node.newest
    made = node.forecaster.extend(minutes.gpus)
    node.judge.extend(minutes.gpus, made, start_minute=minutes.start_minute)
    scores = tuple(
        HorizonScore(
            horizon=horizon,
            day=node.judge.score(horizon, hours=DAY_HOURS),
            week=node.judge.score(horizon, hours=WEEK_HOURS),
            drift=node.judge.drift(horizon),
            weights=node.forecaster.weights(horizon),
        )
        for horizon in minutes.horizons
    )
    found = NodeForecast(
        node=minutes.node,
        end_minute=minutes.start_minute + len(minutes.gpus),
        horizons=minutes.horizons,
        points=made.points[-1],
        quantiles=made.quantiles[-1],
        scores=scores,
        verdict=node.judge.verdict(minutes.judged_horizon),
        record=made.quantiles.astype(np.float32) if minutes.is_recorded else None,
        plan_quantiles=plan_quantiles,
        priced=priced,
    )
    node.newest = msgspec.structs.replace(found, record=None, priced=())
    return found


class Shard:
    """One process, one batch at a time."""

    def __init__(self, name: str, *, start: Callable[[], Executor] | None = None) -> None:
        """start: makes the executor of one worker; left out, one with a process of its own."""
        self.name = name
        self.restarts = 0
        self._start = start or start_process
        self._executor = self._start()

    async def extend(self, batch: Sequence[NodeMinutes]) -> list[NodeForecast]:
        """Work a batch in the shard's process. Raises Unavailable where it died: it has forgotten everything then."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, extend_nodes, batch)
        except BrokenProcessPool as error:
            self.restarts += 1
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = self._start()
            raise Unavailable(f"the process of shard {self.name} died and was replaced") from error

    def close(self) -> None:
        """End the process; a batch that it is at is given up."""
        for process in list((getattr(self._executor, "_processes", None) or {}).values()):
            process.terminate()
        self._executor.shutdown(wait=False, cancel_futures=True)


def count_shards(wanted: int) -> int:
    """Return how many processes work the series: as wanted, or for 0 one for each core, four at most."""
    return wanted or min(4, len(os.sched_getaffinity(0)))


def start_process() -> Executor:
    """Return an executor with one process, which ends with this one."""
    # Spawned, not forked: the loop and its clients have threads, whose locks a fork would copy in mid-air.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=leave_with_parent)


def leave_with_parent() -> None:
    """In a child process: end with the parent, however it ends, and leave signals of the terminal to it."""
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent").start()
