"""How fast an edge forgets what another one invalidates: from the word of one cache to the memory of the other.

Two caches over one Valkey, in one process and one event loop, so both ends are read from one clock. Timed is from when
`invalidate` is called until the second one's memory has forgotten; and the whole `invalidate`, which waits until Redis
has forgotten and the region was told.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from measuring import report, summarise

from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.regional import open_redis_tier
from halfdrop.cache.tiered import Region, TieredCache
from halfdrop.deploy.servers import run_valkey

KEYS, PICTURE_BYTES = 2_000, 10_000
CAPACITY_BYTES = 256 * 2**20
READY_LIMIT_S, FORGET_LIMIT_S = 10.0, 5.0


class Watched(MemoryTier):
    """A memory tier that notes when it forgot a key."""

    def __init__(self) -> None:
        super().__init__(CAPACITY_BYTES)
        self.forgot_s: dict[str, float] = {}
        self.has_forgotten = asyncio.Event()

    async def delete(self, key: str) -> None:
        await super().delete(key)
        self.forgot_s[key] = time.perf_counter()
        self.has_forgotten.set()


async def main(keys: int) -> None:
    heard_ms, whole_ms = [], []
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with run_valkey(data_dir=Path(folder)) as valkey:
            memory = Watched()
            regions = [Region(open_redis_tier(valkey.url)) for _ in range(2)]
            first = TieredCache([MemoryTier(CAPACITY_BYTES), regions[0].tier], region=regions[0])
            second = TieredCache([memory, regions[1].tier], region=regions[1])
            async with first, second:
                async with asyncio.timeout(READY_LIMIT_S):
                    while not all(region.news.is_connected for region in regions):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                for number in range(keys):
                    key = f"{number:032x}/256"
                    for cache in (first, second):
                        await cache.put(key, bytes(PICTURE_BYTES))
                        await cache.drain()
                    memory.forgot_s.clear()
                    began_s = time.perf_counter()
                    await first.invalidate(key)
                    whole_ms.append((time.perf_counter() - began_s) * 1e3)
                    async with asyncio.timeout(FORGET_LIMIT_S):
                        while key not in memory.forgot_s:
                            memory.has_forgotten.clear()
                            await memory.has_forgotten.wait()
                    heard_ms.append((memory.forgot_s[key] - began_s) * 1e3)
    report(
        "invalidation",
        {**summarise("heard_ms", heard_ms), **summarise("invalidate_ms", whole_ms), "picture_bytes": PICTURE_BYTES},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=KEYS)
    asyncio.run(main(parser.parse_args().keys))
