"""The tiered cache over tiers that fail, hang and lie on command: what it answers, asks, writes, counts and logs."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from halfdrop.cache import tiered, writes
from halfdrop.cache.guard import LOG_EVERY_S
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.tiered import FILL, TieredCache
from halfdrop.contracts.errors import Overloaded, Unavailable

CAPACITY_BYTES = 2**20


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FaultyTier(MemoryTier):
    """A real memory tier that fails while `fault` is set, waits while `open` is clear, and counts its calls."""

    def __init__(self, name: str = "remote", *, is_remote: bool = True) -> None:
        super().__init__(CAPACITY_BYTES)
        self.name = name
        self.is_remote = is_remote
        self.fault: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.gets = 0
        self.puts = 0
        self.is_closed = False

    async def get(self, key: str) -> bytes | None:
        self.gets += 1
        await self._pass()
        return await super().get(key)

    async def put(self, key: str, data: bytes) -> None:
        self.puts += 1
        await self._pass()
        await super().put(key, data)

    async def aclose(self) -> None:
        self.is_closed = True

    async def _pass(self) -> None:
        if self.is_remote:
            await asyncio.sleep(0)
            await self.open.wait()
        if self.fault is not None:
            raise self.fault


def content(key: str) -> bytes:
    return key.encode() * 10


def making(key: str, made: list[str]) -> Callable[[], Awaitable[bytes]]:
    async def make() -> bytes:
        made.append(key)
        await asyncio.sleep(0.01)
        return content(key)

    return make


async def test_a_hundred_concurrent_callers_make_a_value_once_and_ask_each_remote_tier_once() -> None:
    remote, made = FaultyTier(), list[str]()
    async with TieredCache([MemoryTier(CAPACITY_BYTES), remote]) as cache:
        found = await asyncio.gather(*(cache.get_or_fill("key", making("key", made)) for _ in range(100)))
        assert {(each.data, each.tier_name) for each in found} == {(content("key"), FILL)}
        assert (made, remote.gets, cache.stats().fills) == (["key"], 1, 1)
        assert (await cache.get_or_fill("key", making("key", made))).tier_name == "memory"


async def test_a_hundred_concurrent_readers_ask_a_remote_tier_once() -> None:
    remote = FaultyTier()
    await remote.put("key", content("key"))
    async with TieredCache([MemoryTier(CAPACITY_BYTES), remote]) as cache:
        found = await asyncio.gather(*(cache.get("key") for _ in range(100)))
        assert {each and each.tier_name for each in found} == {"remote"}
        assert remote.gets == 1


async def test_a_value_found_in_a_slower_local_tier_is_in_the_faster_one_from_then_on() -> None:
    memory, disk = MemoryTier(CAPACITY_BYTES), FaultyTier("disk", is_remote=False)
    await disk.put("key", content("key"))
    async with TieredCache([memory, disk]) as cache:
        found = [await cache.get("key"), await cache.get_or_fill("key", making("key", []))]
    assert [each and each.tier_name for each in found] == ["disk", "memory"]


async def test_a_failing_fill_reaches_every_caller_stores_nothing_and_is_tried_again() -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0.01)
        raise Overloaded("queue full", retry_after_s=3.0)

    async with TieredCache([MemoryTier(CAPACITY_BYTES)]) as cache:
        outcomes = await asyncio.gather(*(cache.get_or_fill("key", fail) for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Overloaded] * 5
        assert await cache.get("key") is None
        assert (await cache.get_or_fill("key", making("key", []))).data == content("key")


async def test_a_caller_that_gives_up_leaves_the_fill_to_the_others() -> None:
    made = list[str]()
    async with TieredCache([MemoryTier(CAPACITY_BYTES), FaultyTier()]) as cache:
        first, second = (asyncio.create_task(cache.get_or_fill("key", making("key", made))) for _ in range(2))
        await asyncio.sleep(0.005)
        first.cancel()
        assert (await second).data == content("key")
        assert made == ["key"]


async def test_a_put_is_local_at_once_and_remote_soon_after() -> None:
    memory, remote = MemoryTier(CAPACITY_BYTES), FaultyTier()
    remote.open.clear()
    async with TieredCache([memory, remote]) as cache:
        await cache.put("key", content("key"))  # does not wait for the remote tier
        assert memory.peek("key") == content("key")
        assert remote.peek("key") is None
        remote.open.set()
        await cache.drain()
        assert remote.peek("key") == content("key")


@pytest.mark.parametrize("fault", [Unavailable("away"), RuntimeError("a bug in a client library")])
@pytest.mark.parametrize("is_remote", [False, True])
async def test_a_failing_tier_never_fails_an_answer(fault: Exception, is_remote: bool) -> None:
    faulty = FaultyTier(is_remote=is_remote)
    faulty.fault = fault
    async with TieredCache([faulty]) as cache:
        assert await cache.get("key") is None
        assert (await cache.get_or_fill("key", making("key", []))).data == content("key")
        await cache.put("key", content("key"))
        await cache.drain()
        assert cache.stats().tiers[0].is_away


async def test_a_failing_tier_is_left_alone_for_a_while_and_then_tried_by_one() -> None:
    clock, remote = ManualClock(), FaultyTier()
    remote.fault = Unavailable("away")
    async with TieredCache([remote], clock) as cache:
        for n in range(10):
            await cache.get(f"key{n}")
        assert remote.gets == 1
        clock.now_s += 100.0
        remote.fault = None
        remote.open.clear()
        readers = [asyncio.create_task(cache.get(f"key{n}")) for n in range(10)]
        await asyncio.sleep(0.01)
        assert remote.gets == 2  # the others do without until the first has tried
        remote.open.set()
        await asyncio.gather(*readers)
        stats = cache.stats().tiers[0]
        assert (stats.errors, stats.skips, stats.misses, stats.is_away) == (1, 18, 1, False)


async def test_a_tier_that_cannot_write_still_reads() -> None:
    full = FaultyTier()
    await full.put("old", content("old"))
    async with TieredCache([MemoryTier(CAPACITY_BYTES), full]) as cache:
        full.fault = Unavailable("disk full")
        await cache.put("new", content("new"))
        await cache.drain()
        full.fault = None
        found = await cache.get("old")
        assert found is not None
        assert found.tier_name == "remote"


async def test_failures_are_logged_once_in_a_while_with_their_number() -> None:
    clock, remote = ManualClock(), FaultyTier()
    remote.fault = Unavailable("away")
    async with TieredCache([remote], clock) as cache:
        with capture_logs() as logs:
            await cache.get("key")
            for _ in range(3):
                clock.now_s += LOG_EVERY_S
                await cache.get("key")
                clock.now_s += LOG_EVERY_S * 0.99
                await cache.get("key")
    lines = [(line["tier"], line["error"], line["failures"]) for line in logs]
    assert lines == [("remote", "away", 1), ("remote", "away", 1), ("remote", "away", 2), ("remote", "away", 2)]


async def test_hits_and_misses_are_counted_per_tier_fastest_first() -> None:
    remote = FaultyTier()
    await remote.put("remote", content("remote"))
    async with TieredCache([MemoryTier(CAPACITY_BYTES), remote]) as cache:
        for key in ("remote", "remote", "unknown"):
            await cache.get(key)
        counts = [(tier.name, tier.hits, tier.misses, tier.errors) for tier in cache.stats().tiers]
        assert counts == [("memory", 1, 2, 0), ("remote", 1, 1, 0)]


async def test_background_writes_are_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "QUEUE_BYTES_MAX", 10_000)
    remote = FaultyTier()
    remote.open.clear()
    async with TieredCache([remote]) as cache:
        for n in range(writes.QUEUE_MAX + writes.WRITERS + 10):
            await cache.put(f"key{n}", b"1")
            await asyncio.sleep(0)
        assert cache.stats().dropped_writes == 10
        remote.open.set()
        await cache.drain()
        for n in range(8):
            await cache.put(f"large{n}", bytes(4000))
            await cache.drain()
        assert cache.stats().dropped_writes == 10  # what is written leaves room for more
        for n in range(3):
            await cache.put(f"large{n}", bytes(4000))
        assert cache.stats().dropped_writes == 11


async def test_closing_finishes_the_queued_writes_and_closes_every_tier() -> None:
    tiers = [FaultyTier("first"), FaultyTier("second")]
    async with TieredCache(tiers) as cache:
        for n in range(50):
            await cache.put(f"key{n}", content(f"key{n}"))
    assert [tier.puts for tier in tiers] == [50, 50]
    assert all(tier.is_closed for tier in tiers)


async def test_a_tier_that_hangs_holds_up_closing_for_its_grace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiered, "CLOSE_GRACE_S", 0.05)
    remote = FaultyTier()
    remote.open.clear()
    async with asyncio.timeout(2.0):
        async with TieredCache([remote]) as cache:
            for n in range(20):
                await cache.put(f"key{n}", b"data")
    assert remote.is_closed
    assert cache.stats().dropped_writes == 20 - writes.WRITERS


async def test_closing_ends_fills_that_are_under_way() -> None:
    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    async with TieredCache([MemoryTier(CAPACITY_BYTES)]) as cache:
        waiting = asyncio.create_task(cache.get_or_fill("key", never))
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await waiting


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["get", "fill", "put", "break", "mend", "lose", "wait"]),
        st.integers(0, 2),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_whatever_fails_in_whatever_order_an_answer_is_the_right_bytes_or_none(
    steps: list[tuple[str, int, str]],
) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[tuple[str, int, str]]) -> None:
    clock = ManualClock()
    tiers = [FaultyTier("near", is_remote=False), FaultyTier("region"), FaultyTier("far")]
    stored = set[str]()
    has_failed = False
    async with TieredCache(tiers, clock) as cache:
        for action, place, key in steps:
            match action:
                case "get":
                    found = await cache.get(key)
                    assert found is None or found.data == content(key)
                    assert found is None or key in stored
                    assert found is not None or key not in stored or has_failed
                case "fill":
                    assert (await cache.get_or_fill(key, making_at_once(key))).data == content(key)
                    stored.add(key)
                case "put":
                    await cache.put(key, content(key))
                    stored.add(key)
                case "break":
                    tiers[place].fault = Unavailable("away")
                    has_failed = True
                case "mend":
                    tiers[place].fault = None
                case "lose":
                    await tiers[place].delete(key)
                    has_failed = True
                case _:
                    clock.now_s += 1.0
                    await cache.drain()


def making_at_once(key: str) -> Callable[[], Awaitable[bytes]]:
    async def make() -> bytes:
        return content(key)

    return make
