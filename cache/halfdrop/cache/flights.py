"""Single flight: however many ask for a key at once, the work is done once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from halfdrop.contracts.errors import Unavailable

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, task: "asyncio.Task[T]") -> None:
        self.task = task
        self.passengers = 0


class SingleFlight(Generic[T]):
    """Work by key, at most one at a time for each. It runs in a task of its own, so no caller's end is another's.

    When the last caller has given up, the work is cancelled: nobody is waiting for it.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` returns, or what the work under way for `key` does; raise what it raises.

        Raises Unavailable if the work was cancelled from within or by `close`.
        """
        flight = self._flights.get(key) or self._take_off(key, work)
        flight.passengers += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.passengers -= 1
            if flight.passengers == 0 and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            raise Unavailable("the work was given up")
        return flight.task.result()

    async def close(self) -> None:
        """Cancel all work and wait for its end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take_off(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        task = asyncio.create_task(work(), name=f"flight {key}")
        flight = _Flight(task)
        self._flights[key] = flight
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: str, flight: _Flight[T]) -> None:
        self._tasks.discard(flight.task)
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # seen, even when every passenger has left

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
