"""Writes to remote tiers, done after the answer has gone out: bounded in number and bytes, drained at the end."""

import asyncio

import structlog

from halfdrop.cache.guard import GuardedTier

log = structlog.get_logger()

QUEUE_MAX = 1024
QUEUE_BYTES_MAX = 64 * 2**20
"""Previews of half a minute at full speed. Beyond either bound a write is dropped: the value is made again later."""

WRITERS = 4
"""Writes under way at once: enough to hide an object store's latency, few enough to leave Redis to the readers."""


class BackgroundWrites:
    """A bounded queue of writes and the tasks that do them, between `start` and `close`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[GuardedTier, str, bytes]] = asyncio.Queue(QUEUE_MAX)
        self._queued_bytes = 0
        self._writers: list[asyncio.Task[None]] = []
        self.dropped = 0

    def start(self) -> None:
        """Start the writers in the running loop."""
        self._writers = [asyncio.create_task(self._write(), name=f"cache writer {n}") for n in range(WRITERS)]

    def offer(self, tier: GuardedTier, key: str, data: bytes) -> None:
        """Queue one write; a write too many is dropped and counted."""
        assert self._writers, "the cache is used outside its `async with`"
        if self._queue.full() or self._queued_bytes + len(data) > QUEUE_BYTES_MAX:
            self.dropped += 1
            return
        self._queue.put_nowait((tier, key, data))
        self._queued_bytes += len(data)

    async def drain(self) -> None:
        """Wait until everything queued so far is written."""
        await self._queue.join()

    async def close(self, *, grace_s: float) -> None:
        """Wait `grace_s` for what is queued, then give up the rest."""
        try:
            async with asyncio.timeout(grace_s):
                await self.drain()
        except TimeoutError:
            self.dropped += self._queue.qsize()
            log.warning("cache_writes_dropped", waiting=self._queue.qsize(), grace_s=grace_s)
        finally:
            for writer in self._writers:
                writer.cancel()
            await asyncio.wait(self._writers)

    async def _write(self) -> None:
        while True:
            tier, key, data = await self._queue.get()
            try:
                await tier.put(key, data)
            finally:
                self._queued_bytes -= len(data)
                self._queue.task_done()
