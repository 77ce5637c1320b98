"""An edge cut off from its hub: orders taken meanwhile, and what became of them.

The real processes; between the edge's NATS and the hub's runs a cable that is cut for `--minutes`. Orders come all the
time, each with an Idempotency-Key and some of them twice; some are canceled; half-way the edge is killed and started
again. When the cable is mended every order must end once, as what was asked: `lost` and `double` count those that do
not. `canceled_but_rendered` counts cancels that lost their race: an order leaves the outbox before its cancel does, and
a free worker can have it by then. Previews go on all the while.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import nats
from live import LiveSystem, run_system
from measuring import report, summarise

from halfdrop.contracts.jobs import JobState, decode_status
from halfdrop.contracts.subjects import EVENTS_STREAM, artifact_path, job_event
from halfdrop.runtime.objects import open_objects

SIZE_PX = 512
TWICE_EVERY, CANCEL_EVERY = 5, 7
BEFORE_CUT = 3
DRAIN_LIMIT_S = 900.0
FINAL = ("succeeded", "failed", "canceled")


async def main(minutes: float, orders_per_minute: float) -> None:
    os.environ |= {"HALFDROP_HUB_WARM": "false", "HALFDROP_HUB_REFINE": "false"}  # what is drawn is not the question
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with (
            run_system(Path(folder)) as system,
            httpx.AsyncClient(base_url=system.edges[0].url, timeout=60) as client,
        ):
            orders, refused, previews_ms = await order_through_a_cut(system, client, minutes * 60, orders_per_minute)
            system.cable.mend()
            mended_s = time.monotonic()
            ends = await wait_for_ends(client, orders)
            drain_s = time.monotonic() - mended_s
            outcome = await count_outcomes(system, orders, ends)
    report(
        "partition",
        {
            "partition_s": round(minutes * 60),
            "orders": len(orders),
            "canceled": sum(is_canceled for is_canceled in orders.values()),
            "refused": refused,
            **outcome,
            "drain_s": round(drain_s, 1),
            **summarise("preview_during_ms", previews_ms, digits=1),
        },
    )
    if outcome["lost"] or outcome["double"]:
        sys.exit("bench/partition.py: orders were lost or done twice")


async def order_through_a_cut(
    system: LiveSystem, client: httpx.AsyncClient, cut_s: float, orders_per_minute: float
) -> tuple[dict[str, bool], int, list[float]]:
    """Place orders before and through a cut; return them with whether each was canceled, refusals, preview times."""
    orders: dict[str, bool] = {}
    refused, previews_ms, is_killed = 0, [], False
    count = max(BEFORE_CUT + 10, BEFORE_CUT + round(cut_s / 60 * orders_per_minute))
    pause_s = cut_s / (count - BEFORE_CUT)
    for number in range(count):
        if number == BEFORE_CUT:
            await asyncio.gather(*(wait_for_end(client, job) for job in list(orders)))
            system.cable.cut()
        began_s = time.monotonic()
        job, refusals = await place(client, number)
        refused += refusals
        orders[job] = False
        if number >= BEFORE_CUT and number % CANCEL_EVERY == 0:
            (await client.post(f"/v1/predictions/{job}/cancel")).raise_for_status()
            orders[job] = True
        if number >= BEFORE_CUT:
            previews_ms.append(await preview(client, number))
        if number >= count // 2 and not is_killed:
            is_killed = True
            await system.edges[0].part.kill()
            await system.edges[0].part.start()
        if number >= BEFORE_CUT:
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - began_s)))
            print(f"{number + 1} of {count} orders", file=sys.stderr)
    return orders, refused, previews_ms


async def place(client: httpx.AsyncClient, number: int) -> tuple[str, int]:
    """Return the id of an order that was accepted, and how often it was refused before; some are sent twice."""
    body = {"input": {"prompt": "blue stars on white", "seed": number, "size_px": SIZE_PX}}
    ids, refused = set(), 0
    for _ in range(2 if number % TWICE_EVERY == 0 else 1):
        while True:
            answer = await client.post("/v1/predictions", json=body, headers={"Idempotency-Key": f'"order-{number}"'})
            if answer.status_code == 201:
                break
            refused += 1
            await asyncio.sleep(0.5)
        ids.add(answer.json()["id"])
    if len(ids) != 1:
        raise RuntimeError(f"one Idempotency-Key gave {len(ids)} orders")
    return str(ids.pop()), refused


async def preview(client: httpx.AsyncClient, number: int) -> float:
    """Return the milliseconds that a new preview took."""
    began_s = time.monotonic()
    answer = await client.post("/v1/previews", json={"prompt": "green ferns on cream", "seed": number})
    answer.raise_for_status()
    return (time.monotonic() - began_s) * 1e3


async def wait_for_ends(client: httpx.AsyncClient, orders: dict[str, bool]) -> dict[str, str]:
    """Return the status in which each order ended, or the one it had when we gave up."""
    ends = {}
    deadline_s = time.monotonic() + DRAIN_LIMIT_S
    for job in orders:
        ends[job] = await wait_for_end(client, job, max(0.0, deadline_s - time.monotonic()))
    return ends


async def wait_for_end(client: httpx.AsyncClient, job: str, limit_s: float = 120.0) -> str:
    status = ""
    deadline_s = time.monotonic() + limit_s
    while status not in FINAL:
        status = (await client.get(f"/v1/predictions/{job}")).json()["status"]
        if time.monotonic() > deadline_s:
            break
        await asyncio.sleep(0.1)
    return status


async def count_outcomes(system: LiveSystem, orders: dict[str, bool], ends: dict[str, str]) -> dict[str, int]:
    """Return what went wrong, judged by the hub's own events and files rather than by what the edge says."""
    counts: Counter[str] = Counter()
    objects = open_objects(system.objects_url)
    client = await nats.connect(system.hub_nats.url)
    for job, is_canceled in orders.items():
        events = await client.jetstream().pull_subscribe(job_event("*", job), stream=EVENTS_STREAM)
        try:
            statuses = [decode_status(message.data) for message in await events.fetch(256, timeout=1)]
        except TimeoutError:  # canceled before the hub heard of it
            statuses = []
        await events.unsubscribe()
        completed = {status.completed_at for status in statuses if status.state is JobState.COMPLETED}
        result = await objects.get(artifact_path("local", job, "result.json"))
        has_files = result is not None and decode_status(result).state is JobState.COMPLETED
        counts["lost"] += ends[job] not in FINAL or (not is_canceled and not (has_files and ends[job] == "succeeded"))
        counts["double"] += len(completed) > 1
        counts["canceled_but_rendered"] += is_canceled and bool(completed)
    await client.close()
    return {name: counts[name] for name in ("lost", "double", "canceled_but_rendered")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.5, help="how long the cable is cut")
    parser.add_argument("--orders-per-minute", type=float, default=3.0)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.minutes, chosen.orders_per_minute))
