"""The job system as a whole: `python bench/jobs.py [TRACES]` prints the figures that it is judged by.

- `jobs_per_s`: from the edge's order book through OUTBOX, JOBS, the fair pull and an empty render to the settled job's
  status in the order book again: two servers with a leaf node between, one process as the edge, two as workers. Without
  HTTP, and with every write synced to the disk, as `halfdrop up` has it.
- `realtime_queue_p99_ms`, `empty_queue_p99_ms`, `share_error`, `hub_jobs_per_s`: of bench/fair_queue.py.
- `lost`, `double`, `drain_s`: of bench/chaos.py, which kills parts at random while orders run; the same with a full
  disk as `full_disk_…` where we are root.
- `eta_median_error`: of bench/eta.py with workers that tell what it needs; null without a folder of traces.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fair_queue import Crew
from forwarding import EDGE, make_job
from measuring import ROOT, report

from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import HUB_DOMAIN, LOCAL_REGION, edge_domain
from halfdrop.deploy.servers import run_nats_server
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.edge.follower import follow_events
from halfdrop.edge.forwarder import forward_orders
from halfdrop.edge.listeners import Listeners
from halfdrop.edge.orders import OrderBook, open_orders
from halfdrop.edge.region_choice import SpillRule
from halfdrop.edge.regions import open_regions
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.streams import ensure_hub_streams

CLIENTS = 64
LIMIT_S = 600.0


async def measure_whole_path(count: int, *, workers: int, slots: int) -> float:
    """Return orders a second from the first submit to the last that the order book knows to be completed."""
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as name:
        folder = Path(name)
        async with run_nats_server(name="hub", data_dir=folder / "hub", domain=HUB_DOMAIN, leaf_port=0) as hub_nats:
            edge_server = run_nats_server(
                name=edge_domain(EDGE),
                data_dir=folder / "edge",
                domain=edge_domain(EDGE),
                leaf_remote=hub_nats.leaf_url,
            )
            async with (
                edge_server as edge_nats,
                open_broker(edge_nats.url, name="bench edge", domain=edge_domain(EDGE)) as broker,
                open_broker(hub_nats.url, name="bench hub", domain=HUB_DOMAIN) as hub,
                Crew(hub_nats, hub, folder).at_work(workers, slots),
            ):
                await wait_until_linked(edge_nats.url, domain=HUB_DOMAIN)
                await ensure_hub_streams(hub.js)
                book = await open_orders(broker, Listeners())
                regions = open_regions(broker, [LOCAL_REGION], SpillRule())
                tasks = [
                    asyncio.ensure_future(forward_orders(broker, regions, book)),
                    asyncio.ensure_future(follow_events(broker, regions.home, EDGE, book)),
                ]
                await _run_through(book, 200)  # consumers are made, modules compiled
                began_s = time.perf_counter()
                await _run_through(book, count)
                took_s = time.perf_counter() - began_s
                for task in tasks:
                    task.cancel()
    return count / took_s


async def _run_through(book: OrderBook, count: int) -> None:
    jobs = iter([make_job(number) for number in range(count)])

    async def submit_some() -> None:
        for job in jobs:
            await book.submit(job, pattern_key(job.spec))

    await asyncio.gather(*(submit_some() for _ in range(CLIENTS)))
    async with asyncio.timeout(LIMIT_S):
        while book.unfinished():  # noqa: ASYNC110  # seen from outside
            await asyncio.sleep(0.01)


async def run_script(name: str, *arguments: str) -> dict[str, Any]:
    """Return the figures of another benchmark; its exit status is not ours: what it counts is reported."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "bench" / name), *arguments, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    lines = printed.decode().splitlines()
    if not lines:
        raise RuntimeError(f"bench/{name} printed no figures")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


async def main(traces: Path | None, *, jobs: int, backlog: int, seed: int) -> None:
    configure_logs("bench")
    figures: dict[str, object] = {"seed": seed}
    figures["jobs_per_s"] = round(await measure_whole_path(4_000, workers=2, slots=16), 1)
    fair = await run_script("fair_queue.py", "--backlog", str(backlog))
    figures["hub_jobs_per_s"] = fair["jobs_per_s"]
    figures |= {name: fair[name] for name in ("realtime_queue_p99_ms", "empty_queue_p99_ms", "share_error", "backlog")}
    chaos = await run_script("chaos.py", "--jobs", str(jobs), "--seed", str(seed))
    judged = ("lost", "double", "webhooks_lost", "webhooks_double", "drain_s", "kills")
    figures |= {"jobs": jobs, **{name: chaos[name] for name in judged}}
    if os.geteuid() == 0:
        full = await run_script("chaos.py", "--jobs", str(jobs), "--seed", str(seed), "--full-disk")
        figures |= {f"full_disk_{name}": full[name] for name in judged[:-1]}
    eta = await run_script("eta.py", str(traces)) if traces is not None else {}
    figures["eta_median_error"] = eta.get("eta_median_error")
    report("jobs", figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="?", help="folder of recorded workloads, for the estimates")
    parser.add_argument("--jobs", type=int, default=500, help="orders that are placed while parts are killed")
    parser.add_argument("--backlog", type=int, default=100_000, help="bulk jobs that wait before a real-time job")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    asyncio.run(main(chosen.traces, jobs=chosen.jobs, backlog=chosen.backlog, seed=chosen.seed))
