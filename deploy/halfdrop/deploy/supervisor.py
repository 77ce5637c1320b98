"""Keep parts running: start them in order, start a crashed one again, stop them in reverse.

A part that ends by itself is started again after a wait that doubles with each failure in a row; one that somebody
killed is started at once. When FAILURES_MAX starts in a row fail, the supervisor gives up and stops everything: a part
that cannot start needs a person. One that starts and ends again is kept at: what ran once may run again.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.folder import DataFolder, Ledger, RunningChild, started_ticks
from halfdrop.deploy.parts import Part

RESTART_WAIT_S = 0.5
"""Before the first restart; long enough for a port to be let go."""

RESTART_WAIT_MAX_S = 30.0

FAILURES_MAX = 8
"""Starts in a row, about a minute and a half of trying."""

STEADY_S = 20.0
"""A part that ran this long was well; its next failure counts as the first."""

FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
"""Exit statuses that say nothing against the part itself."""


@asynccontextmanager
async def open_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a TaskGroup whose first error comes out alone: parts fail one by one, and the first is the cause."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


class Supervisor:
    """The parts of one running system. `say` shows a line to the person at the terminal."""

    def __init__(
        self,
        *,
        folder: DataFolder,
        url: str,
        say: Callable[[str], None],
        restart_wait_s: float = RESTART_WAIT_S,
    ) -> None:
        self._folder = folder
        self._url = url
        self._say = say
        self._restart_wait_s = restart_wait_s
        self._parts: list[Part] = []
        self._started: list[Sequence[Part]] = []
        """Stages in the order of their start."""

    @asynccontextmanager
    async def running(self, stages: Sequence[Sequence[Part]]) -> AsyncIterator[None]:
        """Run the parts until the block ends: stage after stage, those of one stage side by side.

        Stops them in reverse when the block ends or a part does not start. Raises PermanentError(not-started).
        """
        try:
            for stage in stages:
                await self.start_stage(stage)
            yield
        finally:
            for stage in reversed(self._started):
                await self._stop_stage(stage)
            self._folder.ledger.unlink(missing_ok=True)

    async def start_stage(self, stage: Sequence[Part]) -> None:
        """Start parts side by side; they are stopped before those that ran already. Raises PermanentError."""
        self._started.append(stage)
        self._parts.extend(stage)
        async with open_tasks() as group:
            for part in stage:
                group.create_task(self._start_if_needed(part))

    async def keep_running(self) -> None:
        """Start parts again as they end, until cancelled. Raises PermanentError(gave-up) when one cannot live."""
        async with open_tasks() as group:
            for part in self._parts:
                group.create_task(self._keep_if_needed(part))

    def kill_all(self) -> None:
        """Kill every child at once; whoever waits for them to stop sees them gone."""
        for part in self._parts:
            part.process.kill_soon()

    async def _start_if_needed(self, part: Part) -> None:
        try:
            await self._start_part(part)
        except PermanentError as error:
            if not part.is_optional:
                raise
            self._say(error.detail.splitlines()[0])  # `keep_running` tries again

    async def _start_part(self, part: Part) -> None:
        began = time.monotonic()
        try:
            await part.start()
        finally:
            self._write_ledger()
        self._say(f"  {part.name:<16} ready {time.monotonic() - began:5.1f} s")

    async def _stop_stage(self, stage: Sequence[Part]) -> None:
        async with asyncio.TaskGroup() as group:
            for part in stage:
                group.create_task(self._stop_part(part))

    async def _stop_part(self, part: Part) -> None:
        if not part.process.is_running:
            return
        began = time.monotonic()
        await part.stop()
        killed = " (killed)" if part.process.returncode == -signal.SIGKILL else ""
        self._say(f"  {part.name:<16} stopped {time.monotonic() - began:3.1f} s{killed}")

    async def _keep_if_needed(self, part: Part) -> None:
        try:
            await self._keep_part(part)
        except PermanentError as error:
            if not part.is_optional:
                raise
            self._say(f"{error.detail.splitlines()[0]}; the rest goes on without it, see {part.process.log_path}")

    async def _keep_part(self, part: Part) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            status = await part.process.wait()
            was_well = time.monotonic() - began > STEADY_S or status in FROM_OUTSIDE
            failures = 1 if was_well else failures + 1
            starts = 0
            while not await self._start_again(part, status, failures):
                failures, starts = failures + 1, starts + 1
                if starts >= FAILURES_MAX:
                    words = part.process.last_words()
                    raise PermanentError(
                        f"{part.name} failed to start {starts} times in a row; its last words:\n{words}", code="gave-up"
                    )

    async def _start_again(self, part: Part, status: int, failures: int) -> bool:
        wait_s = min(self._restart_wait_s * 2 ** (failures - 1), RESTART_WAIT_MAX_S)
        again = f"starting it again in {wait_s:g} s; see {part.process.log_path}"
        self._say(f"{part.name} ended ({_describe_status(status)}); {again}")
        await asyncio.sleep(wait_s)
        try:
            await self._start_part(part)
        except PermanentError as error:
            self._say(error.detail.splitlines()[0])
            return False
        return True

    def _write_ledger(self) -> None:
        children = tuple(
            RunningChild(name=part.name, pid=part.process.pid, started_ticks=ticks)
            for part in self._parts
            if part.process.is_running and (ticks := started_ticks(part.process.pid)) is not None
        )
        self._folder.write_ledger(Ledger(supervisor_pid=os.getpid(), url=self._url, children=children))


def _describe_status(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
