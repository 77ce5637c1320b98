"""One flight per key across the edges of a region: a lease in Redis says who makes a value, the others wait for it.

Leases are for speed alone. Whatever happens to them (Redis dies, forgets or evicts them, the holder is killed or
hangs), a value is made once more than needed at worst, and every making gives the same bytes.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import TypeVar

import structlog

from halfdrop.cache.circuit import Circuit, Clock
from halfdrop.cache.news import CHANNEL, DONE, RegionNews
from halfdrop.cache.regional import RedisTier
from halfdrop.contracts.errors import Unavailable

log = structlog.get_logger()

LEASE_S = 1.0
"""A holder that died is succeeded after this. It renews in time, so a value may take longer to make."""

RENEW_S = 0.3
"""Two renewals may be lost before the lease ends."""

POLL_S = 0.1
"""Those who wait look this often by themselves: for news that was missed, and for a lease that ended."""

WAIT_MAX_S = 5.0
"""Longest wait for another edge; then the value is made here too. The last preview in a full queue takes one second."""

TAKE = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
redis.call('set', KEYS[2], '1', 'PX', ARGV[3])
return 0
"""
RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end
if redis.call('del', KEYS[2]) == 1 then redis.call('publish', ARGV[2], ARGV[3]) end
"""
"""KEYS: the lease, and the mark that somebody waits for it: without one there is no news to tell."""

T = TypeVar("T")


class _Lease(Enum):
    TAKEN = "taken"
    HELD = "held by another"
    AWAY = "Redis cannot be asked"


class RegionalFlights:
    """Flights by key, at most one at a time in the region as far as Redis can tell."""

    def __init__(self, tier: RedisTier, news: RegionNews, clock: Clock = time.monotonic) -> None:
        self._tier = tier
        self._news = news
        self._clock = clock
        self._circuit = Circuit(clock)
        self._take, self._renew, self._release = (tier.client.register_script(s) for s in (TAKE, RENEW, RELEASE))
        self.shared = 0
        """Values that another edge was making and that were waited for."""

        self.overtaken = 0
        """Waits that were longer than WAIT_MAX_S."""

        self.errors = 0
        """Commands that failed: the flight was then this process's alone."""

    async def run(self, key: str, *, look: Callable[[], Awaitable[T | None]], make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` does here, or what `look` finds once another edge has made it.

        `make` must leave the value where the others' `look` finds it. What it raises is raised here only: another edge
        then tries for itself.
        """
        token = secrets.token_bytes(16)
        give_up_at_s = self._clock() + WAIT_MAX_S
        while True:
            lease = await self._try_to_take(key, token)
            if lease is _Lease.AWAY:
                return await make()
            if lease is _Lease.TAKEN:
                async with self._holding(key, token):
                    # Another may have landed between our last look and the lease.
                    return await self._look(look) or await make()
            if self._clock() >= give_up_at_s:
                self.overtaken += 1
                return await make()
            await self._news.wait_until_done(key, timeout_s=POLL_S)
            found = await self._look(look)
            if found is not None:
                return found

    async def _look(self, look: Callable[[], Awaitable[T | None]]) -> T | None:
        found = await look()
        self.shared += found is not None
        return found

    async def _try_to_take(self, key: str, token: bytes) -> _Lease:
        if not self._circuit.admit():
            return _Lease.AWAY
        wait_ms = int((WAIT_MAX_S + LEASE_S) * 1000)
        try:
            taken = await self._tier.run(self._take(keys=_names(key), args=[token, int(LEASE_S * 1000), wait_ms]))
        except Unavailable as error:
            self._failed(error)
            return _Lease.AWAY
        self._circuit.succeed()
        return _Lease.TAKEN if taken else _Lease.HELD

    @asynccontextmanager
    async def _holding(self, key: str, token: bytes) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._keep(key, token), name=f"lease {key}")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            try:
                args: list[bytes | str] = [token, CHANNEL, DONE + key.encode()]
                await self._tier.run(self._release(keys=_names(key), args=args))
            except Unavailable as error:
                self._failed(error)

    async def _keep(self, key: str, token: bytes) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                held = await self._tier.run(self._renew(keys=_names(key)[:1], args=[token, int(LEASE_S * 1000)]))
            except Unavailable as error:
                self._failed(error)
                continue
            if not held:
                return  # somebody has taken over: two make the same bytes

    def _failed(self, error: Unavailable) -> None:
        self._circuit.fail()
        self.errors += 1
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th …: an outage does not flood the log
            log.warning("cache_lease_failed", error=error.detail, failures=self.errors)


def _names(key: str) -> list[str]:
    return [f"halfdrop:lease:{key}", f"halfdrop:lease-waited:{key}"]
