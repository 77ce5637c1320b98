"""Who waits for news of an order: pages that stream it and clients that wait for its end.

Each listener holds the newest status only. Statuses are whole snapshots, so a slow reader misses steps, never facts,
and needs no queue.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from halfdrop.contracts.errors import Overloaded
from halfdrop.contracts.jobs import JobStatus

LISTENERS_MAX = 1_000
"""Open streams and waiting requests at once; each is a connection and a few KB."""


class Listener:
    """One reader's view of one order."""

    def __init__(self) -> None:
        self._newest: JobStatus | None = None
        self._is_closed = False
        self._changed = asyncio.Event()

    def tell(self, status: JobStatus) -> None:
        self._newest = status
        self._changed.set()

    def close(self) -> None:
        self._is_closed = True
        self._changed.set()

    async def statuses(self, *, idle_s: float | None = None) -> AsyncIterator[JobStatus | None]:
        """Yield the newest status at each change, until a final one or the end of the process.

        Yields None after every `idle_s` seconds without news.
        """
        while True:
            if not await self._wait(idle_s):
                yield None
                continue
            self._changed.clear()
            status, self._newest = self._newest, None
            if status is not None:
                yield status
            if self._is_closed or (status is not None and status.state.is_final):
                return

    async def _wait(self, idle_s: float | None) -> bool:
        try:
            async with asyncio.timeout(idle_s):
                return await self._changed.wait()
        except TimeoutError:
            return False


class Listeners:
    """All listeners of this edge, by order."""

    def __init__(self) -> None:
        self._by_order: dict[str, set[Listener]] = {}
        self._count = 0
        self._is_closed = False
        self._watchers: list[Callable[[JobStatus], None]] = []

    def watch(self, watcher: Callable[[JobStatus], None]) -> None:
        """Have `watcher` called with every status of every order, in the loop's thread."""
        self._watchers.append(watcher)

    @property
    def count(self) -> int:
        """Clients that are listening now."""
        return self._count

    @contextmanager
    def listen(self, order_id: str) -> Iterator[Listener]:
        """Listen to `order_id` inside the block. Raises Overloaded when too many listen already."""
        if self._count >= LISTENERS_MAX or self._is_closed:
            raise Overloaded(f"{self._count} clients are waiting for orders already", retry_after_s=5.0)
        listener = Listener()
        self._by_order.setdefault(order_id, set()).add(listener)
        self._count += 1
        try:
            yield listener
        finally:
            self._count -= 1
            others = self._by_order[order_id]
            others.remove(listener)
            if not others:
                del self._by_order[order_id]

    def tell(self, status: JobStatus) -> None:
        """Hand `status` to everybody who listens to its order, and to those who watch all."""
        for watcher in self._watchers:
            watcher(status)
        for listener in self._by_order.get(status.id, ()):
            listener.tell(status)

    def close(self) -> None:
        """End every stream, so that a stopping server waits for none of them."""
        self._is_closed = True
        for listeners in self._by_order.values():
            for listener in listeners:
                listener.close()
