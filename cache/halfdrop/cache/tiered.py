"""The tiered cache: ask the fastest tier first, fill the faster ones on the way back, make a value once for all.

Any tier can fail at any moment; the answer is then slower, never wrong and never an error. With a `Region` a value is
made once for all edges that share a Redis, and what one of them invalidates all forget. Keys name their content, so a
value is never stale; there is nothing here for what changes under its key (docs/adr/0011). That there is no value is
said only where the slowest tier, which forgets nothing, was asked; otherwise that it cannot be known (docs/adr/0016).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from halfdrop.cache.circuit import Clock
from halfdrop.cache.flights import SingleFlight
from halfdrop.cache.guard import Absence, GuardedTier, TierStats
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.missing import MissingKeys
from halfdrop.cache.news import RegionNews
from halfdrop.cache.owed import OwedKeys
from halfdrop.cache.regional import RedisTier
from halfdrop.cache.regional_flights import RegionalFlights
from halfdrop.cache.tiers import KEY_MAX_BYTES, Tier
from halfdrop.cache.writes import BackgroundWrites
from halfdrop.contracts.errors import Unavailable

FILL = "fill"
"""`tier_name` of a value that was in no tier and was made just now."""

CLOSE_GRACE_S = 5.0
"""Time for queued writes at the end: one slow operation of the object store."""

PROBE_TIMEOUT_S = 1.0
"""A tier that takes longer to say that it has nothing counts as away."""

REPAID_AT_ONCE = 32
"""Owed values written after one probe, one after the other: their order holds, and the next probe is not late."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A value and the tier that had it."""

    data: bytes
    tier_name: str
    is_remote: bool = False
    """True if a remote tier had it: it came over the network."""


class Above(Protocol):
    """What is kept above the cache, made of its values: it must forget with them."""

    def forget(self, key: str) -> None:
        """Drop what was made of the value of `key`, and take nothing that was read of it before now."""

    def clear(self) -> None:
        """Drop everything, and take nothing that was read before now."""


class _Read:
    """A value on its way from a slower tier, or being made."""

    is_overtaken = False
    """The key was invalidated meanwhile."""

    is_put = False
    """The key was put meanwhile, here or by another edge."""


