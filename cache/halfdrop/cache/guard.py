"""A tier behind a guard: it never raises; its failures are counted, logged now and then, and followed by a pause."""

import msgspec
import structlog

from halfdrop.cache.circuit import Circuit, Clock
from halfdrop.cache.tiers import Tier
from halfdrop.contracts.errors import Unavailable

log = structlog.get_logger()

LOG_EVERY_S = 10.0
"""At most one line per tier in this time, with the number of failures since the last."""


class TierStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one tier since the start."""

    name: str
    hits: int
    misses: int
    errors: int
    """Reads and writes that failed."""

    skips: int
    """Reads and writes left out because the tier had just failed."""

    is_away: bool
    """True if the last read or write that was tried failed."""


class GuardedTier:
    """`tier`, with reads and writes that cannot fail. Reads and writes pause apart: a full disk still reads."""

    def __init__(self, tier: Tier, clock: Clock) -> None:
        self.tier = tier
        self._clock = clock
        self._reads = Circuit(clock)
        self._writes = Circuit(clock)
        self._hits = 0
        self._misses = 0
        self._errors = 0
        self._skips = 0
        self._unlogged = 0
        self._log_at_s = clock()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if the tier has none or cannot be asked."""
        if not self._reads.admit():
            self._skips += 1
            return None
        try:
            data = await self.tier.get(key)
        except Exception as error:  # whatever a client library raises: a cache never fails an answer
            self._failed(self._reads, error)
            return None
        self._reads.succeed()
        if data is None:
            self._misses += 1
        else:
            self._hits += 1
        return data

    async def put(self, key: str, data: bytes) -> None:
        """Store the value if the tier can."""
        if not self._writes.admit():
            self._skips += 1
            return
        try:
            await self.tier.put(key, data)
        except Exception as error:
            self._failed(self._writes, error)
            return
        self._writes.succeed()

    async def delete(self, key: str) -> None:
        """Forget `key` if the tier can."""
        try:
            await self.tier.delete(key)
        except Exception as error:
            self._failed(self._writes, error)

    def stats(self) -> TierStats:
        return TierStats(
            name=self.tier.name,
            hits=self._hits,
            misses=self._misses,
            errors=self._errors,
            skips=self._skips,
            is_away=self._reads.is_open or self._writes.is_open,
        )

    def _failed(self, circuit: Circuit, error: Exception) -> None:
        circuit.fail()
        self._errors += 1
        self._unlogged += 1
        now_s = self._clock()
        if now_s >= self._log_at_s:
            log.warning(
                "cache_tier_failed",
                tier=self.tier.name,
                error=str(error),
                failures=self._unlogged,
                # A tier raises Unavailable only; the trace of anything else shows a bug in it.
                exc_info=None if isinstance(error, Unavailable) else error,
            )
            self._log_at_s = now_s + LOG_EVERY_S
            self._unlogged = 0
