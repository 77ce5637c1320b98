"""Orders from a submit to a hub's queue, and statuses from a hub to the order book, as many a second as the edge can.

The edge's own code over two real NATS servers with a leaf node between, as `halfdrop up` has them; no HTTP, no worker.
`orders_per_s` counts orders from the first submit until the last is in JOBS and stands as queued in ORDERS, and so is
what the edge sustains from end to end; `submits_per_s` counts them until the last is accepted. `statuses_per_s` counts
two statuses for each of these orders, published at the hub beforehand, until the last is in the book.
`*_cpu_s_per_1000` is the processor time that 1,000 orders or statuses cost: this process and its two servers.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from measuring import cpu_seconds, report
from msgspec.structs import replace

from halfdrop.contracts.jobs import Job, JobState, JobStatus, encode_status
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import FIELDS_BYTES, Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.subjects import EVENTS_STREAM, HUB_DOMAIN, JOBS_STREAM, LOCAL_REGION, edge_domain, job_event
from halfdrop.deploy.servers import run_nats_server
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.edge.follower import follow_events
from halfdrop.edge.forwarder import forward_orders
from halfdrop.edge.listeners import Listeners
from halfdrop.edge.names import new_order_id
from halfdrop.edge.orders import OrderBook, open_orders
from halfdrop.edge.region_choice import SpillRule
from halfdrop.edge.regions import open_regions
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.publishing import GroupPublisher
from halfdrop.runtime.streams import ensure_hub_streams

EDGE = "bench"
LIMIT_S = 300.0


async def main(count: int, clients: int) -> None:
    configure_logs("bench")  # a line for each order, as an edge writes it
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        hub_server = run_nats_server(name="hub", data_dir=Path(folder) / "hub", domain=HUB_DOMAIN, leaf_port=0)
        async with hub_server as hub_nats:
            edge_server = run_nats_server(
                name=edge_domain(EDGE),
                data_dir=Path(folder) / "edge",
                domain=edge_domain(EDGE),
                leaf_remote=hub_nats.leaf_url,
            )
            async with (
                edge_server as edge_nats,
                open_broker(edge_nats.url, name="bench edge", domain=edge_domain(EDGE)) as broker,
                open_broker(hub_nats.url, name="bench hub", domain=HUB_DOMAIN) as hub,
            ):
                await wait_until_linked(edge_nats.url, domain=HUB_DOMAIN)
                await ensure_hub_streams(hub.js)
                book = await open_orders(broker, Listeners())
                pids = [os.getpid(), edge_nats.process.pid, hub_nats.process.pid]
                figures = await measure_orders(broker, hub, book, pids, count=count, clients=clients)
                figures |= await measure_statuses(broker, hub, book, pids)
    report("forwarding", {"orders": count, "clients": clients, **figures})


async def measure_orders(
    broker: Broker, hub: Broker, book: OrderBook, pids: list[int], *, count: int, clients: int
) -> dict[str, float]:
    """Submit `count` orders from `clients` tasks while the forwarder runs, and wait until the hub has all of them."""
    regions = open_regions(broker, [LOCAL_REGION], SpillRule())
    jobs = iter([make_job(number) for number in range(count)])
    key = pattern_key(make_job(0).spec)

    async def submit_some() -> None:
        for job in jobs:
            await book.submit(job, key)

    forwarding = asyncio.ensure_future(forward_orders(broker, regions, book))
    before_s, began_s = list(map(cpu_seconds, pids)), time.perf_counter()
    await asyncio.gather(*(submit_some() for _ in range(clients)))
    submitted_s = time.perf_counter() - began_s
    async with asyncio.timeout(LIMIT_S):
        while any(status.queued_at is None for status in book.unfinished()):  # noqa: ASYNC110  # seen from outside
            await asyncio.sleep(0.01)
    took_s = time.perf_counter() - began_s
    cpu_s = [now - before for now, before in zip(map(cpu_seconds, pids), before_s, strict=True)]
    forwarding.cancel()
    arrived = (await hub.js.stream_info(JOBS_STREAM)).state.messages
    if arrived != count:
        sys.exit(f"bench/forwarding.py: {count} orders were placed, {arrived} are in JOBS")
    return {
        "submits_per_s": round(count / submitted_s),
        "orders_per_s": round(count / took_s),
        "order_cpu_s_per_1000": round(sum(cpu_s) / count * 1000, 2),
        "of_it_edge_process": round(cpu_s[0] / count * 1000, 2),
        "of_it_edge_nats": round(cpu_s[1] / count * 1000, 2),
        "of_it_hub_nats": round(cpu_s[2] / count * 1000, 2),
    }


async def measure_statuses(broker: Broker, hub: Broker, book: OrderBook, pids: list[int]) -> dict[str, float]:
    """Publish two statuses for each order at the hub, then let the follower take them."""
    orders = book.unfinished()
    events = GroupPublisher(hub, hub.js, EVENTS_STREAM)
    for state in (JobState.PROCESSING, JobState.COMPLETED):
        news = [replace(status, state=state, attempt=1) for status in orders]
        await asyncio.gather(*(tell(events, status) for status in news))
    regions = open_regions(broker, [LOCAL_REGION], SpillRule())
    cpu_s, began_s = sum(map(cpu_seconds, pids)), time.perf_counter()
    following = asyncio.ensure_future(follow_events(broker, regions.home, EDGE, book))
    async with asyncio.timeout(LIMIT_S):
        while book.unfinished():  # noqa: ASYNC110  # seen from outside
            await asyncio.sleep(0.01)
    took_s, cpu_s = time.perf_counter() - began_s, sum(map(cpu_seconds, pids)) - cpu_s
    following.cancel()
    count = 2 * len(orders)
    return {
        "statuses_per_s": round(count / took_s),
        "status_cpu_s_per_1000": round(cpu_s / count * 1000, 2),
    }


async def tell(events: GroupPublisher, status: JobStatus) -> None:
    await events.publish(job_event(status.origin, status.id), encode_status(status))


def make_job(number: int) -> Job:
    """Return an order with plates as a preview leaves them."""
    spec = PatternSpec(prompt="red polka dots on white", seed=number, model_digest="0" * 64, repeat=Repeat())
    plates = Plates(
        pattern_key=pattern_key(spec),
        model_digest=spec.model_digest,
        fields=os.urandom(FIELDS_BYTES),
        palette=("#ffffff",) * 5,
    )
    return Job(id=new_order_id(), origin=EDGE, spec=spec, size_px=256, plates=plates, created_at=time.time())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5_000)
    parser.add_argument("--clients", type=int, default=256, help="orders being submitted at once")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.orders, chosen.clients))