class Region:
    """What the edges that share `tier` do together. Made closed; the cache opens and closes it."""

    def __init__(self, tier: RedisTier, clock: Clock = time.monotonic, *, heard_path: Path | None = None) -> None:
        """heard_path: file that goes with a disk tier and remembers which invalidations that tier has heard of."""
        self.tier = tier
        self.news = RegionNews(tier, heard_path=heard_path)
        self.flights = RegionalFlights(tier, self.news, clock)


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start, tiers fastest first."""

    tiers: tuple[TierStats, ...]
    fills: int
    """Values made because no tier had them."""

    dropped_writes: int
    """Background writes left out because too many were waiting."""

    shared_flights: int = 0
    """Values that another edge of the region made just then."""

    region_errors: int = 0
    """Failed attempts to agree with the region who makes a value."""

    memory_flushes: int = 0
    """Times that the region was heard again after an outage and memory was emptied."""

    spared: int = 0
    """Look-ups that were answered by what was just found missing."""

    owed: int = 0
    """Values that the slowest tier was away for and will get when it is back."""

    owed_lost: int = 0
    """Owed values that the faster tiers forgot first."""


class TieredCache:
    """Bytes by key over `tiers`, fastest first: local ones, then remote ones. Use it in `async with`.

    The cache closes the tiers it was given. Tiers in this process are asked and written at once; remote ones are asked
    once for all concurrent readers of a key, and written in the background.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        clock: Clock = time.monotonic,
        *,
        region: Region | None = None,
        above: Above | None = None,
    ) -> None:
        assert region is None or region.tier in tiers, "the region's tier is one of the cache's"
        guarded = [GuardedTier(tier, clock) for tier in tiers]
        self._local = [tier for tier in guarded if not tier.tier.is_remote]
        self._remote = [tier for tier in guarded if tier.tier.is_remote]
        assert self._local + self._remote == guarded, "local tiers come before remote ones"
        self._region = region
        self._above = above
        self._region_tier = next((tier for tier in self._remote if region and tier.tier is region.tier), None)
        self._reads: dict[str, set[_Read]] = {}
        self._missing = MissingKeys(clock)
        self._owed = OwedKeys(clock)
        self._lookups: SingleFlight[Found | Absence] = SingleFlight()
        self._fills: SingleFlight[Found] = SingleFlight()
        self._writes = BackgroundWrites()
        self._fill_count = 0
        self._was_read = False
        """Until then nothing above can have been made of our values: the usual reset right after a start spares it."""

        self._spared = 0

    async def __aenter__(self) -> Self:
        self._writes.start()
        if self._region is not None:
            self._region.news.start(on_gone=self._forget, on_here=self._expect, on_reset=self._reset)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fills.close()
        await self._lookups.close()
        try:
            await self._writes.close(grace_s=CLOSE_GRACE_S)
        finally:
            if self._region is not None:
                await self._region.news.close()
            for tier in reversed(self._local + self._remote):
                await tier.tier.aclose()

    async def look(self, key: str) -> Found | Absence:
        """Return the value and where it was, or why there is none.

        MISS: the slowest tier has no such key, now or up to MISSING_S seconds ago. OUTAGE: it cannot be asked.
        """
        found = await self._look_locally(key)
        if found is not None:
            return found
        if self._missing.knows(key):
            self._spared += 1
            return Absence.MISS
        return await self._lookups.run(key, lambda: self._look_remotely(key))

    async def get(self, key: str) -> Found | None:
        """Return the value and where it was, or None: for callers to whom it is the same why there is none."""
        found = await self.look(key)
        return found if isinstance(found, Found) else None

    async def get_or_fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found:
        """Return the value, made by `fill` if no tier has it; concurrent callers of one key share one `fill`.

        What `fill` raises, every caller waiting for it gets; the next call tries again. `fill` goes on when one caller
        gives up and is cancelled when all have.
        """
        return await self._look_locally(key) or await self._fills.run(key, lambda: self._look_or_fill(key, fill))

    async def put(self, key: str, data: bytes) -> None:
        """Store the value: in local tiers before this returns, in remote ones soon after."""
        _check_key(key)
        await self._expect(key)
        await self._store(key, data, self._local)
        self._store_later(key, data, self._remote)

    async def keep(self, key: str, data: bytes) -> bool:
        """Store the value, in the slowest tier, too, before this returns; return whether that tier has it now.

        What it could not take it is owed: `probe` writes it when the tier is back, if a faster one still has it then.
        """
        _check_key(key)
        await self._expect(key)
        await self._store(key, data, self._local)
        if not self._remote:
            return True
        self._store_later(key, data, self._remote[:-1])
        is_kept = await self._remote[-1].put(key, data)
        if is_kept:
            self._owed.discard(key)
        else:
            self._owed.add(key)
        return is_kept

    async def probe(self, key: str) -> None:
        """Ask every remote tier for `key`, a key that nothing has, to learn which are away; then pay what is owed."""
        await asyncio.gather(*(tier.probe(key, timeout_s=PROBE_TIMEOUT_S) for tier in self._remote))
        for owed in self._owed.oldest(REPAID_AT_ONCE):
            if not self._remote[-1].is_readable:
                return
            found = await self.get(owed)
            if found is None:
                self._owed.lose(owed)
            elif not await self._remote[-1].put(owed, found.data):
                return
            self._owed.discard(owed)

    async def invalidate(self, key: str) -> None:
        """Have every tier, the slowest first, and every edge of the region forget `key`.

        An edge that cannot hear it empties its memory when it hears again, and its disk if news was missed.
        Raises Unavailable if a remote tier or the region cannot be told: repeat it then.
        """
        _check_key(key)
        try:
            async with asyncio.timeout(CLOSE_GRACE_S):
                await self.drain()  # else a write still queued brings the value back
        except TimeoutError as error:
            raise Unavailable(f"writes were still waiting after {CLOSE_GRACE_S:g} s") from error
        for tier in reversed(self._remote):
            await tier.tier.delete(key)
        await self._forget(key)
        if self._region is not None:
            await self._region.news.tell_gone(key)

    async def drain(self) -> None:
        """Wait until the background writes queued so far are done."""
        await self._writes.drain()

    def stats(self) -> CacheStats:
        return CacheStats(
            tiers=tuple(tier.stats() for tier in self._local + self._remote),
            fills=self._fill_count,
            dropped_writes=self._writes.dropped,
            shared_flights=self._region.flights.shared if self._region else 0,
            region_errors=self._region.flights.errors if self._region else 0,
            memory_flushes=self._region.news.resets if self._region else 0,
            spared=self._spared,
            owed=len(self._owed),
            owed_lost=self._owed.lost,
        )

    async def _look_locally(self, key: str) -> Found | None:
        _check_key(key)
        self._was_read = True
        for place, tier in enumerate(self._local):
            data = await tier.get(key)
            if isinstance(data, bytes):
                await self._store(key, data, self._local[:place])
                return Found(data=data, tier_name=tier.tier.name)
        return None

    async def _look_remotely(self, key: str) -> Found | Absence:
        absence = Absence.MISS
        with self._reading(key) as read:
            for place, tier in enumerate(self._remote):
                data = await tier.get(key)
                if isinstance(data, bytes):
                    if not read.is_overtaken:
                        await self._store(key, data, self._local)
                        self._store_later(key, data, self._remote[:place])
                    return Found(data=data, tier_name=tier.tier.name, is_remote=True)
                absence = data  # the last tier's word counts: it forgets nothing, the others may have
            if absence is Absence.MISS and self._remote and not read.is_put:
                self._missing.note(key)
        return absence

    async def _look_or_fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found:
        found = await self._lookups.run(key, lambda: self._look_remotely(key))
        if isinstance(found, Found):
            return found
        if self._region is None:
            return await self._fill(key, fill)
        return await self._region.flights.run(
            key, look=lambda: self._look_in_region(key), make=lambda: self._fill(key, fill)
        )

    async def _look_in_region(self, key: str) -> Found | None:
        assert self._region_tier is not None
        with self._reading(key) as read:
            data = await self._region_tier.get(key)
            if not isinstance(data, bytes):
                return None
            if not read.is_overtaken:
                await self._store(key, data, self._local)
            return Found(data=data, tier_name=self._region_tier.tier.name, is_remote=True)

    async def _fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found:
        self._fill_count += 1
        with self._reading(key) as read:
            data = await fill()
            await self._expect(key)
            if not read.is_overtaken:
                # The edges that wait for this value look for it as soon as its flight has landed.
                at_once = [*self._local, self._region_tier] if self._region_tier else self._local
                await self._store(key, data, at_once)
                self._store_later(key, data, [tier for tier in self._remote if tier not in at_once])
        return Found(data=data, tier_name=FILL)

    @contextmanager
    def _reading(self, key: str) -> Iterator[_Read]:
        """Notice an invalidation while a value is on its way: what was read before it must not be kept after it."""
        read = _Read()
        self._reads.setdefault(key, set()).add(read)
        try:
            yield read
        finally:
            self._reads[key].discard(read)
            if not self._reads[key]:
                del self._reads[key]

    async def _expect(self, key: str) -> None:
        """Take note that `key` exists, or does in a moment."""
        self._missing.discard(key)
        for read in self._reads.get(key, ()):
            read.is_put = True

    async def _forget(self, key: str) -> None:
        for read in self._reads.get(key, ()):
            read.is_overtaken = True
        for tier in self._local:
            await tier.delete(key)
        if self._above is not None:
            self._above.forget(key)

    async def _reset(self, *, has_missed: bool) -> None:
        """Empty memory; the disk, too, if it may hold what was invalidated."""
        for reads in self._reads.values():
            for read in reads:
                read.is_overtaken = True
        for tier in self._local:
            if has_missed or isinstance(tier.tier, MemoryTier):
                await tier.clear()
        if self._above is not None and self._was_read:
            self._above.clear()

    async def _store(self, key: str, data: bytes, tiers: Sequence[GuardedTier]) -> None:
        for tier in tiers:
            await tier.put(key, data)

    def _store_later(self, key: str, data: bytes, tiers: Sequence[GuardedTier]) -> None:
        for tier in tiers:
            self._writes.offer(tier, key, data)


def _check_key(key: str) -> None:
    assert 0 < len(key.encode()) <= KEY_MAX_BYTES, f"a cache key has 1 to {KEY_MAX_BYTES} bytes"
