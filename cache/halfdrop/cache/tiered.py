"""The tiered cache: ask the fastest tier first, fill the faster ones on the way back, make a value once for all.

Any tier can fail at any moment; the answer is then slower, never wrong and never an error. What is not here yet has its
place: entries for what does not exist and stale answers belong in `get_or_fill`, flights across edges in the work of
`_fills`, pushed invalidation beside `MemoryTier`.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from halfdrop.cache.circuit import Clock
from halfdrop.cache.flights import SingleFlight
from halfdrop.cache.guard import GuardedTier, TierStats
from halfdrop.cache.tiers import KEY_MAX_BYTES, Tier
from halfdrop.cache.writes import BackgroundWrites

FILL = "fill"
"""`tier_name` of a value that was in no tier and was made just now."""

CLOSE_GRACE_S = 5.0
"""Time for queued writes at the end: one slow operation of the object store."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A value and the tier that had it."""

    data: bytes
    tier_name: str


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start, tiers fastest first."""

    tiers: tuple[TierStats, ...]
    fills: int
    """Values made because no tier had them."""

    dropped_writes: int
    """Background writes left out because too many were waiting."""


class TieredCache:
    """Bytes by key over `tiers`, fastest first: local ones, then remote ones. Use it in `async with`.

    The cache closes the tiers it was given. Tiers in this process are asked and written at once; remote ones are asked
    once for all concurrent readers of a key, and written in the background.
    """

    def __init__(self, tiers: Sequence[Tier], clock: Clock = time.monotonic) -> None:
        guarded = [GuardedTier(tier, clock) for tier in tiers]
        self._local = [tier for tier in guarded if not tier.tier.is_remote]
        self._remote = [tier for tier in guarded if tier.tier.is_remote]
        assert self._local + self._remote == guarded, "local tiers come before remote ones"
        self._lookups: SingleFlight[Found | None] = SingleFlight()
        self._fills: SingleFlight[Found] = SingleFlight()
        self._writes = BackgroundWrites()
        self._fill_count = 0

    async def __aenter__(self) -> Self:
        self._writes.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fills.close()
        await self._lookups.close()
        try:
            await self._writes.close(grace_s=CLOSE_GRACE_S)
        finally:
            for tier in reversed(self._local + self._remote):
                await tier.tier.aclose()

    async def get(self, key: str) -> Found | None:
        """Return the value and where it was; None if no tier has it, or those that have it are away."""
        return await self._look_locally(key) or await self._lookups.run(key, lambda: self._look_remotely(key))

    async def get_or_fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found:
        """Return the value, made by `fill` if no tier has it; concurrent callers of one key share one `fill`.

        What `fill` raises, every caller waiting for it gets; the next call tries again. `fill` goes on when one caller
        gives up and is cancelled when all have.
        """
        return await self._look_locally(key) or await self._fills.run(key, lambda: self._look_or_fill(key, fill))

    async def put(self, key: str, data: bytes) -> None:
        """Store the value: in local tiers before this returns, in remote ones soon after."""
        _check_key(key)
        await self._store(key, data, self._local)
        self._store_later(key, data, self._remote)

    async def drain(self) -> None:
        """Wait until the background writes queued so far are done."""
        await self._writes.drain()

    def stats(self) -> CacheStats:
        return CacheStats(
            tiers=tuple(tier.stats() for tier in self._local + self._remote),
            fills=self._fill_count,
            dropped_writes=self._writes.dropped,
        )

    async def _look_locally(self, key: str) -> Found | None:
        _check_key(key)
        for place, tier in enumerate(self._local):
            data = await tier.get(key)
            if data is not None:
                await self._store(key, data, self._local[:place])
                return Found(data=data, tier_name=tier.tier.name)
        return None

    async def _look_remotely(self, key: str) -> Found | None:
        for place, tier in enumerate(self._remote):
            data = await tier.get(key)
            if data is not None:
                await self._store(key, data, self._local)
                self._store_later(key, data, self._remote[:place])
                return Found(data=data, tier_name=tier.tier.name)
        return None

    async def _look_or_fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found:
        found = await self._lookups.run(key, lambda: self._look_remotely(key))
        if found is not None:
            return found
        self._fill_count += 1
        data = await fill()
        await self.put(key, data)
        return Found(data=data, tier_name=FILL)

    async def _store(self, key: str, data: bytes, tiers: Sequence[GuardedTier]) -> None:
        for tier in tiers:
            await tier.put(key, data)

    def _store_later(self, key: str, data: bytes, tiers: Sequence[GuardedTier]) -> None:
        for tier in tiers:
            self._writes.offer(tier, key, data)


def _check_key(key: str) -> None:
    assert 0 < len(key.encode()) <= KEY_MAX_BYTES, f"a cache key has 1 to {KEY_MAX_BYTES} bytes"
