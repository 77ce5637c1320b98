"""The engine's thread: it takes round after round, and tells every job of its own steps.

A round is decided by `planning`, and run so that a job is lost only by its own fault: a call that runs out of memory is
made again in two halves, and the limit learnt; a call that fails otherwise is made again job by job, so that only the
one that fails alone is told so. Models come from `ModelSource`, which loads them elsewhere: a job whose model is being
loaded holds up nobody.
"""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import structlog

from halfdrop.contracts.errors import HalfdropError, Overloaded
from halfdrop.hub.engine.limits import Limits
from halfdrop.hub.engine.planning import RANKS, RULES, Candidate, Group, Plan, Rules, Turn, plan_round
from halfdrop.hub.engine.seams import Order, StepModel, Stopped, is_out_of_memory

log = structlog.get_logger()

OUT_OF_MEMORY_RETRY_S = 10.0
"""After a job that did not even fit alone: another worker, or this one with fewer models, may have the room."""


LOOK_S = 1.0
"""With jobs at hand that cannot go on, so often without being woken."""


class ModelSource(Protocol):
    """Where models come from. Called from the engine's thread; never waits."""

    def find(self, digest: str) -> StepModel | None:
        """Return the model if it is loaded, else None. Raises why it cannot be."""

    def note(self, demands: Mapping[str, "Demand"]) -> None:
        """Hear who wants which model, at every change: it loads and evicts by that."""

    def may_begin(self, digest: str) -> bool:
        """Return whether new jobs of a loaded model may begin; not while it is to make room for another."""

    def used(self, digest: str) -> None:
        """A job begins with the model: it is worth keeping."""

    def free_memory(self) -> bool:
        """Let go of whatever no begun job needs; return whether there was anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What the engine has for one model."""

    waiting: int
    """Jobs that have not begun."""

    begun: int
    """Jobs that hold the model."""

    rank: int
    """Of the most urgent of them: 0 is real-time."""

    since: int
    """Arrival number of the oldest: lower has waited longer."""


@dataclass(slots=True, eq=False)
class _Running:
    """A job in the engine."""

    number: int
    order: Order
    since_round: int
    future: "Future[Any]" = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)
    group: Group | None = None
    rows: int = 1
    state: Any = None


@dataclass(slots=True)
class Counters:
    """What the engine has done; read by metrics."""

    rounds: int = 0
    steps: int = 0
    """Steps of jobs: more than rounds where batches pay."""

    rows: int = 0
    busy_s: float = 0.0
    out_of_memory: int = 0
    largest: int = 0
    """Most jobs in a round."""


