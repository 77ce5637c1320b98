"""What prefetching the region's hot set is worth: hits in an edge's own memory or disk, with it and without.

Two real edges of one region, empty at first, over real NATS and Valkey. Valkey and the object store hold all pictures
(bytes of the usual size, planted). Requests for pictures come at a steady rate, each to either edge by chance, by
Zipf's law; every few seconds pictures that nobody has asked for yet take over the head of the ranking, as a new
campaign would. A request for what no edge has been asked for is nobody's to foresee: `asked_before_ratio` is what a
perfect prefetch would reach.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from measuring import report

from halfdrop.cache.regional import open_redis_tier
from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain, preview_path
from halfdrop.deploy.children import Child
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.servers import run_nats_server, run_valkey
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.runtime.objects import open_objects

SECONDS, RATE_HZ = 60, 20
PICTURES, PICTURE_BYTES = 2_000, 8_000
HEAD, SHIFT_S = 32, 20
"""Pictures at the head, and how often all of them are replaced."""
ZIPF_EXPONENT = 1.0
SEED = 20261124
EDGES = ("first", "second")
MODES = {"without": 0, "with": 1024}
"""KiB a second that may be prefetched."""
LOCAL = ("memory", "lmdb")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of the stream in each mode")
    seconds = parser.parse_args().seconds
    figures: dict[str, object] = {}
    for mode, kib_s in MODES.items():
        figures |= await measure(mode, kib_s, seconds)
    settings = {"seconds": seconds, "rate_hz": RATE_HZ, "pictures": PICTURES, "picture_bytes": PICTURE_BYTES}
    report("hotset", {**figures, **settings, "head": HEAD, "shift_s": SHIFT_S, "zipf_exponent": ZIPF_EXPONENT})


def draw_stream(seconds: int) -> Iterator[tuple[int, str, str]]:
    """Yield (rank, picture, edge) of each request: the same in every mode."""
    dice = random.Random(SEED)
    ranking = [f"{number:032x}" for number in range(PICTURES)]
    weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, PICTURES + 1)]
    ranks = dice.choices(range(PICTURES), weights, k=seconds * RATE_HZ)
    for number, rank in enumerate(ranks):
        if number and number % (SHIFT_S * RATE_HZ) == 0:
            fresh = [f"{number + place:031x}f" for place in range(HEAD)]
            ranking = [*fresh, *ranking[:-HEAD]]
        yield rank, ranking[rank], dice.choice(EDGES)


async def measure(mode: str, kib_s: int, seconds: int) -> dict[str, object]:
    """Serve the stream with two empty edges, and return the figures of this mode."""
    stream = list(draw_stream(seconds))
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halfdrop-bench-")))
        hub = await stack.enter_async_context(
            run_nats_server(name="hub", data_dir=root / "hub", domain=HUB_DOMAIN, leaf_port=0)
        )
        valkey = await stack.enter_async_context(run_valkey(data_dir=root / "valkey"))
        await plant(valkey.url, root / "objects", {picture for _, picture, _ in stream})
        clients = {}
        for name in EDGES:
            nats = await stack.enter_async_context(
                run_nats_server(
                    name=name, data_dir=root / f"nats-{name}", domain=edge_domain(name), leaf_remote=hub.leaf_url
                )
            )
            await wait_until_linked(nats.url, domain=HUB_DOMAIN)
            known = {"NAME": name, "NATS_URL": nats.url, "REDIS_URL": valkey.url, "PREFETCH_KIB_S": kib_s}
            url = await start_edge(stack, root, name, known)
            clients[name] = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        found = await ask(stream, clients)
        hot = [(await clients[name].get("/healthz")).json()["hot_set"] for name in EDGES]
    asked: set[str] = set()
    is_again = [picture in asked or asked.add(picture) is not None for _, picture, _ in stream]
    local = [detail in LOCAL for detail in found]
    head = [is_local for is_local, (rank, _, _) in zip(local, stream, strict=True) if rank < HEAD]
    return {
        f"local_hit_ratio_{mode}": _share(local),
        f"local_hit_ratio_head_{mode}": _share(head),
        f"prefetched_{mode}": sum(each["prefetched"] for each in hot),
        f"prefetched_bytes_{mode}": sum(each["prefetched_bytes"] for each in hot),
        f"prefetched_used_{mode}": sum(each["used"] for each in hot),
        "asked_before_ratio": _share(is_again),
    }


async def plant(redis_url: str, folder: Path, pictures: set[str]) -> None:
    """Put a picture of its own under each key into the region's Redis, and into the object store behind it."""
    tier, objects = open_redis_tier(redis_url, timeout_s=10), open_objects(folder.as_uri())
    for picture in pictures:
        data = picture.encode() * (PICTURE_BYTES // 32)
        await tier.put(f"{picture}/256", data)
        await objects.put(preview_path(picture, 256), data)
    await tier.aclose()


async def start_edge(stack: AsyncExitStack, root: Path, name: str, known: dict[str, object]) -> str:
    """Start an edge with an empty memory and disk, until the stack closes; return its address."""
    port = choose_port()
    known |= {"PORT": port, "OBJECTS_URL": (root / "objects").as_uri(), "DATA_DIR": root / name}
    environ = {**os.environ, **{f"HALFDROP_EDGE_{setting}": str(value) for setting, value in known.items()}}
    url = f"http://{LOOPBACK}:{port}"

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(base_url=url, timeout=2) as client:
                return (await client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    process = Child(
        name=name, argv=[sys.executable, "-m", "halfdrop.edge"], log_path=root / f"{name}.log", environ=environ
    )
    edge = Part(process, answers=answers, ready_timeout_s=60)
    stack.push_async_callback(edge.stop)
    await edge.start()
    return url


async def ask(stream: list[tuple[int, str, str]], clients: dict[str, httpx.AsyncClient]) -> list[str]:
    """Send the requests at their times; return which tier each answer came from."""
    began_s = time.monotonic()

    async def ask_one(number: int, picture: str, edge: str) -> str:
        await asyncio.sleep(max(0.0, began_s + number / RATE_HZ - time.monotonic()))
        answer = await clients[edge].get(f"/p/{picture}.webp?px=256")
        assert answer.content.startswith(picture.encode()), answer.text[:200]
        return answer.headers["cache-status"].rpartition("detail=")[2]

    return list(
        await asyncio.gather(*(ask_one(number, picture, edge) for number, (_, picture, edge) in enumerate(stream)))
    )


def _share(flags: list[bool]) -> float:
    return round(sum(flags) / max(len(flags), 1), 4)


if __name__ == "__main__":
    asyncio.run(main())
