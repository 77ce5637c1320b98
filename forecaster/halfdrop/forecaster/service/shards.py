"""Where series are worked: processes that each hold a share of the forecasters and of what judges them.

One minute of one series costs about a millisecond, which thousands of series would take from the loop that answers. A
shard is one process with one thing to do at a time; what it holds can be learnt again, so a shard that dies is replaced
and told of it anew.
"""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import msgspec
import numpy as np

from halfdrop.contracts.errors import Unavailable
from halfdrop.forecaster.forecast import SeriesForecaster
from halfdrop.forecaster.honesty import Drift, Judge, Score, Verdict
from halfdrop.forecaster.workload import FloatArray

DAY_HOURS, WEEK_HOURS = 24, 168


class NodeMinutes(msgspec.Struct, frozen=True, kw_only=True):
    """The next minutes of a series. `is_first`: what was learnt of it before is thrown away."""

    node: int
    start_minute: int
    gpus: FloatArray
    horizons: tuple[int, ...]
    judged_horizon: int
    is_first: bool = False
    is_recorded: bool = False
    """Whether all the forecasts made on the way are wanted back, for plans that are looked at afterwards."""


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


class _Node:
    def __init__(self, minutes: NodeMinutes) -> None:
        self.forecaster = SeriesForecaster(start_minute=minutes.start_minute, horizons=minutes.horizons)
        self.judge = Judge(minutes.horizons)


_nodes: dict[int, _Node] = {}
"""Of this process. A shard's own; in the parent process it stays empty."""


def extend_nodes(batch: Sequence[NodeMinutes]) -> list[NodeForecast]:
    """Work a batch, in the shard's process. KeyError for a node that is not there and does not begin here."""
    return [_extend(minutes) for minutes in batch]


def _extend(minutes: NodeMinutes) -> NodeForecast:
    if minutes.is_first:
        _nodes[minutes.node] = _Node(minutes)
    node = _nodes[minutes.node]
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
    return NodeForecast(
        node=minutes.node,
        end_minute=minutes.start_minute + len(minutes.gpus),
        horizons=minutes.horizons,
        points=made.points[-1],
        quantiles=made.quantiles[-1],
        scores=scores,
        verdict=node.judge.verdict(minutes.judged_horizon),
        record=made.quantiles.astype(np.float32) if minutes.is_recorded else None,
    )


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
