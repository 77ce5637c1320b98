"""How long a print file takes: `python bench/master.py` prints one JSON object as its last line.

Everything is real and on this machine: the hub's NATS, the edge's NATS as its leaf, Valkey, an object store in a
folder, one edge, one hub worker. A 4096 px order, each of another pattern, goes to the edge over HTTP and is timed
until its answer says that all files are stored. `seconds_p50` has the goal of 3; the other keys say where the time
goes.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import httpx
from live import run_system
from measuring import percentile, report, summarise

from halfdrop.contracts.jobs import JobState, JobStatus, decode_status
from halfdrop.contracts.subjects import artifact_path
from halfdrop.runtime.objects import ObjectStore, open_objects

SIZE_PX = 4096
TENANT = "local"
PROMPTS = (
    "red polka dots on white, half-drop",
    "navy vertical stripes on cream",
    "mustard chevron on teal",
    "pink blossoms with yellow centres on navy, half-drop",
    "gold ogee on burgundy",
    "black houndstooth on white, small",
    "teal paisley on cream, brick",
    "green leaves on beige, third drop",
)
WARM_UP_ORDERS = 3
SETTLE_S = 8.0
"""The worker loads torch in the background after its start; that is not part of an order."""


async def main(orders: int) -> None:
    """Time `orders` orders, one after the other."""
    samples: list[float] = []
    parts: dict[str, list[float]] = {"queued": [], "started": [], "finished": [], "told": []}
    stages: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            run_system(Path(folder)) as system,
            httpx.AsyncClient(base_url=system.edges[0].url, timeout=90) as client,
        ):
            objects = open_objects(system.objects_url)
            await asyncio.sleep(SETTLE_S)
            for number in range(WARM_UP_ORDERS + orders):
                ordered_at = time.time()
                status = await order(client, objects, number)
                told_at = time.time()
                if number < WARM_UP_ORDERS:
                    continue
                assert status.queued_at is not None
                assert status.started_at is not None
                assert status.completed_at is not None
                samples.append(told_at - ordered_at)
                moments = [ordered_at, status.queued_at, status.started_at, status.completed_at, told_at]
                for part, begin, end in zip(parts.values(), moments, moments[1:], strict=False):
                    part.append(end - begin)
                for name, seconds in read_stages(status):
                    stages.setdefault(name, []).append(seconds)
    report(
        "master",
        {
            "size_px": SIZE_PX,
            **summarise("seconds", samples),
            "through": "edge over HTTP, its outbox, the hub's JOBS, a worker, the object store, EVENTS",
            "until_seconds_p50": {name: round(percentile(values, 0.5), 3) for name, values in parts.items()},
            "stage_seconds_p50": {name: round(percentile(values, 0.5), 3) for name, values in stages.items()},
        },
    )


async def order(client: httpx.AsyncClient, objects: ObjectStore, number: int) -> JobStatus:
    """Order a new pattern and wait for its files; return what the worker left beside them."""
    given = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number, "size_px": SIZE_PX}
    response = await client.post("/v1/predictions", json={"input": given}, headers={"Prefer": "wait=60"})
    response.raise_for_status()
    prediction = response.json()
    if prediction["status"] != "succeeded":
        raise RuntimeError(f"order {number} ended as {prediction['status']}: {prediction['error']}")
    result = await objects.get(artifact_path(TENANT, prediction["id"], "result.json"))
    assert result is not None
    status = decode_status(result)
    assert status.state is JobState.COMPLETED
    return status


def read_stages(status: JobStatus) -> list[tuple[str, float]]:
    """Return (stage, seconds) from the lines of a status' log: "master: 0.31 s"."""
    found = [line.partition(": ") for line in status.log if line.endswith(" s")]
    return [(name, float(seconds.removesuffix(" s"))) for name, _, seconds in found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=24)
    asyncio.run(main(parser.parse_args().orders))
