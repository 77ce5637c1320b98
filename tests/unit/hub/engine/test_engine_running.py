"""The engine's thread: who is in which round, and what becomes of a job when something fails.

The model counts instead of denoising: the engine must not know the difference. The real ones are held to the same seam
in test_engine_models.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from halfdrop.contracts.errors import Overloaded, PermanentError
from halfdrop.contracts.jobs import JobClass
from halfdrop.hub.engine.limits import Limits
from halfdrop.hub.engine.planning import Group
from halfdrop.hub.engine.running import Demand, Engine
from halfdrop.hub.engine.seams import Order, Stopped

WAIT_S = 20.0


@dataclass
class Count:
    """A state: adds its own number at each step."""

    name: str
    steps: int
    step: int = 0
    total: int = 0


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class CountingModel:
    """Counts, in calls that hold `capacity` samples; waits at `gate` before each."""

    size_bytes = 1
    finishes_apart = False
    rows_useful = 100

    def __init__(self, name: str = "m") -> None:
        self.name = name
        self.capacity = 100
        self.calls: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Semaphore(0)
        self.faulty: set[str] = set()
        self.entered: list[Group] = []

    def group_of(self, ask: Mapping[str, Any]) -> Group:
        if ask.get("side") == 13:
            raise PermanentError("13 px", code="invalid-input")
        return Group(model=self.name, shape=(ask.get("side", 8),), dtype="int")

    def rows_of(self, ask: Mapping[str, Any]) -> int:
        return int(ask.get("rows", 1))

    def begin(self, ask: Mapping[str, Any]) -> Count:
        return Count(name=ask["name"], steps=ask["steps"])

    def enter(self, group: Group) -> None:
        self.entered.append(group)

    def predict(self, states: Sequence[Count]) -> list[int]:
        self.called.release()
        assert self.gate.wait(WAIT_S)
        self.calls.append([state.name for state in states])
        if len(states) > self.capacity:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if self.faulty & {state.name for state in states}:
            raise ValueError("nan")
        return [state.step + 1 for state in states]

    def advance(self, state: Count, prediction: int) -> None:
        state.step += 1
        state.total += prediction

    def finish(self, state: Count) -> tuple[str, int]:
        return state.name, state.total


@dataclass
class Shelf:
    """Models that are simply there."""

    models: dict[str, CountingModel]
    can_free: bool = False
    heard: list[Mapping[str, Demand]] = field(default_factory=list)
    on_free: Callable[[], None] = lambda: None
    began: list[str] = field(default_factory=list)

    def find(self, digest: str) -> CountingModel | None:
        if digest == "broken":
            raise PermanentError("damaged", code="bad-bundle")
        return self.models.get(digest)

    def note(self, demands: Mapping[str, Demand]) -> None:
        self.heard.append(demands)

    def may_begin(self, digest: str) -> bool:
        return True

    def used(self, digest: str) -> None:
        self.began.append(digest)

    def free_memory(self) -> bool:
        self.on_free()
        return self.can_free


@pytest.fixture
def model() -> CountingModel:
    return CountingModel()


@pytest.fixture
def shelf(model: CountingModel) -> Shelf:
    return Shelf({"m": model})


@pytest.fixture
def engine(shelf: Shelf) -> Iterator[Engine]:
    with Engine(shelf, Limits(8)) as engine:
        yield engine
        for model in shelf.models.values():
            model.gate.set()


def order(name: str, *, steps: int = 3, job_class: JobClass = "standard", model: str = "m", **ask: Any) -> Order:
    return Order(model=model, ask={"name": name, "steps": steps} | ask, job_class=job_class)


def result(job: Any) -> Any:
    future: Future[Any] = job.future
    return future.result(WAIT_S)


def hold(engine: Engine, model: CountingModel, name: str = "first", **options: Any) -> Any:
    """Begin a job and stop the engine in its first call, so that others come in the meantime."""
    model.gate.clear()
    job = engine.submit(order(name, **options))
    assert model.called.acquire(timeout=WAIT_S)
    return job


def test_jobs_join_a_running_batch_and_leave_it_when_they_are_done(engine: Engine, model: CountingModel) -> None:
    first = hold(engine, model, steps=4)
    others = [engine.submit(order(name, steps=2)) for name in ("b", "c")]
    model.gate.set()
    assert [result(job) for job in (first, *others)] == [("first", 10), ("b", 3), ("c", 3)]
    assert model.calls == [["first"], ["first", "b", "c"], ["first", "b", "c"], ["first"]]
    assert engine.counters.steps == 8
    assert engine.counters.largest == 3


def test_real_time_jobs_enter_first_and_a_full_batch_holds_no_more(engine: Engine, model: CountingModel) -> None:
    jobs = [hold(engine, model, steps=2)]
    jobs += [engine.submit(order(f"s{n}", steps=1)) for n in range(9)]
    jobs += [engine.submit(order("now", steps=1, job_class="realtime"))]
    model.gate.set()
    for job in jobs:
        result(job)
    assert model.calls[1] == ["now", "first", *(f"s{n}" for n in range(6))]
    assert model.calls[2] == ["s6", "s7", "s8"]


def test_two_samples_of_a_guided_job_take_two_places(engine: Engine, model: CountingModel) -> None:
    jobs = [hold(engine, model, steps=1), *(engine.submit(order(f"g{n}", steps=1, rows=2)) for n in range(5))]
    model.gate.set()
    for job in jobs:
        result(job)
    assert [len(names) for names in model.calls] == [1, 4, 1]


def test_each_step_is_told_and_a_job_called_off_leaves_at_its_next_one(engine: Engine, model: CountingModel) -> None:
    told: list[int] = []
    seen = threading.Event()

    def on_step(state: Count) -> None:
        told.append(state.step)
        seen.set()

    stays = engine.submit(order("stays", steps=2))
    result(stays)
    leaves = engine.submit(
        Order(model="m", ask={"name": "leaves", "steps": 10**6}, job_class="standard", on_step=on_step)
    )
    assert seen.wait(WAIT_S)
    leaves.stop.set()
    with pytest.raises(Stopped):
        result(leaves)
    assert told == list(range(1, len(told) + 1))
    assert result(engine.submit(order("after"))) == ("after", 6)


async def test_a_cancelled_caller_takes_its_job_along(engine: Engine, model: CountingModel) -> None:
    running = asyncio.create_task(engine.run(order("long", steps=10**6)))
    await asyncio.to_thread(model.called.acquire, timeout=WAIT_S)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await engine.run(order("next")) == ("next", 6)


def test_an_exception_of_the_one_who_listens_ends_that_job_alone(engine: Engine, model: CountingModel) -> None:
    def refuse(_: object) -> None:
        raise ValueError("mine")

    first = hold(engine, model)
    bad = engine.submit(Order(model="m", ask={"name": "bad", "steps": 3}, on_step=refuse))
    model.gate.set()
    with pytest.raises(ValueError, match="mine"):
        result(bad)
    assert result(first) == ("first", 6)


def test_a_batch_that_does_not_fit_is_split_the_limit_learnt_and_no_job_lost(
    engine: Engine, model: CountingModel
) -> None:
    first = hold(engine, model, steps=6)
    model.capacity = 3
    jobs = [first, *(engine.submit(order(f"j{n}", steps=6)) for n in range(7))]
    model.gate.set()
    assert sorted(result(job) for job in jobs) == sorted([("first", 21), *((f"j{n}", 21) for n in range(7))])
    failed = [names for names in model.calls if len(names) > 3]
    assert engine.counters.out_of_memory == len(failed) <= 3
    assert {len(names) for names in model.calls[-8:]} <= {1, 2, 3}
    more = [engine.submit(order(f"k{n}")) for n in range(8)]
    for job in more:
        result(job)
    assert engine.counters.out_of_memory == len(failed)  # learnt


def test_a_job_that_does_not_fit_alone_has_other_models_make_room_and_is_tried_again(
    engine: Engine, model: CountingModel, shelf: Shelf
) -> None:
    model.capacity = 0

    def make_room() -> None:
        model.capacity = 1

    shelf.can_free, shelf.on_free = True, make_room
    assert result(engine.submit(order("large"))) == ("large", 6)


def test_a_job_that_never_fits_is_handed_back_for_another_worker(engine: Engine, model: CountingModel) -> None:
    model.capacity = 0
    with pytest.raises(Overloaded, match="out of memory with one job of latents 8"):
        result(engine.submit(order("large")))
    model.capacity = 1
    assert result(engine.submit(order("small"))) == ("small", 6)


def test_a_call_that_fails_is_borne_by_the_job_at_fault_alone(engine: Engine, model: CountingModel) -> None:
    first = hold(engine, model)
    model.faulty = {"bad"}
    bad, good = engine.submit(order("bad")), engine.submit(order("good"))
    model.gate.set()
    with pytest.raises(ValueError, match="nan"):
        result(bad)
    assert [result(first), result(good)] == [("first", 6), ("good", 6)]
    assert engine.counters.out_of_memory == 0


def test_what_cannot_be_drawn_and_models_that_cannot_be_had_are_told(engine: Engine) -> None:
    with pytest.raises(PermanentError, match="13 px"):
        result(engine.submit(order("x", side=13)))
    with pytest.raises(PermanentError, match="damaged"):
        result(engine.submit(order("x", model="broken")))
    assert result(engine.submit(order("y"))) == ("y", 6)


def test_a_job_whose_model_is_not_there_yet_holds_up_nobody(engine: Engine, model: CountingModel, shelf: Shelf) -> None:
    waits = engine.submit(order("waits", model="n"))
    assert result(engine.submit(order("goes"))) == ("goes", 6)
    assert not waits.future.done()
    assert any(demands.get("n") == Demand(waiting=1, begun=0, rank=1, since=1) for demands in shelf.heard)
    shelf.models["n"] = CountingModel("n")
    engine.wake()
    assert result(waits) == ("waits", 6)


def test_finishing_that_takes_long_has_rounds_of_its_own(engine: Engine, model: CountingModel) -> None:
    model.finishes_apart = True
    first = hold(engine, model, steps=2)
    second = engine.submit(order("second", steps=2))
    model.gate.set()
    assert [result(first), result(second)] == [("first", 3), ("second", 3)]
    assert [group.phase for group in model.entered].count("finish") == 2
    assert model.calls == [["first"], ["first", "second"], ["second"]]


def test_an_engine_that_is_closed_calls_off_what_it_has_and_takes_nothing_more(shelf: Shelf) -> None:
    with Engine(shelf, Limits(8)) as engine:
        waits = engine.submit(order("waits", model="never"))
    with pytest.raises(Stopped):
        result(waits)
    with pytest.raises(Stopped):
        engine.submit(order("late"))
