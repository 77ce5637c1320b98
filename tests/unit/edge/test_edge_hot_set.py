"""The hot set: merged from what edges say, bounded in everything, fetched when there is nothing better to do."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.tiered import TieredCache
from halfdrop.contracts.popularity import HOT_KEYS_MAX, HotReport, decode_hot_report, encode_hot_report
from halfdrop.edge.hot_set import HALF_LIFE_S, REPORT_KEPT_S, HotSet
from halfdrop.edge.names import plates_key
from halfdrop.edge.picture_files import PictureForm
from halfdrop.edge.previewer import DrawingQueue
from halfdrop.edge.shelf import READ_MAX_S, Shelf
from halfdrop.runtime.bandwidth import Bandwidth


def key(number: int, tenant: str = "") -> str:
    return f"{tenant}{number:032x}/256"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class RemoteTier:
    """Bytes behind what counts as a network."""

    name, is_remote = "redis", True

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values
        self.reads = 0

    async def get(self, key: str) -> bytes | None:
        self.reads += 1
        return self.values.get(key)

    async def put(self, key: str, data: bytes) -> None:
        self.values[key] = data

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)

    async def aclose(self) -> None: ...


def told(edge: str, **pictures: float) -> bytes:
    return encode_hot_report(HotReport(edge=edge, pictures={key(int(n[1:])): w for n, w in pictures.items()}))


def test_edges_reports_add_up_and_the_last_word_of_each_counts() -> None:
    clock = Clock()
    hot = HotSet(clock)
    hot.take(told("first", n1=5, n2=4))
    hot.take(told("second", n2=4, n3=6))
    assert hot.ranked() == [key(2), key(3), key(1)]
    clock.now_s += REPORT_KEPT_S - 1
    hot.take(told("second", n4=1))
    assert hot.ranked() == [key(1), key(2), key(4)]
    clock.now_s += 2
    assert hot.ranked() == [key(4)]


def test_a_report_names_what_was_asked_for_twice_lately_and_no_more_than_it_may() -> None:
    clock = Clock()
    hot = HotSet(clock)
    for number in range(HOT_KEYS_MAX + 50):
        for _ in range(1 + number % 3):
            hot.note(key(number, "acme:"))
    report = hot.report("first")
    assert len(report.pictures) == 2 * (HOT_KEYS_MAX + 50) // 3
    assert min(report.pictures.values()) == 2
    assert decode_hot_report(encode_hot_report(report)) == report
    clock.now_s += HALF_LIFE_S
    assert set(hot.report("first").pictures.values()) == {1.5}
    clock.now_s += HALF_LIFE_S
    assert hot.report("first").pictures == {}


BAD_KEYS = ("x", f"../{key(1)}", f"ab:cd:{key(1)}", f"{1:032x}/plates", f"{1:032x}/4096", f"{key(1)}\n", f"A:{key(1)}")
TOO_MANY = {f"n{number}": 1.0 for number in range(HOT_KEYS_MAX + 1)}


def said(**members: object) -> bytes:
    return msgspec.json.encode({"type": "hot.v1", "edge": "a", "pictures": {}, **members})


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xff", b"[]", b" " * 70_000, said(type="hot.v2"), said(pictures=[]), told("a", **TOO_MANY)),
        *(said(pictures={bad: 1}) for bad in BAD_KEYS),
        *(said(pictures={key(1): bad}) for bad in (0, -1, 1e300, "1")),
    ],
)
def test_anything_else_than_a_report_is_refused_and_counted(data: bytes) -> None:
    hot = HotSet()
    hot.take(data)
    assert hot.ranked() == []
    assert hot.stats().reports_refused == 1


async def test_what_is_hot_is_fetched_within_the_bandwidth_and_shelved_for_its_tenant_alone() -> None:
    hot, memory, shelf = HotSet(), MemoryTier(2**20), Shelf(2**20)
    keys = [key(number, "acme:") for number in range(4)]
    remote = RemoteTier(dict.fromkeys(keys, b"RIFF" * 2500))
    hot.take(encode_hot_report(HotReport(edge="other", pictures=dict.fromkeys([*keys, key(9)], 2.0))))
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        queue = DrawingQueue(pool, waiting_max=8)
        async with TieredCache([memory, remote]) as cache:
            began_s = loop.time()
            await hot.prefetch(cache, memory, shelf, queue=queue, bandwidth=Bandwidth(40_000))
            assert 0.7 < loop.time() - began_s < 2.0  # 40 kB at 40 kB/s, less the burst of a quarter second
            stats, reads = hot.stats(), remote.reads
            assert (stats.prefetched, stats.prefetched_bytes, stats.skipped_absent) == (4, 40_000, 1)
            await hot.prefetch(cache, memory, shelf, queue=queue, bandwidth=Bandwidth(40_000))
            assert remote.reads == reads, "what is here or was absent just now is not looked for again"
    path = f"/p/{keys[0][5:-4]}.webp"
    assert shelf.peek(path) is None
    shelved = shelf.peek(f"acme:{path}")
    assert shelved is not None
    assert shelf.peek(f"acme:{path}?px=256") is not None
    assert hot.stats().used == 0
    for _ in range(2):
        hot.note(shelved.key)
    assert hot.stats().used == 1


async def test_nothing_is_fetched_while_previews_are_drawn() -> None:
    hot, memory = HotSet(), MemoryTier(2**20)
    remote = RemoteTier({key(1): b"RIFF"})
    hot.take(told("other", n1=2))
    drawing = asyncio.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        queue = DrawingQueue(pool, waiting_max=8)
        async with TieredCache([memory, remote]) as cache:
            waiting = asyncio.create_task(
                queue.run(lambda: asyncio.run_coroutine_threadsafe(drawing.wait(), loop).result())
            )
            await asyncio.sleep(0)
            try:
                await hot.prefetch(cache, memory, Shelf(2**20), queue=queue, bandwidth=Bandwidth(2**30))
            finally:
                drawing.set()
                await waiting
            assert (remote.reads, hot.stats().skipped_busy) == (0, 1)
            await asyncio.sleep(0.01)
            await hot.prefetch(cache, memory, Shelf(2**20), queue=queue, bandwidth=Bandwidth(2**30))
            assert hot.stats().prefetched == 1


async def test_the_shelf_forgets_what_the_cache_forgets_and_what_was_read_before() -> None:
    clock = Clock()
    shelf, memory = Shelf(2**20, clock=clock), MemoryTier(2**20)
    path = f"/p/{1:032x}.webp"
    async with TieredCache([memory], above=shelf) as cache:
        for tenant in ("", "acme:"):
            shelf.put_picture(key(1, tenant), b"RIFF")
        await cache.invalidate(key(1))
        assert shelf.peek(path) is shelf.peek(f"{path}?px=256") is None
        assert shelf.peek(f"acme:{path}") is not None
        shelf.put_picture(key(1), b"RIFF")  # a request that was under way
        assert shelf.peek(path) is None
        clock.now_s += READ_MAX_S
        shelf.put_picture(key(1), b"RIFF")
        assert shelf.peek(path) is not None
        await cache._reset(has_missed=False)  # as after a start: nothing was read yet, so nothing can be stale
        assert shelf.peek(path) is not None
        await cache.get(key(1))
        await cache._reset(has_missed=False)  # heard again after an outage
        assert shelf.peek(path) is shelf.peek(f"acme:{path}") is None
        shelf.put_picture(key(1), b"RIFF")
        assert shelf.peek(path) is None
        clock.now_s += READ_MAX_S
        shelf.put_picture(key(1), b"RIFF")
        assert shelf.peek(path) is not None


async def test_files_on_the_shelf_are_forgotten_with_the_plates_they_were_made_of() -> None:
    shelf = Shelf(2**20)
    png, reduced = PictureForm(kind="png", size_px=1024), PictureForm(kind="jpeg", size_px=256, quality=50)
    pattern = f"{1:032x}"
    async with TieredCache([MemoryTier(2**20)], above=shelf) as cache:
        for tenant in ("", "acme:"):
            shelf.put_file(tenant + plates_key(pattern), png, b"PNG")
        shelf.put_file(plates_key(pattern), reduced, b"JPEG")
        assert shelf.peek(reduced.address(pattern)) is None
        kept = shelf.peek(png.address(pattern))
        assert kept is not None
        assert ("content-type", "image/png") in kept.headers
        await cache.invalidate(plates_key(pattern))
        assert shelf.peek(png.address(pattern)) is None
        assert shelf.peek("acme:" + png.address(pattern)) is not None
        shelf.put_file(plates_key(pattern), png, b"PNG")  # a request that was under way
        assert shelf.peek(png.address(pattern)) is None
