"""One part of the running system: a child process that is ready when it answers."""

import asyncio
from collections.abc import Awaitable, Callable

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.children import STOP_GRACE_S, Child

READY_TIMEOUT_S = 30.0
"""A NATS server that recovers gigabytes of streams takes seconds, as does Python on a busy machine."""

READY_POLL_S = 0.02
"""Between two looks at a part that is starting; servers start in 20 to 200 ms."""


class Part:
    """A child process and how to see that it answers. It can be stopped, killed and started again, in any order."""

    def __init__(
        self,
        process: Child,
        *,
        answers: Callable[[], Awaitable[bool]],
        grace_s: float = STOP_GRACE_S,
        ready_timeout_s: float = READY_TIMEOUT_S,
        is_optional: bool = False,
    ) -> None:
        self.process = process
        self.is_optional = is_optional
        """The others go on without it, should it not live."""

        self.grace_s = grace_s
        self._answers = answers
        self._ready_timeout_s = ready_timeout_s

    @property
    def name(self) -> str:
        return self.process.name

    async def start(self) -> None:
        """Start, and return once it answers.

        Raises PermanentError(not-started), with the child's last words, if it ends or stays silent; it is not left
        running then.
        """
        await self.process.start()
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                while not await self._answers():
                    if not self.process.is_running:
                        raise self._not_started(f"ended with status {self.process.returncode} at its start")
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError as error:
            await self.kill()
            raise self._not_started(f"did not answer within {self._ready_timeout_s:g} s") from error

    async def stop(self) -> None:
        """End it with SIGTERM, after its grace with SIGKILL. Does nothing if it does not run."""
        await self.process.stop(grace_s=self.grace_s)

    async def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop and start again."""
        await self.stop()
        await self.start()

    def _not_started(self, what: str) -> PermanentError:
        return PermanentError(f"{self.name} {what}; its last words:\n{self.process.last_words()}", code="not-started")
