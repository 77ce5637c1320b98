"""What the cache says of a key that it has no value for: there is none, or nobody can tell; and what it owes."""

import asyncio

import pytest

from halfdrop.cache import missing, owed
from halfdrop.cache.guard import Absence
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.missing import MISSING_S, MissingKeys
from halfdrop.cache.tiered import Found, TieredCache
from halfdrop.contracts.errors import Unavailable

CAPACITY_BYTES = 2**20
PROBE_KEY = "probe"


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class RemoteTier(MemoryTier):
    """A real memory tier as a remote one: away on command, slow while `open` is clear, and it counts."""

    is_remote = True

    def __init__(self, name: str) -> None:
        super().__init__(CAPACITY_BYTES)
        self.name = name
        self.is_away = False
        self.open = asyncio.Event()
        self.open.set()
        self.gets = 0
        self.puts: list[str] = []

    async def get(self, key: str) -> bytes | None:
        self.gets += 1
        if self.is_away:
            raise Unavailable("away")
        found = await super().get(key)
        await self.open.wait()
        return found

    async def put(self, key: str, data: bytes) -> None:
        if self.is_away:
            raise Unavailable("away")
        self.puts.append(key)
        await super().put(key, data)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_miss_is_a_fact_and_an_outage_of_the_slowest_tier_is_none(clock: ManualClock) -> None:
    near, truth = RemoteTier("near"), RemoteTier("truth")
    async with TieredCache([MemoryTier(CAPACITY_BYTES), near, truth], clock) as cache:
        assert await cache.look("key") is Absence.MISS
        truth.is_away = True
        assert await cache.look("other") is Absence.OUTAGE
        assert await cache.look("third") is Absence.OUTAGE  # it is left alone now, which is no miss either
        truth.is_away, near.is_away = False, True
        clock.now_s += 100.0
        assert await cache.look("other") is Absence.MISS  # what may forget need not be asked


async def test_a_flood_of_an_unknown_key_asks_the_slower_tiers_once_in_a_while(clock: ManualClock) -> None:
    near, truth = RemoteTier("near"), RemoteTier("truth")
    async with TieredCache([near, truth], clock) as cache:
        for _ in range(50):
            assert await cache.look("unknown") is Absence.MISS
        assert (near.gets, truth.gets, cache.stats().spared) == (1, 1, 49)
        clock.now_s += MISSING_S
        await cache.look("unknown")
        assert truth.gets == 2


async def test_an_outage_is_never_remembered_as_a_miss(clock: ManualClock) -> None:
    truth = RemoteTier("truth")
    await truth.put("key", b"data")
    truth.is_away = True
    async with TieredCache([truth], clock) as cache:
        assert await cache.look("key") is Absence.OUTAGE
        truth.is_away = False
        await cache.probe(PROBE_KEY)
        assert await cache.get("key") == Found(data=b"data", tier_name="truth", is_remote=True)


async def test_a_put_overrides_what_was_missing_also_while_it_is_looked_for(clock: ManualClock) -> None:
    truth = RemoteTier("truth")
    async with TieredCache([truth], clock) as cache:
        assert await cache.look("key") is Absence.MISS
        await cache.put("key", b"data")
        await cache.drain()
        assert isinstance(await cache.look("key"), Found)
        truth.open.clear()
        looking = asyncio.create_task(cache.look("late"))  # has read that there is none, and has not said so yet
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await cache.keep("late", b"data")
        truth.open.set()
        assert await looking is Absence.MISS
        assert isinstance(await cache.look("late"), Found)


def test_missing_keys_are_bounded(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(missing, "MISSING_MAX", 3)
    keys = MissingKeys(clock)
    for n in range(5):
        keys.note(f"key{n}")
    assert [keys.knows(f"key{n}") for n in range(5)] == [False, False, True, True, True]


async def test_what_the_slowest_tier_was_away_for_it_gets_when_it_is_back_in_order(clock: ManualClock) -> None:
    truth = RemoteTier("truth")
    async with TieredCache([MemoryTier(CAPACITY_BYTES), truth], clock) as cache:
        assert await cache.keep("before", b"data")
        truth.is_away = True
        for key in ("spec", "plates"):
            assert not await cache.keep(key, key.encode())
        await cache.probe(PROBE_KEY)
        assert (cache.stats().owed, cache.stats().tiers[1].is_away) == (2, True)
        truth.is_away = False
        await cache.probe(PROBE_KEY)
        assert (cache.stats().owed, cache.stats().tiers[1].is_away) == (0, False)
        assert [await truth.get(key) for key in ("spec", "plates")] == [b"spec", b"plates"]
        assert truth.puts == ["before", "spec", "plates"]  # where there are plates there is a spec


async def test_what_is_owed_and_forgotten_is_counted_as_lost(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.setattr(owed, "OWED_MAX", 2)
    memory, truth = MemoryTier(CAPACITY_BYTES), RemoteTier("truth")
    truth.is_away = True
    async with TieredCache([memory, truth], clock) as cache:
        for n in range(3):
            await cache.keep(f"key{n}", b"data")
        assert (cache.stats().owed, cache.stats().owed_lost) == (2, 1)
        await memory.delete("key1")
        truth.is_away = False
        await cache.probe(PROBE_KEY)
        assert (cache.stats().owed, cache.stats().owed_lost) == (0, 2)
        assert await truth.get("key2") == b"data"


async def test_probing_spares_the_callers_an_outage_and_ends_it_at_once(clock: ManualClock) -> None:
    truth = RemoteTier("truth")
    truth.is_away = True
    async with TieredCache([truth], clock) as cache:
        await cache.probe(PROBE_KEY)
        asked = truth.gets
        for n in range(20):
            clock.now_s += 1.0
            await cache.probe(PROBE_KEY)
            assert await cache.look(f"key{n}") is Absence.OUTAGE
        assert truth.gets == asked + 20  # the probes alone
        truth.is_away = False
        await cache.probe(PROBE_KEY)
        assert await cache.look("key") is Absence.MISS
