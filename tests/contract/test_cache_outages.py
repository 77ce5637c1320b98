"""The tiered cache on real tiers while they are killed, frozen, deleted and written over: slower, never wrong."""

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import lmdb
import pytest
from redis.asyncio import Redis

from halfdrop.cache.disk import open_lmdb_tier
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.objects import ObjectTier
from halfdrop.cache.regional import PREFIX, open_redis_tier
from halfdrop.cache.tiered import FILL, TieredCache
from halfdrop.cache.tiers import Tier
from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.deploy.servers import ValkeyServer
from halfdrop.runtime.objects import open_objects

WaitUntil = Callable[..., Awaitable[None]]

CAPACITY_BYTES = 8 * 2**20


class ManualClock:
    """Time that passes when told to, so that a pause after a failure takes none."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def path_of(key: str) -> str:
    return f"patterns/{key}.webp"


def content(key: str) -> bytes:
    return key.encode() * 1000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(valkey.url)
    yield client
    await client.aclose()


def all_tiers(tmp_path: Path, valkey: ValkeyServer, objects_url: str) -> list[Tier]:
    return [
        MemoryTier(CAPACITY_BYTES),
        open_lmdb_tier(tmp_path / "lmdb", capacity_bytes=CAPACITY_BYTES),
        open_redis_tier(valkey.url),
        ObjectTier(open_objects(objects_url), path_of=path_of),
    ]


async def found_in(cache: TieredCache, key: str) -> str | None:
    found = await cache.get(key)
    assert found is None or found.data == content(key)
    return None if found is None else found.tier_name


async def test_a_value_found_in_the_slowest_tier_fills_all_faster_ones(
    tmp_path: Path, valkey: ValkeyServer, objects_url: str
) -> None:
    await ObjectTier(open_objects(objects_url), path_of=path_of).put("key", content("key"))
    async with TieredCache(tiers := all_tiers(tmp_path, valkey, objects_url)) as cache:
        assert await found_in(cache, "key") == "objects"
        await cache.drain()
        assert [await tier.get("key") for tier in tiers] == [content("key")] * 4
        assert await found_in(cache, "key") == "memory"


async def test_what_one_edge_made_another_finds_in_redis(valkey: ValkeyServer) -> None:
    async with TieredCache([MemoryTier(CAPACITY_BYTES), open_redis_tier(valkey.url)]) as first:
        await first.put("key", content("key"))  # written to Redis at the latest when the cache closes
    async with TieredCache([MemoryTier(CAPACITY_BYTES), open_redis_tier(valkey.url)]) as second:
        assert await found_in(second, "key") == "redis"


async def test_local_values_outlive_a_restart(tmp_path: Path) -> None:
    for expected in (FILL, "lmdb", "lmdb"):
        async with TieredCache([MemoryTier(CAPACITY_BYTES), open_lmdb_tier(tmp_path / "lmdb")]) as cache:
            assert (await cache.get_or_fill("key", _made("key"))).tier_name == expected


async def test_redis_killed_midway_costs_only_time_and_is_used_again_after_its_return(
    valkey: ValkeyServer, objects_url: str, clock: ManualClock
) -> None:
    objects = ObjectTier(open_objects(objects_url), path_of=path_of)
    for n in range(40):
        await objects.put(f"key{n}", content(f"key{n}"))
    tiers: list[Tier] = [open_redis_tier(valkey.url), objects]
    async with TieredCache(tiers, clock) as cache:
        for n in range(20):
            assert await found_in(cache, f"key{n}") == "objects"
        await cache.drain()
        assert await found_in(cache, "key0") == "redis"
        await valkey.kill()
        for n in range(40):
            assert await found_in(cache, f"key{n}") == "objects"
        redis_stats = cache.stats().tiers[0]
        assert redis_stats.is_away
        assert redis_stats.errors <= 2  # one read and one write; the rest was left out
        assert redis_stats.skips >= 38
        await cache.drain()
        await valkey.start()
        clock.now_s += 60.0
        assert await found_in(cache, "key30") == "objects"
        await cache.drain()
        assert await found_in(cache, "key30") == "redis"
        assert not cache.stats().tiers[0].is_away


async def test_a_frozen_redis_is_given_up_within_its_time_limit_and_answers_right_when_thawed(
    valkey: ValkeyServer,
) -> None:
    tier = open_redis_tier(valkey.url, timeout_s=0.1)
    for key in ("a", "b"):
        await tier.put(key, content(key))
    valkey.process.signal(signal.SIGSTOP)
    with pytest.raises(Unavailable, match="redis"):
        await tier.get("a")
    valkey.process.signal(signal.SIGCONT)
    # The late answer for "a" must not be taken for that of "b".
    assert await tier.get("b") == content("b")
    await tier.aclose()


async def test_a_value_changed_or_moved_in_redis_is_a_miss(valkey: ValkeyServer, redis: Redis) -> None:
    tier = open_redis_tier(valkey.url)
    await tier.put("key", content("key"))
    stored = await redis.get(PREFIX + "key")
    assert isinstance(stored, bytes)
    for planted in (b"", b"short", stored[:-1], stored[:20] + b"!" + stored[21:], content("key")):
        await redis.set(PREFIX + "key", planted)
        assert await tier.get("key") is None
    await redis.set(PREFIX + "other", stored)
    assert await tier.get("other") is None
    await tier.aclose()


async def test_a_damaged_value_is_replaced_by_the_one_from_the_next_tier(
    valkey: ValkeyServer, redis: Redis, objects_url: str
) -> None:
    tiers: list[Tier] = [open_redis_tier(valkey.url), ObjectTier(open_objects(objects_url), path_of=path_of)]
    async with TieredCache(tiers) as cache:
        await cache.put("key", content("key"))
        await cache.drain()
        await redis.set(PREFIX + "key", b"planted")
        assert await found_in(cache, "key") == "objects"
        await cache.drain()
        assert await found_in(cache, "key") == "redis"


async def test_a_redis_value_expires_after_its_time(valkey: ValkeyServer, redis: Redis) -> None:
    tier = open_redis_tier(valkey.url, ttl_s=1000)
    await tier.put("key", b"data")
    assert 990 <= await redis.ttl(PREFIX + "key") <= 1000
    await tier.aclose()


async def test_lmdbs_directory_removed_midway_costs_nothing_until_the_restart(tmp_path: Path) -> None:
    directory = tmp_path / "lmdb"
    async with TieredCache([open_lmdb_tier(directory)]) as cache:
        await cache.put("before", content("before"))
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
        await cache.put("after", content("after"))
        assert await found_in(cache, "before") == "lmdb"
        assert await found_in(cache, "after") == "lmdb"
    async with TieredCache([open_lmdb_tier(directory)]) as cache:
        assert await found_in(cache, "before") is None
        assert (await cache.get_or_fill("before", _made("before"))).data == content("before")


async def test_bytes_planted_in_lmdb_are_a_miss(tmp_path: Path) -> None:
    directory = tmp_path / "lmdb"
    tier = open_lmdb_tier(directory)
    await tier.put("key", content("key"))
    await tier.put("other", content("other"))
    await tier.aclose()
    with lmdb.Environment(str(directory), max_dbs=2) as env, env.begin(write=True) as txn:
        values = env.open_db(b"values", txn=txn)
        stored = txn.get(b"key", db=values)
        assert isinstance(stored, bytes)
        txn.put(b"other", stored, db=values)
        txn.put(b"key", stored[:-1] + b"!", db=values)
    tier = open_lmdb_tier(directory)
    assert await tier.get("key") is None
    assert await tier.get("other") is None
    await tier.aclose()


async def test_with_every_tier_away_values_are_still_made(valkey: ValkeyServer, clock: ManualClock) -> None:
    async with TieredCache([open_redis_tier(valkey.url)], clock) as cache:
        await valkey.kill()
        for n in range(5):
            assert (await cache.get_or_fill(f"key{n}", _made(f"key{n}"))).data == content(f"key{n}")
        assert cache.stats().fills == 5


async def test_an_object_store_that_never_answers_is_given_up_within_its_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connections, nobody reads them
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")
        for name, value in {"ALLOW_HTTP": "true", "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        tier = ObjectTier(open_objects("s3://patterns"), path_of=path_of, timeout_s=0.1)
        for call in (tier.get("key"), tier.put("key", b"data"), tier.delete("key")):
            with pytest.raises(Unavailable, match=r"within 0\.1 s"):
                await call


async def test_keys_without_a_path_stay_out_of_the_object_store(objects_url: str) -> None:
    objects = open_objects(objects_url)
    tier = ObjectTier(objects, path_of={"plates/1": "patterns/1"}.get)
    for key in ("plates/1", "elsewhere/1"):
        await tier.put(key, b"data")
    assert await tier.get("elsewhere/1") is None
    await tier.delete("elsewhere/1")
    assert await objects.list("patterns") == ["patterns/1"]


def test_a_redis_url_that_names_no_server_is_refused() -> None:
    with pytest.raises(PermanentError) as caught:
        open_redis_tier("http://localhost")
    assert caught.value.code == "bad-redis-url"


def _made(key: str) -> Callable[[], Awaitable[bytes]]:
    async def make() -> bytes:
        return content(key)

    return make
