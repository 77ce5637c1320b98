"""Replays that people ask for: each in a process of its own, one at a time, with progress, and gone when called off."""

import asyncio
import itertools
import multiprocessing
import time
from collections import OrderedDict
from multiprocessing.connection import Connection
from typing import Annotated, Literal

import msgspec
import structlog

from halfdrop.contracts.errors import HalfdropError, InvalidInput, NotFound, Overloaded
from halfdrop.forecaster.replay import Learnt
from halfdrop.forecaster.service.shards import leave_with_parent
from halfdrop.forecaster.what_if import Answer, Question, learn, replay_question

log = structlog.get_logger()

WAITING_MAX = 8
KEPT_MAX = 32
LEARNT_MAX = 4
"""Pools and windows of which the forecasts are kept: who drags sliders asks for the same days again and again."""

RUN_MAX_S = 600.0
"""A week takes some ten seconds; a machine that does ten other things ten times as long."""

State = Literal["waiting", "running", "done", "failed", "canceled"]


class Run(msgspec.Struct, kw_only=True):
    """One replay, from the question to its answer."""

    id: str
    pool: str
    state: State = "waiting"
    doing: str = "waiting for its turn"
    done_share: float = 0.0
    detail: str = ""
    """Why it failed."""

    asked_at: float = msgspec.field(default_factory=time.time)
    took_s: float = 0.0
    is_in_background: bool = False
    """Nobody asked for it: a comparison with hindsight, which is made when there is nothing else to do."""

    answer: Answer | None = None
    about: dict[str, Annotated[float, msgspec.Meta()]] = msgspec.field(default_factory=dict)
    """What was asked for instead of the present terms."""


class Replays:
    """Runs replays. `run` must be running for them to."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._queue: asyncio.Queue[tuple[Run, Question]] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._running: Run | None = None
        self._over = asyncio.Condition()
        self._learnt: OrderedDict[tuple[str, int, int, int], Learnt] = OrderedDict()

    async def wait(self, run: Run) -> None:
        """Return when the run is over, however it ended."""
        async with self._over:
            await self._over.wait_for(lambda: run.state not in ("waiting", "running"))

    @property
    def is_idle(self) -> bool:
        return self._running is None and self._queue.empty()

    def ask(self, pool: str, question: Question, *, about: dict[str, float], is_in_background: bool = False) -> Run:
        """Put a question in the queue. Raises Overloaded if too many wait. What is in the background gives way."""
        if not is_in_background:
            for run in self._runs.values():
                if run.is_in_background:
                    self.cancel(run.id)
        if self._queue.qsize() >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} replays wait already; call one off or wait", retry_after_s=15.0)
        run = Run(id=f"replay-{next(self._numbers)}", pool=pool, about=about, is_in_background=is_in_background)
        self._runs[run.id] = run
        while len(self._runs) > KEPT_MAX:
            self._forget_one()
        self._queue.put_nowait((run, question))
        return run

    def find(self, run_id: str) -> Run:
        """Return a run. Raises NotFound for one that was never there, or long ago."""
        found = self._runs.get(run_id)
        if found is None:
            raise NotFound(f"no replay is called {run_id[:64]!r}; the last {KEPT_MAX} are kept")
        return found

    def cancel(self, run_id: str) -> Run:
        """Call a replay off; one that is over stays as it is."""
        run = self.find(run_id)
        if run.state in ("waiting", "running"):
            run.state, run.doing = "canceled", ""
            if run is self._running:
                self._end_process()
        return run

    def _end_process(self) -> None:
        """End the process of the running replay; one that is only just being started is ended when it has been."""
        if self._process is not None and self._process.pid is not None:
            self._process.terminate()

    async def run(self) -> None:
        """Work the queue until cancelled."""
        try:
            while True:
                run, question = await self._queue.get()
                if run.state == "waiting":
                    await self._serve(run, question)
                async with self._over:
                    self._over.notify_all()
        finally:
            self._end_process()

    async def _serve(self, run: Run, question: Question) -> None:
        key = (run.pool, question.start_minute, len(question.gpus), question.window_minutes)
        question = msgspec.structs.replace(question, learnt=self._learnt.get(key))
        run.state, run.doing, self._running = "running", "starting", run
        began_s = time.monotonic()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        self._process = process = context.Process(target=work, args=(theirs, question), name=run.id)
        try:
            await asyncio.to_thread(process.start)
            theirs.close()
            if run.state == "running":
                async with asyncio.timeout(RUN_MAX_S):
                    await self._listen(run, ours, key)
        except TimeoutError:
            run.state, run.detail = "failed", f"it took longer than {RUN_MAX_S:.0f} s; choose fewer days"
        finally:
            self._end_process()
            ours.close()
            if process.pid is not None:
                await asyncio.to_thread(process.join)
            run.took_s = round(time.monotonic() - began_s, 2)
            self._process = self._running = None

    async def _listen(self, run: Run, ours: Connection, key: tuple[str, int, int, int]) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(ours.fileno(), readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                while ours.poll():
                    kind, payload = ours.recv()
                    if run.state == "canceled":
                        return
                    if kind == "progress":
                        run.doing, run.done_share = payload
                    elif kind == "learnt":
                        self._learnt[key] = payload
                        while len(self._learnt) > LEARNT_MAX:
                            self._learnt.popitem(last=False)
                    elif kind == "answer":
                        run.state, run.doing, run.done_share, run.answer = "done", "", 1.0, payload
                        return
                    else:
                        run.state, run.doing, run.detail = "failed", "", payload
                        return
        except EOFError:
            if run.state != "canceled":
                run.state, run.doing, run.detail = "failed", "", "its process ended before it was done"
                log.warning("replay_died", replay=run.id)
        finally:
            loop.remove_reader(ours.fileno())

    def _forget_one(self) -> None:
        over = next((key for key, run in self._runs.items() if run.state not in ("waiting", "running")), None)
        self._runs.pop(over if over is not None else next(iter(self._runs)))


def work(connection: Connection, question: Question) -> None:
    """In the replay's process: answer the question, telling how far it is."""
    leave_with_parent()

    def tell(doing: str, done_share: float) -> None:
        connection.send(("progress", (doing, done_share)))

    try:
        if question.usable is None:
            question = msgspec.structs.replace(question, learnt=learn(question, tell))
            connection.send(("learnt", question.learnt))
        connection.send(("answer", replay_question(question, tell)))
    except HalfdropError as error:
        connection.send(("failed", str(error)))
    except Exception as error:  # told to who asked: there is nobody else in this process
        connection.send(("failed", f"{type(error).__name__}: {error}"))


def check_days(days: float) -> None:
    """Raise InvalidInput for a window that no replay serves."""
    if not 0.25 <= days <= 28:
        raise InvalidInput("days", got=days, allowed="0.25 to 28")
