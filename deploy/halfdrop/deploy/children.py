"""Child processes: started in a group of their own, ended with this process, their output in a file.

Nothing here knows what the children do. A child is never restarted from here; that is the supervisor's decision.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")

STOP_GRACE_S = 10.0
"""Between SIGTERM and SIGKILL. A server that flushes its files needs a tenth of a second."""

TAIL_LINES = 5
"""Lines of the child's own last words in an error."""


class Child:
    """One child process. `argv[0]` is the path of a program; output is appended to `log_path`."""

    def __init__(self, *, name: str, argv: list[str], log_path: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.argv = argv
        self.log_path = log_path
        self.log_start = 0
        """Where in the log the present run began, in bytes."""

        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id of the running child, which is its group's id too."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status of the last run, negative for a signal; None while it runs or before the first start."""
        return None if self._process is None else self._process.returncode

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the program. Returns at once: ready is for the caller to find out."""
        assert not self.is_running, f"{self.name} runs already"
        argv = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.argv]
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:  # append mode: the supervisor may cut the file while it is written
            self.log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                start_new_session=True,  # Ctrl-C goes to the supervisor alone, which stops the children in order
            )

    async def wait(self) -> int:
        """Return the exit status once the child has ended."""
        assert self._process is not None, f"{self.name} was not started"
        return await self._process.wait()

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the child to end with SIGTERM and wait; after `grace_s` kill it and whatever it started."""
        if not self.is_running:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kill the child and whatever it started with SIGKILL, and wait until it is gone."""
        self.kill_soon()
        if self.is_running:
            await self.wait()

    def kill_soon(self) -> None:
        """Send SIGKILL to the child's whole group, and do not wait."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send `number` to the child itself, if it still runs."""
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(number)

    def last_words(self) -> str:
        """Return the last lines of the child's log, for an error message."""
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])
