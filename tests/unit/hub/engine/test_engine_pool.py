"""The pool under the engine: models come when they are wanted, go within the budget, and leave nothing behind."""

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halfdrop.contracts.errors import PermanentError, TransientError
from halfdrop.hub.checkpoints.drawing import load_checkpoint
from halfdrop.hub.checkpoints.layout import check_layout
from halfdrop.hub.engine.asks import UnitAsk
from halfdrop.hub.engine.diffusion import CheckpointModel
from halfdrop.hub.engine.limits import Limits
from halfdrop.hub.engine.planning import Group
from halfdrop.hub.engine.pool import Loadable, ModelPool
from halfdrop.hub.engine.running import Engine
from halfdrop.hub.engine.seams import Order

WAIT_S = 20.0
MIB = 2**20


@dataclass
class Steps:
    steps: int
    step: int = 0


class EmptyModel:
    """Counts steps and weighs a MiB."""

    finishes_apart = False
    rows_useful = 100
    size_bytes = MIB

    def __init__(self, digest: str, gate: threading.Event) -> None:
        self.digest = digest
        self.gate = gate
        self.is_closed = False

    def group_of(self, ask: int) -> Group:
        return Group(model=self.digest, shape=(1,), dtype="int")

    def rows_of(self, ask: int) -> int:
        return 1

    def begin(self, ask: int) -> Steps:
        return Steps(steps=ask)

    def enter(self, group: Group) -> None:
        assert not self.is_closed

    def predict(self, states: Sequence[Steps]) -> list[None]:
        assert self.gate.wait(WAIT_S)
        assert not self.is_closed
        return [None] * len(states)

    def advance(self, state: Steps, prediction: None) -> None:
        state.step += 1

    def finish(self, state: Steps) -> str:
        return self.digest

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A pool of `room` MiB over models that are named by their digest."""

    def __init__(self, room: int = 2, patience_s: float = 30.0) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.made: list[EmptyModel] = []
        self.failing: dict[str, Exception] = {}
        self.now_s = 0.0
        self.pool = ModelPool(self.find, budget_bytes=room * MIB, patience_s=patience_s, clock=lambda: self.now_s)
        self.engine = Engine(self.pool, Limits(8))
        self.pool.on_change = self.engine.wake

    def find(self, digest: str) -> Loadable:
        if digest == "unknown":
            raise PermanentError("unknown", code="unknown-model")
        size = 9 if digest == "huge" else 1
        return Loadable(digest=digest, name=digest, size_bytes=size * MIB, load=lambda: self.load(digest))

    def load(self, digest: str) -> EmptyModel:
        if digest in self.failing:
            raise self.failing[digest]
        self.now_s += 1.0  # a load takes a second
        self.made.append(EmptyModel(digest, self.gate))
        return self.made[-1]

    def order(self, digest: str, steps: int = 2) -> Any:
        return self.engine.submit(Order(model=digest, ask=steps)).future


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.engine, bench.pool:
        yield bench
        bench.gate.set()


def test_a_model_is_loaded_once_for_all_who_want_it_and_stays(bench: Bench) -> None:
    jobs = [bench.order("a") for _ in range(5)]
    assert [job.result(WAIT_S) for job in jobs] == ["a"] * 5
    assert bench.order("a").result(WAIT_S) == "a"
    assert bench.pool.counters.loads == 1
    assert bench.pool.counters.load_seconds.keys() == {"a"}


def test_the_budget_is_kept_and_the_popular_stays(bench: Bench) -> None:
    for digest in ("a", "a", "a", "b", "c", "a", "d"):
        assert bench.order(digest).result(WAIT_S) == digest
        assert bench.pool.held_bytes <= 2 * MIB
    assert "a" in bench.pool.loaded
    assert [model.digest for model in bench.made].count("a") == 1
    assert bench.pool.counters.evictions == 2
    assert bench.order("b").result(WAIT_S) == "b"
    assert {model.digest for model in bench.made if model.is_closed} == {"b", "c", "d"} - set(bench.pool.loaded) | {"b"}


def test_many_models_over_little_room_lose_no_job(bench: Bench) -> None:
    jobs = [(digest, bench.order(digest, steps=3)) for _ in range(6) for digest in "abcde"]
    for digest, job in jobs:
        assert job.result(WAIT_S) == digest
    assert bench.pool.held_bytes <= 2 * MIB


def test_a_model_that_waits_too_long_has_those_at_work_make_room() -> None:
    bench = Bench(room=1, patience_s=30)
    with bench.engine, bench.pool:
        bench.gate.clear()
        first = bench.order("a", steps=3)
        other = bench.order("b")
        behind = [bench.order("a", steps=3) for _ in range(3)]
        bench.now_s = 1.0
        bench.gate.set()
        bench.now_s = 31.0
        assert first.result(WAIT_S) == "a"
        assert other.result(WAIT_S) == "b"
        assert [job.result(WAIT_S) for job in behind] == ["a"] * 3


def test_what_cannot_be_had_is_told_and_may_be_tried_again(bench: Bench) -> None:
    with pytest.raises(PermanentError) as caught:
        bench.order("unknown").result(WAIT_S)
    assert caught.value.code == "unknown-model"
    with pytest.raises(PermanentError, match="model huge: got 9 MiB; allowed: 2 MiB, which HALFDROP_HUB_MODELS_MIB"):
        bench.order("huge").result(WAIT_S)
    bench.failing["c"] = RuntimeError("CUDA out of memory")
    with pytest.raises(TransientError, match="no memory to load"):
        bench.order("c").result(WAIT_S)
    bench.failing.clear()
    assert bench.order("c").result(WAIT_S) == "c"


def test_a_model_is_loaded_ahead_of_its_jobs(bench: Bench) -> None:
    bench.pool.preload("a").result(WAIT_S)
    assert bench.pool.loaded == ("a",)
    bench.pool.preload("a").result(WAIT_S)
    with pytest.raises(PermanentError):
        bench.pool.preload("unknown").result(WAIT_S)
    assert bench.pool.counters.loads == 1


def test_models_that_went_are_gone_from_memory(sd_dir: Path, sdxl_dir: Path) -> None:
    """Real networks, whose modules refer to each other in circles, over room for one of them."""
    layouts = {"sd": check_layout(sd_dir), "sdxl": check_layout(sdxl_dir)}
    seen: list[weakref.ref[Any]] = []
    drawn: dict[str, list[np.ndarray]] = {"sd": [], "sdxl": []}

    def load(digest: str) -> CheckpointModel:
        model = CheckpointModel(load_checkpoint(layouts[digest], "cpu"), digest)
        networks = [getattr(model.checkpoint.pipeline, name) for name in model.checkpoint.layout.configs]
        seen.extend(weakref.ref(weights) for network in networks for weights in network.parameters())
        return model

    def find(digest: str) -> Loadable:
        return Loadable(digest=digest, name=digest, size_bytes=MIB, load=lambda: load(digest))

    pool = ModelPool(find, budget_bytes=MIB)
    engine = Engine(pool, Limits(8))
    pool.on_change = engine.wake
    gc.disable()  # what is freed is freed at once
    try:
        with engine, pool:
            for digest in ("sd", "sdxl", "sd", "sdxl"):
                before = len(seen)
                ask = UnitAsk(prompt="dots", size_px=64, seed=1, num_inference_steps=1)
                drawn[digest].append(engine.submit(Order(model=digest, ask=ask)).future.result(60))
                assert not any(ref() is not None for ref in seen[:before]), digest
                assert all(ref() is not None for ref in seen[before:])
            assert pool.counters.loads == 4
    finally:
        gc.enable()
    for units in drawn.values():
        assert np.array_equal(units[0], units[1])
