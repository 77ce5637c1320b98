"""Kill -9 at random while many small jobs run, and count what became of each.

The real system by `halfdrop up` with two workers. Clients order all the time, each order with an Idempotency-Key that
is used again until it is taken. Meanwhile parts are killed: which, and when, comes from `--seed`. Kills go on until
KILL_UNTIL of the orders have ended; `drain_s` is from the last kill to the end of the last order. With --full-disk
everything lies on a small file system in memory (which takes root), and that is filled up for a while in the middle.

Judged by the hub's own events and the files at rest, not by what the edge says: `lost` has no result or another end
than success, `double` more than one. Webhooks are counted by a receiver of ours: `webhooks_lost` ended without telling
it, `webhooks_double` told it the same under two ids.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
from measuring import ROOT, report
from receiving import Receiver, run_receiver

from halfdrop.contracts.jobs import JobState, decode_status
from halfdrop.contracts.subjects import EVENTS_STREAM
from halfdrop.deploy.folder import DataFolder
from halfdrop.deploy.ports import choose_port

SIZE_PX = 64
CLIENTS = 4
KILL_UNTIL = 0.97
KILL_EVERY_S = (1.0, 5.0)
PARTS = ("edge", "hub-1", "hub-2", "nats-hub", "nats-edge-local")
DISK_BYTES = 3 * 2**30
FULL_S = 8.0
DRAIN_LIMIT_S = 900.0
ENVIRON = {
    "HALFDROP_HUB_ACK_WAIT_S": "3",  # a killed worker's job comes again after 3 s; the default waits half a minute
    "HALFDROP_HUB_WARM": "false",
    "HALFDROP_HUB_REFINE": "false",
}


async def measure_chaos(jobs: int, seed: int, *, has_full_disk: bool) -> dict[str, object]:
    """Run it once and return the figures."""
    rng = random.Random(seed)
    with _room(has_full_disk) as root:
        async with run_receiver() as receiver, _run_up(root) as (folder, url):
            orders: dict[int, str] = {}
            async with asyncio.TaskGroup() as tasks:
                killing = tasks.create_task(_kill(folder, rng, orders, jobs, root if has_full_disk else None))
                for client in range(CLIENTS):
                    tasks.create_task(_order(url, receiver.url, orders, range(client, jobs, CLIENTS)))
            kills, last_kill_s = killing.result()
            ends = await _wait_for_ends(url, orders)
            drain_s = time.monotonic() - last_kill_s
            await receiver.wait_quiet()
            outcome = await _count(folder, set(orders.values()), ends, receiver)
    return {
        "jobs": len(orders),
        "seed": seed,
        "full_disk": has_full_disk,
        "kills": dict(kills),
        **outcome,
        "drain_s": round(drain_s, 1),
    }


async def _order(url: str, hook: str, orders: dict[int, str], numbers: range) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for number in numbers:
            body = {
                "input": {"prompt": "blue stars on white", "seed": number % 16, "size_px": SIZE_PX},
                "webhook": f"{hook}/{number}",
                "webhook_events_filter": ["completed"],
            }
            while number not in orders:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.post(
                        "/v1/predictions", json=body, headers={"Idempotency-Key": f'"chaos-{number}"'}
                    )
                    if answer.status_code == 201:
                        orders[number] = answer.json()["id"]
                        continue
                    if answer.status_code not in (409, 429, 503):
                        raise RuntimeError(f"an order was refused: {answer.status_code} {answer.text[:300]}")
                await asyncio.sleep(0.2)


async def _kill(
    folder: DataFolder, rng: random.Random, orders: dict[int, str], jobs: int, disk: Path | None
) -> tuple[Counter[str], float]:
    """Kill parts until nearly all orders have ended; return how often each was, and when the last one was."""
    kills: Counter[str] = Counter()
    last_kill_s = time.monotonic()
    while True:
        await asyncio.sleep(rng.uniform(*KILL_EVERY_S))
        ended = await asyncio.to_thread(_count_results, folder)
        if ended >= KILL_UNTIL * jobs:
            return kills, last_kill_s
        if disk is not None and ended >= jobs // 2:
            await _fill(disk)
            kills["disk filled"] += 1
            disk = None
        name = rng.choice(PARTS)
        ledger = folder.read_ledger()
        for child in ledger.children if ledger is not None else ():
            if child.name == name:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                    last_kill_s = time.monotonic()
                    kills[name] += 1
                    print(f"{ended} of {jobs} ended, {len(orders)} ordered; killed {name}", file=sys.stderr)


async def _fill(disk: Path) -> None:
    """Leave no room on the disk for FULL_S seconds."""
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**20))
            file.flush()
    print(f"the disk is full for {FULL_S:g} s", file=sys.stderr)
    await asyncio.sleep(FULL_S)
    filler.unlink()


def _count_results(folder: DataFolder) -> int:
    jobs = folder.objects / "jobs" / "local"
    if not jobs.exists():
        return 0
    return sum((job / "result.json").exists() for job in jobs.iterdir())


async def _wait_for_ends(url: str, orders: dict[int, str]) -> dict[str, str]:
    """Return the state in which each order ended, or the one it had when we gave up."""
    ends: dict[str, str] = {}
    deadline_s = time.monotonic() + DRAIN_LIMIT_S
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for job in sorted(orders.values(), reverse=True):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get(f"/v1/predictions/{job}")
                    if answer.status_code < 500:
                        ends[job] = answer.json().get("state", "unknown to the edge")
                        if ends[job] in ("completed", "failed", "canceled") or time.monotonic() > deadline_s:
                            break
                await asyncio.sleep(0.05)
    return ends


async def _count(folder: DataFolder, jobs: set[str], ends: dict[str, str], receiver: Receiver) -> dict[str, int]:
    results = defaultdict(set)
    config = (folder.nats_hub / "nats.conf").read_text()
    address = next(line for line in config.splitlines() if line.startswith("listen: ")).split('"')[1]
    client = await nats.connect(f"nats://{address}")
    js = client.jetstream()
    left = (await js.stream_info(EVENTS_STREAM)).state.messages
    events = await js.subscribe("events.>", stream=EVENTS_STREAM, ordered_consumer=True)
    while left > 0:
        message = await events.next_msg(timeout=10)
        left = message.metadata.num_pending
        status = decode_status(message.data)
        if status.state is JobState.COMPLETED:
            results[status.id].add(status.completed_at)
    await client.close()
    at_rest = {job for job in jobs if (folder.objects / "jobs" / "local" / job / "result.json").exists()}
    told = receiver.told("completed")
    return {
        "lost": sum(ends.get(job) != "completed" or job not in at_rest for job in jobs),
        "double": sum(len(times) > 1 for times in results.values()),
        "webhooks_lost": sum(job not in told for job in jobs),
        "webhooks_double": sum(len(ids) > 1 for ids in told.values()),
    }


@contextmanager
def _room(is_bounded: bool) -> Iterator[Path]:
    """Yield an empty folder; a bounded one is a file system of DISK_BYTES in memory."""
    root = Path(tempfile.mkdtemp(prefix="halfdrop-chaos-"))
    try:
        if is_bounded:
            options = f"size={DISK_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "halfdrop-chaos", str(root)], check=True)
        yield root
    finally:
        if is_bounded:
            subprocess.run(["umount", "-l", str(root)], check=False)
        shutil.rmtree(root, ignore_errors=True)


@asynccontextmanager
async def _run_up(root: Path) -> AsyncIterator[tuple[DataFolder, str]]:
    folder = DataFolder(root / "data")
    port = choose_port()
    command = [sys.executable, "-m", "halfdrop.deploy.cli", "up", "--port", str(port), "--hubs", "2"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--data-dir",
        str(folder.root),
        env={**os.environ, **ENVIRON},
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    reading: asyncio.Task[Any] | None = None
    try:
        while not (line := await process.stdout.readline()).startswith(b"ready "):
            if not line:
                raise RuntimeError("`halfdrop up` ended before it was ready")
        reading = asyncio.create_task(process.stdout.read())
        yield folder, f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        if reading is not None:
            await reading
        await process.wait()


async def main(jobs: int, seed: int, has_full_disk: bool) -> None:
    print(json.dumps({"seed": seed}), file=sys.stderr)
    figures = await measure_chaos(jobs, seed, has_full_disk=has_full_disk)
    report("chaos", figures)
    if any(figures[name] for name in ("lost", "double", "webhooks_lost", "webhooks_double")):
        sys.exit("bench/chaos.py: something was lost or done twice")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--full-disk", action="store_true", help="fill the disk up for a while (takes root)")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.jobs, chosen.seed, chosen.full_disk))
