"""A lock for each key, there only while somebody holds it or waits for it."""

import asyncio


class KeyLocks:
    """Locks by key, first come, first served."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def hold(self, key: str) -> "_Hold":
        """Hold the lock of `key` inside an `async with` block."""
        return _Hold(self._held, key)


class _Held:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class _Hold:
    # Not a generator: it is entered several times for each order, and those cost as much as the lock.
    __slots__ = ("_all", "_held", "_key")

    def __init__(self, held: dict[str, _Held], key: str) -> None:
        self._all = held
        self._key = key
        self._held: _Held

    async def __aenter__(self) -> None:
        self._held = self._all.get(self._key) or self._all.setdefault(self._key, _Held())
        self._held.users += 1
        try:
            await self._held.lock.acquire()
        except BaseException:
            self._let_go()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._held.lock.release()
        self._let_go()

    def _let_go(self) -> None:
        self._held.users -= 1
        if not self._held.users:
            del self._all[self._key]
