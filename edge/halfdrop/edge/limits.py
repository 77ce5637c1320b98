"""Rate limits by tier: one count per tenant in the region's Redis, a count of this edge's own while Redis is away.

Header fields `RateLimit-Policy` and `RateLimit` and the problem type are those of the IETF draft "RateLimit header
fields for HTTP" (draft-ietf-httpapi-ratelimit-headers, September 2025). Windows are fixed: a tenant can use the quotas
of two around the border between them, which is the price of one INCR per policy.
"""

import math
import time
from collections.abc import Callable, Sequence

import msgspec

from halfdrop.cache.circuit import Circuit
from halfdrop.cache.regional import RedisTier
from halfdrop.contracts.errors import TransientError, Unavailable
from halfdrop.edge.access import Access
from halfdrop.edge.keys import Tier

PREFIX = "halfdrop:limits:"
"""Of the keys in Redis."""

LOCAL_COUNTS_MAX = 10_000
"""Windows counted here; above that all are forgotten, which errs on the tenants' side."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """At most `quota` of what `name` counts in each `window_s` seconds."""

    name: str
    quota: int
    window_s: int


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A policy and where a tenant stands with it after this request."""

    policy: Policy
    count: int
    reset_s: int

    @property
    def remaining(self) -> int:
        return max(0, self.policy.quota - self.count)


POLICIES: dict[Tier, dict[str, Policy]] = {
    "standard": {
        "requests": Policy(name="requests", quota=1_200, window_s=60),
        "orders": Policy(name="orders", quota=120, window_s=3600),
    },
    "plus": {
        "requests": Policy(name="requests", quota=12_000, window_s=60),
        "orders": Policy(name="orders", quota=1_200, window_s=3600),
    },
    "unlimited": {},
}
"""Requests: twenty a second are ten designers who never stop typing. Orders: each is seconds of a hub."""

LINE_POLICIES: dict[Tier, tuple[Policy, ...]] = {
    "standard": (Policy(name="batch-lines", quota=10_000, window_s=86_400),),
    "plus": (Policy(name="batch-lines", quota=100_000, window_s=86_400),),
    "unlimited": (),
}
"""Lines of batches, a day: they run in the bulk class, behind everybody's orders, so they may be more than those."""


class QuotaExceeded(TransientError):
    """A tenant asked for more than its tier allows; carries the policies that were violated, and where it stands."""

    def __init__(self, exceeded: list[Limit], stands: list[Limit]) -> None:
        self.stands = stands
        self.violated = tuple(limit.policy.name for limit in exceeded)
        said = ", ".join(f"{limit.policy.quota} {limit.policy.name} in {limit.policy.window_s} s" for limit in exceeded)
        detail = f"your tier allows {said}; try again when the window ends, or ask for another tier"
        super().__init__(detail, retry_after_s=max(limit.reset_s for limit in exceeded))


class RateLimits:
    """Counts of all tenants. Without Redis each edge counts by itself, so a tenant may use a quota at each of them."""

    def __init__(self, counters: RedisTier, clock: Callable[[], float] = time.time) -> None:
        self._counters = counters
        self._clock = clock
        self._circuit = Circuit(time.monotonic)
        self._local: dict[str, int] = {}

    async def count(self, access: Access, *, is_order: bool, times: int = 1) -> list[Limit]:
        """Count a request, as `times` of them, and return where the tenant stands; empty for an unlimited tier.

        A limit whose count is above its quota was exceeded by this request.
        """
        policies = [p for p in POLICIES[access.tier].values() if is_order or p.name != "orders"]
        return await self._count_all(access, policies, times)

    async def count_lines(self, access: Access, lines: int) -> list[Limit]:
        """Count the lines of a batch, or with a negative number give them back; returns as `count` does."""
        return await self._count_all(access, LINE_POLICIES[access.tier], lines)

    async def _count_all(self, access: Access, policies: Sequence[Policy], times: int) -> list[Limit]:
        now = self._clock()
        return [await self._count(access.counted_as, policy, now, times) for policy in policies]

    async def _count(self, counted_as: str, policy: Policy, now: float, times: int) -> Limit:
        window, passed_s = divmod(now, policy.window_s)
        key = f"{counted_as}:{policy.name}:{window:.0f}"
        # Both count: when Redis goes away in the middle of a window, what this edge let in already is not forgotten.
        here = self._count_here(key, times)
        there = await self._count_there(key, policy.window_s, times)
        return Limit(policy=policy, count=max(here, there), reset_s=math.ceil(policy.window_s - passed_s))

    async def _count_there(self, key: str, window_s: int, times: int) -> int:
        if not self._circuit.admit():
            return 0
        try:
            count = await self._counters.increment(key, ttl_s=window_s, by=times)
        except Unavailable:
            self._circuit.fail()
            return 0
        self._circuit.succeed()
        return count

    def _count_here(self, key: str, times: int) -> int:
        if len(self._local) >= LOCAL_COUNTS_MAX:
            self._local.clear()
        self._local[key] = count = self._local.get(key, 0) + times
        return count


def find_exceeded(stands: list[Limit]) -> list[Limit]:
    """Return those of the limits that were exceeded."""
    return [limit for limit in stands if limit.count > limit.policy.quota]


def limit_headers(limits: list[Limit]) -> list[tuple[bytes, bytes]]:
    """Return the two header fields; none without limits."""
    if not limits:
        return []
    policies = ", ".join(f'"{x.policy.name}";q={x.policy.quota};w={x.policy.window_s}' for x in limits)
    state = ", ".join(f'"{x.policy.name}";r={x.remaining};t={x.reset_s}' for x in limits)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", state.encode())]
