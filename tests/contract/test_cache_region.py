"""Edges that share a Redis: one flight per key for all, and what one forgets all forget, also while Redis is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from halfdrop.cache.disk import open_lmdb_tier
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.regional import open_redis_tier
from halfdrop.cache.regional_flights import LEASE_S, RENEW_S
from halfdrop.cache.tiered import FILL, Region, TieredCache
from halfdrop.cache.tiers import Tier
from halfdrop.contracts.errors import Overloaded, Unavailable
from halfdrop.deploy.servers import ValkeyServer

WaitUntil = Callable[..., Awaitable[None]]

CAPACITY_BYTES = 2**20

HOLDER = """
import asyncio, sys
from halfdrop.cache.regional import open_redis_tier
from halfdrop.cache.tiered import Region, TieredCache

async def main(url):
    async def make():
        print("making", flush=True)
        await asyncio.Event().wait()
    tier = open_redis_tier(url)
    async with TieredCache([tier], region=Region(tier)) as cache:
        await cache.get_or_fill("key", make)

asyncio.run(main(sys.argv[1]))
"""


class Edge:
    """A cache of its own over the shared server."""

    def __init__(self, valkey: ValkeyServer, *more: Tier) -> None:
        self.memory = MemoryTier(CAPACITY_BYTES)
        tier = open_redis_tier(valkey.url)
        self.region = Region(tier)
        self.cache = TieredCache([self.memory, *more, tier], region=self.region)


@asynccontextmanager
async def edges(valkey: ValkeyServer, wait_until: WaitUntil) -> AsyncIterator[tuple[Edge, Edge]]:
    first, second = Edge(valkey), Edge(valkey)
    async with first.cache, second.cache:
        await wait_until(lambda: first.region.news.is_connected and second.region.news.is_connected)
        yield first, second


class Making:
    """Counts how often it is called and takes its time."""

    def __init__(self, takes_s: float = 0.05) -> None:
        self.count = 0
        self.takes_s = takes_s

    async def __call__(self) -> bytes:
        self.count += 1
        await asyncio.sleep(self.takes_s)
        return b"made"


async def test_a_thousand_requests_for_one_key_at_two_edges_make_it_once(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    make = Making()
    async with edges(valkey, wait_until) as (first, second):
        asked = [edge.cache.get_or_fill("key", make) for _ in range(500) for edge in (first, second)]
        found = await asyncio.gather(*asked)
        assert {each.data for each in found} == {b"made"}
        assert make.count == 1
        assert sorted({each.tier_name for each in found}) == [FILL, "redis"]
        assert first.cache.stats().shared_flights + second.cache.stats().shared_flights == 1


async def test_what_takes_longer_than_a_lease_is_still_made_once(valkey: ValkeyServer, wait_until: WaitUntil) -> None:
    make = Making(takes_s=LEASE_S + 2 * RENEW_S)
    async with edges(valkey, wait_until) as (first, second):
        await asyncio.gather(first.cache.get_or_fill("key", make), second.cache.get_or_fill("key", make))
    assert make.count == 1


async def test_a_waiting_edge_takes_over_when_the_holder_is_killed(valkey: ValkeyServer) -> None:
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, valkey.url), stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"making\n"
    make, edge = Making(takes_s=0), Edge(valkey)
    async with edge.cache:
        waiting = asyncio.create_task(edge.cache.get_or_fill("key", make))
        await asyncio.sleep(LEASE_S + RENEW_S)
        assert not waiting.done()  # as long as the holder lives it is waited for
        holder.kill()
        await holder.wait()
        async with asyncio.timeout(LEASE_S + 1.0):
            assert (await waiting).data == b"made"
    assert make.count == 1


async def test_a_holder_that_hangs_is_waited_for_only_so_long(
    valkey: ValkeyServer, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfdrop.cache.regional_flights.WAIT_MAX_S", 0.3)
    async with edges(valkey, wait_until) as (first, second):
        hanging = asyncio.create_task(first.cache.get_or_fill("key", Making(takes_s=60)))
        await wait_until(lambda: first.cache.stats().fills == 1)
        async with asyncio.timeout(2.0):
            assert (await second.cache.get_or_fill("key", Making())).tier_name == FILL
        assert second.region.flights.overtaken == 1
        hanging.cancel()


async def test_what_fails_at_one_edge_is_tried_by_the_next(valkey: ValkeyServer, wait_until: WaitUntil) -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0.05)
        raise Overloaded("queue full")

    async with edges(valkey, wait_until) as (first, second):
        failing = asyncio.create_task(first.cache.get_or_fill("key", fail))
        await wait_until(lambda: first.cache.stats().fills == 1)
        assert (await second.cache.get_or_fill("key", Making())).tier_name == FILL
        with pytest.raises(Overloaded):
            await failing


async def test_with_redis_killed_or_frozen_each_edge_makes_its_own_at_once(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    async with edges(valkey, wait_until) as (first, second):
        valkey.process.signal(signal.SIGSTOP)
        async with asyncio.timeout(2.0):
            assert (await first.cache.get_or_fill("frozen", Making())).data == b"made"
        await valkey.kill()
        make = Making()
        async with asyncio.timeout(2.0):
            await asyncio.gather(*(edge.cache.get_or_fill("killed", make) for edge in (first, second)))
        assert make.count == 2
        assert second.cache.stats().region_errors >= 1


async def test_redis_killed_while_a_value_is_made_costs_the_waiting_edge_time_only(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    make = Making(takes_s=0.3)
    async with edges(valkey, wait_until) as (first, second):
        asked = [asyncio.create_task(edge.cache.get_or_fill("key", make)) for edge in (first, second)]
        await asyncio.sleep(0.1)
        await valkey.kill()
        async with asyncio.timeout(3.0):
            assert [(await each).data for each in asked] == [b"made", b"made"]


async def test_an_invalidated_key_is_forgotten_by_all_tiers_of_all_edges(
    valkey: ValkeyServer, wait_until: WaitUntil, tmp_path: Path
) -> None:
    disk = open_lmdb_tier(tmp_path / "lmdb")
    first, second = Edge(valkey), Edge(valkey, disk)
    async with first.cache, second.cache:
        await wait_until(lambda: second.region.news.is_connected)
        for edge in (first, second):
            await edge.cache.put("key", b"data")
            await edge.cache.put("other", b"stays")
            await edge.cache.drain()  # a write still on its way from the second would bring the value back
        await first.cache.invalidate("key")
        await wait_until(lambda: second.memory.peek("key") is None)
        assert await disk.get("key") is None
        assert [await edge.cache.get("key") for edge in (first, second)] == [None, None]
        assert second.memory.peek("other") == b"stays"


async def test_what_was_read_before_an_invalidation_is_not_kept_after_it(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    async with edges(valkey, wait_until) as (first, second):
        making = asyncio.create_task(second.cache.get_or_fill("key", Making(takes_s=0.3)))
        await wait_until(lambda: second.cache.stats().fills == 1)
        await first.cache.invalidate("key")
        assert (await making).data == b"made"
        assert second.memory.peek("key") is None
        assert await first.cache.get("key") is None


async def test_memory_is_flushed_when_a_killed_redis_is_heard_again_and_news_flows_as_before(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    async with edges(valkey, wait_until) as (first, second):
        await valkey.kill()
        await second.cache.put("key", b"data")
        assert second.memory.peek("key") == b"data"  # away is no reason to forget
        await valkey.start()
        await wait_until(lambda: second.cache.stats().memory_flushes == 1)
        assert second.memory.peek("key") is None
        await wait_until(lambda: first.region.news.is_connected)
        await second.memory.put("key", b"data")
        await first.cache.invalidate("key")
        await wait_until(lambda: second.memory.peek("key") is None)


async def test_a_connection_that_went_silent_or_was_cut_also_ends_in_a_flush(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    async with edges(valkey, wait_until) as (_, second):
        async with Redis.from_url(valkey.url) as redis:
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await wait_until(lambda: second.cache.stats().memory_flushes == 1)
        valkey.process.signal(signal.SIGSTOP)
        await wait_until(lambda: not second.region.news.is_connected)
        valkey.process.signal(signal.SIGCONT)
        await wait_until(lambda: second.cache.stats().memory_flushes == 2)


async def test_an_invalidation_that_cannot_be_told_is_an_error(valkey: ValkeyServer, wait_until: WaitUntil) -> None:
    async with edges(valkey, wait_until) as (first, _):
        await valkey.kill()
        with pytest.raises(Unavailable):
            await first.cache.invalidate("key")
