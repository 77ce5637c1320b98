"""Wrong bytes in every tier that keeps bytes outside this process: each is a miss, counted, and written anew."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import lmdb
import pytest
from redis.asyncio import Redis

from halfdrop.cache.disk import open_lmdb_tier
from halfdrop.cache.guard import Absence
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.objects import ObjectTier
from halfdrop.cache.regional import PREFIX, open_redis_tier
from halfdrop.cache.tiered import FILL, Found, Region, TieredCache
from halfdrop.cache.tiers import Tier
from halfdrop.deploy.servers import ValkeyServer
from halfdrop.runtime.objects import open_objects

WaitUntil = Callable[..., Awaitable[None]]
Damage = Callable[[bytes, bytes], bytes]

CAPACITY_BYTES = 8 * 2**20

DAMAGES: dict[str, Damage] = {
    "truncated": lambda stored, _: stored[:-1],
    "cut in half": lambda stored, _: stored[: len(stored) // 2],
    "empty": lambda stored, _: b"",
    "first bit flipped": lambda stored, _: bytes([stored[0] ^ 1]) + stored[1:],
    "a middle bit flipped": lambda stored, _: _flip(stored, len(stored) // 2),
    "last bit flipped": lambda stored, _: _flip(stored, len(stored) - 1),
    "longer": lambda stored, _: stored + b"\0",
    "another key's": lambda _, other: other,
}


def _flip(stored: bytes, place: int) -> bytes:
    return stored[:place] + bytes([stored[place] ^ 0x10]) + stored[place + 1 :]


def path_of(key: str) -> str:
    return f"patterns/{key}.webp"


def content(key: str) -> bytes:
    return key.encode() * 1000


async def make(key: str) -> bytes:
    return content(key)


async def damage_lmdb(directory: Path, damage: Damage) -> None:
    with lmdb.Environment(str(directory), max_dbs=2) as env, env.begin(write=True) as txn:
        values = env.open_db(b"values", txn=txn)
        stored, other = txn.get(b"key", db=values), txn.get(b"other", db=values)
        assert isinstance(stored, bytes)
        assert isinstance(other, bytes)
        # The first eight bytes are the file's own order number.
        txn.put(b"key", stored[:8] + damage(stored[8:], other[8:]), db=values)


async def damage_redis(valkey: ValkeyServer, damage: Damage) -> None:
    async with Redis.from_url(valkey.url) as redis:
        stored, other = await redis.get(PREFIX + "key"), await redis.get(PREFIX + "other")
        assert isinstance(stored, bytes)
        assert isinstance(other, bytes)
        await redis.set(PREFIX + "key", damage(stored, other))


async def damage_objects(objects_url: str, damage: Damage) -> None:
    objects = open_objects(objects_url)
    stored, other = await objects.get(path_of("key")), await objects.get(path_of("other"))
    assert stored is not None
    assert other is not None
    await objects.put(path_of("key"), damage(stored, other))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_wrong_bytes_are_never_served_and_are_written_anew(
    tmp_path: Path, valkey: ValkeyServer, objects_url: str, damage: Damage
) -> None:
    def tiers(*names: str) -> list[Tier]:
        every: dict[str, Tier] = {
            "lmdb": open_lmdb_tier(tmp_path / "lmdb", capacity_bytes=CAPACITY_BYTES),
            "redis": open_redis_tier(valkey.url),
            "objects": ObjectTier(open_objects(objects_url), path_of=path_of),
        }
        return [tier for name, tier in every.items() if name in names]

    async with TieredCache(tiers("lmdb", "redis", "objects")) as cache:
        for key in ("key", "other"):
            await cache.keep(key, content(key))
    await damage_lmdb(tmp_path / "lmdb", damage)
    await damage_redis(valkey, damage)
    async with TieredCache(tiers("lmdb", "redis", "objects")) as cache:
        assert await cache.look("key") == Found(data=content("key"), tier_name="objects", is_remote=True)
        assert [tier.damaged for tier in cache.stats().tiers] == [1, 1, 0]
        assert await cache.look("key") == Found(data=content("key"), tier_name="lmdb")
    async with TieredCache(tiers("redis", "objects")) as cache:
        assert await cache.look("key") == Found(data=content("key"), tier_name="redis", is_remote=True)
    await damage_objects(objects_url, damage)
    async with TieredCache(tiers("objects")) as cache:
        assert await cache.look("key") is Absence.MISS
        assert cache.stats().tiers[0].damaged == 1
        assert await cache.get_or_fill("key", lambda: make("key")) == Found(data=content("key"), tier_name=FILL)
    async with TieredCache(tiers("objects")) as cache:
        assert await cache.look("key") == Found(data=content("key"), tier_name="objects", is_remote=True)


async def test_what_another_edge_puts_is_no_longer_missing_here_at_once(
    valkey: ValkeyServer, objects_url: str, wait_until: WaitUntil
) -> None:
    first, second = _edge(valkey, objects_url), _edge(valkey, objects_url)
    async with first[0] as one, second[0] as two:
        await wait_until(lambda: first[1].news.is_connected and second[1].news.is_connected)
        assert await two.look("key") is Absence.MISS
        assert await two.look("key") is Absence.MISS
        assert two.stats().spared == 1
        await one.keep("key", content("key"))
        # Far sooner than the entry would have ended by itself.
        await wait_until(lambda: not two._missing.knows("key"), timeout_s=2.0)
        found = await two.look("key")
        assert isinstance(found, Found)
        assert found.data == content("key")


async def test_a_disk_that_was_deaf_to_an_invalidation_is_emptied_when_it_hears_again(
    tmp_path: Path, valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    directory = tmp_path / "lmdb"

    def deaf() -> tuple[TieredCache, Region]:
        tier = open_redis_tier(valkey.url)
        region = Region(tier, heard_path=directory / "region-heard")
        disk = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
        return TieredCache([MemoryTier(CAPACITY_BYTES), disk, tier], region=region), region

    cache, region = deaf()
    async with cache:
        await wait_until(lambda: region.news.is_connected)
        await cache.put("key", content("key"))
    cache, region = deaf()
    async with cache:  # nothing was invalidated meanwhile: the disk is as it was, and worth its name
        await wait_until(lambda: region.news.is_connected)
        assert await cache.look("key") == Found(data=content("key"), tier_name="lmdb")
        assert cache.stats().memory_flushes == 0
    async with _edge(valkey, (tmp_path / "elsewhere").as_uri())[0] as other:
        await other.invalidate("key")
    os.kill(valkey.process.pid, signal.SIGSTOP)  # it starts while Redis is away
    cache, region = deaf()
    async with cache:
        await wait_until(lambda: cache.stats().region_errors > 0 or not region.news.is_connected)
        assert await cache.look("key") == Found(data=content("key"), tier_name="lmdb")  # it cannot know yet
        os.kill(valkey.process.pid, signal.SIGCONT)
        await wait_until(lambda: cache.stats().memory_flushes == 1)
        assert await cache.get("key") is None
        await cache.put("key", content("key"))
    cache, region = deaf()
    async with cache:  # it has caught up: once is enough
        await wait_until(lambda: region.news.is_connected)
        assert await cache.look("key") == Found(data=content("key"), tier_name="lmdb")


async def test_an_edge_that_starts_while_redis_is_away_flushes_when_it_hears_the_region_first(
    valkey: ValkeyServer, wait_until: WaitUntil
) -> None:
    await valkey.kill()
    memory, tier = MemoryTier(CAPACITY_BYTES), open_redis_tier(valkey.url)
    region = Region(tier)
    async with TieredCache([memory, tier], region=region) as cache:
        await cache.put("key", content("key"))
        await wait_until(lambda: cache.stats().tiers[1].is_away)
        assert memory.peek("key") is not None
        await valkey.start()
        await wait_until(lambda: region.news.is_connected)
        assert cache.stats().memory_flushes == 1
        assert memory.peek("key") is None


def _edge(valkey: ValkeyServer, objects_url: str) -> tuple[TieredCache, Region]:
    tier = open_redis_tier(valkey.url)
    region = Region(tier)
    objects = ObjectTier(open_objects(objects_url), path_of=path_of)
    return TieredCache([MemoryTier(CAPACITY_BYTES), tier, objects], region=region), region
