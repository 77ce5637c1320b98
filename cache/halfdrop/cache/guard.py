"""A tier behind a guard: it never raises; its failures are counted, logged now and then, and followed by a pause."""

import asyncio
from enum import Enum

import msgspec
import structlog

from halfdrop.cache.circuit import Circuit, Clock
from halfdrop.cache.tiers import Tier
from halfdrop.contracts.errors import Unavailable

log = structlog.get_logger()

LOG_EVERY_S = 10.0
"""At most one line per tier in this time, with the number of failures since the last."""


class Absence(Enum):
    """Why there is no value. A miss is a fact, an outage is not: what cannot be asked may have it."""

    MISS = "there is none"
    OUTAGE = "what may have it cannot be asked"


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

    damaged: int = 0
    """Values that were found changed, torn or in another's place; each was a miss."""

    error: str = ""
    """What the last failure said, while `is_away`."""


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
        self._error = ""

    @property
    def is_away(self) -> bool:
        """True if the last read or write that was tried failed."""
        return self._reads.is_open or self._writes.is_open

    @property
    def is_readable(self) -> bool:
        """True unless the last read that was tried failed."""
        return not self._reads.is_open

    async def get(self, key: str) -> bytes | Absence:
        """Return the value, or why there is none."""
        if not self._reads.admit():
            self._skips += 1
            return Absence.OUTAGE
        try:
            data = await self.tier.get(key)
        except Exception as error:  # whatever a client library raises: a cache never fails an answer
            self._failed(self._reads, error)
            return Absence.OUTAGE
        self._reads.succeed()
        if data is None:
            self._misses += 1
            return Absence.MISS
        self._hits += 1
        return data

    async def put(self, key: str, data: bytes) -> bool:
        """Store the value if the tier can, and return whether it could."""
        if not self._writes.admit():
            self._skips += 1
            return False
        try:
            await self.tier.put(key, data)
        except Exception as error:
            self._failed(self._writes, error)
            return False
        self._writes.succeed()
        return True

    async def delete(self, key: str) -> None:
        """Forget `key` if the tier can."""
        try:
            await self.tier.delete(key)
        except Exception as error:
            self._failed(self._writes, error)

    async def clear(self) -> None:
        """Forget everything if the tier can; only local tiers are asked to."""
        try:
            await self.tier.clear()
        except Exception as error:
            self._failed(self._writes, error)

    async def probe(self, key: str, *, timeout_s: float) -> None:
        """Ask the tier out of turn, so that its state is known now and an outage ends with the first answer.

        As long as somebody probes, no caller has to find out for all that the tier is still away.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.tier.get(key)
        except Exception as error:
            self._failed(self._reads, error)
            self._reads.fail_again()
            return
        self._reads.succeed()
        self._writes.hurry()

    def stats(self) -> TierStats:
        return TierStats(
            name=self.tier.name,
            hits=self._hits,
            misses=self._misses,
            errors=self._errors,
            skips=self._skips,
            is_away=self.is_away,
            damaged=self.tier.damaged,
            error=self._error if self.is_away else "",
        )

    def _failed(self, circuit: Circuit, error: Exception) -> None:
        circuit.fail()
        self._error = str(error) or type(error).__name__
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
