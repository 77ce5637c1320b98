"""Ten minutes of everyday load on an edge that has one core: does its memory stay flat, and who waits how long.

Of the requests 90 % are for pictures drawn before, 8 % for new previews, 2 % are orders; they come at a steady rate
whatever the answers take, from this process on the other cores. Shelf and memory tier are small, so that they are full
after the first minutes and what still grows is a leak. Memory is RssAnon: file pages of the LMDB tier are the kernel's
to take back. There is no hub worker: an order is done, here, when it is accepted and forwarded.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from live import run_system
from measuring import cpu_seconds, percentile, report, summarise

SEED = 11
KINDS, SHARES = ("hit", "preview", "order"), (90, 8, 2)
PROMPTS = ("red dots on white", "navy waves on cream", "green leaves on sand, half-drop", "gold ogee on burgundy")
POPULAR = 200
"""Pictures that hits ask for, the first ones most."""

SMALL_CACHES = {"HALFDROP_EDGE_SHELF_MIB": "8", "HALFDROP_EDGE_MEMORY_MIB": "8"}
SAMPLE_S = 5.0
SETTLED_SHARE = 0.4
"""Of the time, until the caches are full and memory has to be flat."""


@dataclass(kw_only=True)
class Tally:
    """What happened so far."""

    ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    memory_mib: list[tuple[float, float]] = field(default_factory=list)


async def main(minutes: float, rate: float) -> None:
    os.environ |= SMALL_CACHES
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with run_system(Path(folder), has_hub=False) as system:
            edge = system.edges[0]
            pid = edge.part.process.pid
            cores = sorted(os.sched_getaffinity(0))
            pin(pid, {cores[0]})
            os.sched_setaffinity(0, set(cores[1:]) or {cores[0]})
            limits = httpx.Limits(max_connections=256)
            async with httpx.AsyncClient(base_url=edge.url, timeout=30, limits=limits) as client:
                targets = [await draw(client, number) for number in range(POPULAR)]
                before_s, began_s = cpu_seconds(pid), time.monotonic()
                await send_load(client, targets, tally, pid=pid, seconds=minutes * 60, rate=rate)
                used = (cpu_seconds(pid) - before_s) / (time.monotonic() - began_s)
    settled = [mib for second, mib in tally.memory_mib if second >= minutes * 60 * SETTLED_SHARE]
    third = max(1, len(settled) // 3)
    growth_mib = percentile(settled[-third:], 0.5) - percentile(settled[:third], 0.5)
    failed = sum(count for what, count in tally.statuses.items() if not what.endswith((" 200", " 201")))
    report(
        "mixed",
        {
            "minutes": minutes,
            "requests": sum(tally.statuses.values()),
            "requests_per_s": rate,
            "failed": failed,
            "statuses": dict(sorted(tally.statuses.items())),
            "memory_mb_settled": round(percentile(settled, 0.5), 1),
            "memory_mb_max": round(max(settled), 1),
            "memory_growth_mb": round(growth_mib, 1),
            "edge_core_share": round(used, 2),
            **{key: value for kind in KINDS for key, value in summarise(f"{kind}_ms", tally.ms[kind]).items()},
        },
    )
    if failed:
        sys.exit(f"bench/mixed.py: {failed} requests failed")


def pin(pid: int, cores: set[int]) -> None:
    """Keep process `pid` with all its threads on `cores`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


async def draw(client: httpx.AsyncClient, number: int) -> str:
    """Return the path of a new picture."""
    asked = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number}
    answer = await client.post("/v1/previews", json=asked, headers={"Accept": "application/json"})
    answer.raise_for_status()
    return httpx.URL(answer.json()["url"]).raw_path.decode()


async def send_load(
    client: httpx.AsyncClient, targets: list[str], tally: Tally, *, pid: int, seconds: float, rate: float
) -> None:
    """Send requests at `rate` a second for `seconds`, and note memory on the way."""
    dice = random.Random(SEED)
    weights = [1 / rank for rank in range(1, len(targets) + 1)]
    began_s, sampled_s = time.monotonic(), 0.0
    count = round(seconds * rate)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            due_s = number / rate
            await asyncio.sleep(max(0.0, due_s - (time.monotonic() - began_s)))
            if due_s - sampled_s >= SAMPLE_S or number == 0:
                sampled_s = due_s
                tally.memory_mib.append((due_s, anonymous_mib(pid)))
                if number % round(30 * rate) < rate * SAMPLE_S:
                    print(f"{due_s:.0f} of {seconds:.0f} s, {tally.memory_mib[-1][1]:.0f} MiB", file=sys.stderr)
            (kind,) = dice.choices(KINDS, SHARES)
            (target,) = dice.choices(targets, weights)
            tasks.create_task(send(client, kind, target, 10_000 + number, tally))


async def send(client: httpx.AsyncClient, kind: str, target: str, number: int, tally: Tally) -> None:
    """Send one request; a failure is counted, not raised."""
    asked = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number}
    began_s = time.monotonic()
    try:
        if kind == "hit":
            answer = await client.get(target)
        elif kind == "preview":
            answer = await client.post("/v1/previews", json=asked)
        else:
            answer = await client.post("/v1/predictions", json={"input": {**asked, "size_px": 512}})
        status = str(answer.status_code)
    except httpx.TransportError as error:
        status = type(error).__name__
    tally.statuses[f"{kind} {status}"] += 1
    tally.ms[kind].append((time.monotonic() - began_s) * 1e3)


def anonymous_mib(pid: int) -> float:
    """Return the memory of process `pid` that is its own, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no RssAnon")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.minutes, chosen.rate))