class Engine:
    """Runs orders. Close it (`with`) to end its thread; what is still running is then called off."""

    def __init__(self, models: ModelSource, limits: Limits, rules: Rules = RULES) -> None:
        self._models = models
        self._limits = limits
        self._rules = rules
        self._changed = threading.Condition()
        self._incoming: list[_Running] = []
        self._jobs: dict[int, _Running] = {}
        self._turn = Turn()
        self._arrivals = 0
        self._is_closed = False
        self._is_woken = False
        self._thread: threading.Thread | None = None
        self.counters = Counters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    async def run(self, order: Order) -> Any:
        """Return what the order's model makes of it. When the caller is cancelled, the job leaves at its next step."""
        job = self.submit(order)
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            job.stop.set()
            self.wake()

    def submit(self, order: Order) -> _Running:
        """Take an order in, from any thread; its `future` has the result, its `stop` calls it off."""
        with self._changed:
            if self._is_closed:
                raise Stopped
            self._arrivals += 1
            job = _Running(number=self._arrivals, order=order, since_round=self.counters.rounds)
            self._incoming.append(job)
            self._start()
        return job

    def wake(self) -> None:
        """Have the engine look again: a model was loaded or is asked for, a job called off."""
        with self._changed:
            self._start()

    def _start(self) -> None:
        self._is_woken = True
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._is_closed:
                    break
                self._is_woken = False
                self._take_in()
            try:
                worked = self._take_round()
            except Exception:  # nothing may end this thread: every job waits for it
                log.exception("round_crashed")
                worked = False
            if not worked:
                with self._changed:
                    if not self._is_woken and not self._is_closed:
                        self._changed.wait(timeout=LOOK_S if self._jobs else None)
        with self._changed:
            self._take_in()
        for job in list(self._jobs.values()):
            self._end(job, error=Stopped())

    def _take_in(self) -> None:
        for job in self._incoming:
            self._jobs[job.number] = job
        self._incoming.clear()

    def _take_round(self) -> bool:
        """Take the next round; False if there was nothing to do."""
        for job in list(self._jobs.values()):
            if job.stop.is_set():
                self._end(job, error=Stopped())
        self._models.note(self._demands())
        plan, self._turn = plan_round(self._candidates(), self._turn, self._rows_max, self._rules)
        if plan is None:
            return False
        began_s = time.perf_counter()
        jobs = [self._jobs[number] for number in plan.numbers]
        self._run_round(plan, jobs)
        counters = self.counters
        counters.rounds += 1
        counters.rows += plan.rows
        counters.busy_s += time.perf_counter() - began_s
        counters.largest = max(counters.largest, len(jobs))
        return True

    def _rows_max(self, group: Group) -> int:
        model = self._models.find(group.model)
        if group.phase == "finish" or model is None:
            return 1
        return min(self._limits.allowed(group), model.rows_useful)

    def _demands(self) -> dict[str, Demand]:
        by_model: dict[str, list[_Running]] = {}
        for job in self._jobs.values():
            by_model.setdefault(job.order.model, []).append(job)
        return {
            model: Demand(
                waiting=sum(job.state is None for job in jobs),
                begun=sum(job.state is not None for job in jobs),
                rank=min(_rank(job) for job in jobs),
                since=min(job.number for job in jobs),
            )
            for model, jobs in by_model.items()
        }

    def _candidates(self) -> list[Candidate]:
        """Return the jobs that could take a step now; those whose model cannot be had are told so."""
        found: list[Candidate] = []
        for job in list(self._jobs.values()):
            try:
                model = self._models.find(job.order.model)
                if model is None or (job.state is None and not self._models.may_begin(job.order.model)):
                    continue
                if job.group is None:
                    job.group, job.rows = model.group_of(job.order.ask), model.rows_of(job.order.ask)
            except Exception as error:
                self._end(job, error=error)
                continue
            age = self.counters.rounds - job.since_round
            found.append(
                Candidate(number=job.number, group=job.group, job_class=job.order.job_class, rows=job.rows, age=age)
            )
        return found

    def _run_round(self, plan: Plan, jobs: Sequence[_Running]) -> None:
        model = self._models.find(plan.group.model)
        assert model is not None, "planned a moment ago"
        try:
            model.enter(plan.group)
        except Exception as error:
            for job in jobs:
                self._end(job, error=error)
            return
        if plan.group.phase == "finish":
            for job in jobs:
                self._finish(model, job)
            return
        begun = [job for job in jobs if job.state is not None or self._begin(model, job)]
        for job in begun:
            self._finish_if_done(model, job)  # an earlier try had taken all its steps
        self._step(model, plan.group, [job for job in begun if job.state is not None and _steps_left(job)])

    def _begin(self, model: StepModel, job: _Running) -> bool:
        try:
            job.state = model.begin(job.order.ask)
            self._models.used(job.order.model)
            job.order.on_begin(job.state)
        except Exception as error:
            self._end(job, error=error)
            return False
        return True

    def _step(self, model: StepModel, group: Group, jobs: Sequence[_Running]) -> None:
        """Take one step with each of `jobs`, in as few calls as memory allows."""
        if not jobs:
            return
        rows = sum(job.rows for job in jobs)
        began_s = time.perf_counter()
        try:
            predictions = model.predict([job.state for job in jobs])
        except Exception as error:
            is_memory = is_out_of_memory(error)
            if is_memory:
                self.counters.out_of_memory += 1
                self._limits.overflowed(group, rows)
                log.warning("batch_did_not_fit", rows=rows, allowed=self._limits.allowed(group), model=group.model)
            if len(jobs) == 1:
                self._step_alone(model, jobs[0], error, is_memory=is_memory)
                return
            # Out of memory: halves. Anything else: one job may be at fault, and only it shall bear it.
            middle = len(jobs) // 2
            parts = [jobs[:middle], jobs[middle:]] if is_memory else [[job] for job in jobs]
            for part in parts:
                self._step(model, group, part)
            return
        self._limits.fitted(group, rows, time.perf_counter() - began_s)
        for job, prediction in zip(jobs, predictions, strict=True):
            self._advance(model, job, prediction)

    def _step_alone(self, model: StepModel, job: _Running, error: Exception, *, is_memory: bool) -> None:
        """A job's own call failed: once more with all the memory there is, if that was the reason, else the end."""
        if is_memory and self._models.free_memory():
            try:
                [prediction] = model.predict([job.state])
            except Exception as again:
                error, is_memory = again, is_out_of_memory(again)
            else:
                self._advance(model, job, prediction)
                return
        self._end(job, error=no_room(job, error) if is_memory else error)

    def _advance(self, model: StepModel, job: _Running, prediction: Any) -> None:
        try:
            model.advance(job.state, prediction)
            self.counters.steps += 1
            if job.stop.is_set():
                raise Stopped
            job.order.on_step(job.state)
        except Exception as error:
            self._end(job, error=error)
            return
        self._finish_if_done(model, job)

    def _finish_if_done(self, model: StepModel, job: _Running) -> None:
        if _steps_left(job):
            return
        if model.finishes_apart:
            assert job.group is not None
            job.group, job.rows = _finishing(job.group), 1
        else:
            self._finish(model, job)

    def _finish(self, model: StepModel, job: _Running) -> None:
        result, failure = None, None
        for is_second in (False, True):
            try:
                result, failure = model.finish(job.state), None
                break
            except Exception as error:
                failure = no_room(job, error) if is_out_of_memory(error) else error
                if is_second or failure is error or not self._models.free_memory():
                    break
        self._end(job, result=result, error=failure)

    def _end(self, job: _Running, *, result: Any = None, error: BaseException | None = None) -> None:
        self._jobs.pop(job.number, None)
        job.state = None
        if job.future.done() or not job.future.set_running_or_notify_cancel():
            return  # whoever waited has gone
        if error is None:
            job.future.set_result(result)
            return
        if not isinstance(error, (HalfdropError, Stopped)):
            log.error("job_left_engine", error=repr(error), model=job.order.model)
        job.future.set_exception(error)


def no_room(job: _Running, error: Exception) -> Overloaded:
    """Return what is told of a job that did not fit alone: it is tried again, here or elsewhere."""
    shape = "×".join(map(str, job.group.shape)) if job.group is not None else "?"
    got = f"out of memory with one job of latents {shape} ({type(error).__name__})"
    return Overloaded(f"{got}; a worker with more memory may do it", retry_after_s=OUT_OF_MEMORY_RETRY_S)


def _steps_left(job: _Running) -> int:
    left: int = job.state.steps - job.state.step
    return left


def _finishing(group: Group) -> Group:
    return Group(model=group.model, shape=group.shape, dtype=group.dtype, form=group.form, phase="finish")


def _rank(job: _Running) -> int:
    return RANKS[job.order.job_class]
