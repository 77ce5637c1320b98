"""Rate limits count per tenant and policy in windows, whether or not Redis is there."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest

from halfdrop.cache.regional import open_redis_tier
from halfdrop.edge.access import Access
from halfdrop.edge.limits import POLICIES, QuotaExceeded, RateLimits, find_exceeded, limit_headers
from halfdrop.edge.problems import QUOTA_EXCEEDED, problem_of

NOWHERE = "redis://127.0.0.1:1"


class Hand:
    """A clock that is set by hand."""

    now = 7_200.0

    def __call__(self) -> float:
        return self.now


def of(tenant: str, tier: str = "standard") -> Access:
    return msgspec.convert({"tenant": tenant, "scopes": ["orders"], "tier": tier}, Access)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
async def limits(hand: Hand) -> AsyncIterator[RateLimits]:
    """Limits whose Redis is away."""
    async with aclosing(open_redis_tier(NOWHERE)) as counters:
        yield RateLimits(counters, hand)


async def test_a_window_fills_and_the_next_one_is_empty(limits: RateLimits, hand: Hand) -> None:
    quota = POLICIES["standard"]["orders"].quota
    for number in range(1, quota + 2):
        [_, orders] = await limits.count(of("acme"), is_order=True)
        assert (orders.count, orders.remaining) == (number, max(0, quota - number))
    [_, others] = await limits.count(of("other"), is_order=True)
    assert others.count == 1
    hand.now += 3_599.5
    [_, orders] = await limits.count(of("acme"), is_order=True)
    assert (orders.remaining, orders.reset_s) == (0, 1)
    hand.now += 1
    [_, orders] = await limits.count(of("acme"), is_order=True)
    assert (orders.count, orders.reset_s) == (1, 3_600)


async def test_a_request_can_count_as_several(limits: RateLimits) -> None:
    [requests] = await limits.count(of("acme"), is_order=False, times=10)
    assert (requests.count, find_exceeded([requests])) == (10, [])
    [requests] = await limits.count(of("acme"), is_order=False, times=1_191)
    assert (requests.count, requests.remaining, find_exceeded([requests])) == (1_201, 0, [requests])


async def test_headers_have_the_form_of_the_draft(limits: RateLimits) -> None:
    stands = await limits.count(of("acme", "plus"), is_order=True)
    assert limit_headers(stands) == [
        (b"ratelimit-policy", b'"requests";q=12000;w=60, "orders";q=1200;w=3600'),
        (b"ratelimit", b'"requests";r=11999;t=60, "orders";r=1199;t=3600'),
    ]
    [requests] = await limits.count(of("acme", "plus"), is_order=False)
    assert requests.policy.name == "requests"


async def test_an_unlimited_tier_is_not_counted(limits: RateLimits) -> None:
    assert await limits.count(of("acme", "unlimited"), is_order=True) == []
    assert limit_headers([]) == []


async def test_the_problem_names_the_policies_that_were_violated(limits: RateLimits) -> None:
    stands = await limits.count(of("acme"), is_order=True)
    problem, headers = problem_of(QuotaExceeded(stands[1:], stands), "/v1/predictions")
    document = msgspec.to_builtins(problem)
    assert (problem.status, problem.type, headers["Retry-After"]) == (429, QUOTA_EXCEEDED, "3600")
    assert headers["ratelimit"] == '"requests";r=1199;t=60, "orders";r=119;t=3600'
    assert document["violated-policies"] == ("orders",)
