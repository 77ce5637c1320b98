"""What an edge costs at rest: time from its start to a served preview, and memory.

The real process over embedded servers, with the shipped bundle, started several times as a restart would (byte code
compiled, files in the page cache). Memory is read once after the start and once after it has drawn a hundred previews.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx
from measuring import percentile, report, resident_mib

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.ports import choose_port
from halfdrop.deploy.servers import run_nats_server, run_valkey

STARTS = 5
PREVIEWS = 100
POLL_S = 0.01
START_LIMIT_S = 60.0
GOAL_MB, GOAL_S = 300, 3


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        root = Path(folder)
        async with (
            run_nats_server(name="hub", data_dir=root / "hub", domain=HUB_DOMAIN, leaf_port=0) as hub,
            run_nats_server(
                name="edge", data_dir=root / "nats", domain=edge_domain("bench"), leaf_remote=hub.leaf_url
            ) as nats,
            run_valkey(data_dir=root / "valkey") as valkey,
        ):
            environ = {
                **os.environ,
                "HALFDROP_EDGE_NAME": "bench",
                "HALFDROP_EDGE_NATS_URL": nats.url,
                "HALFDROP_EDGE_REDIS_URL": valkey.url,
                "HALFDROP_EDGE_OBJECTS_URL": (root / "objects").as_uri(),
                "HALFDROP_EDGE_DATA_DIR": str(root / "edge"),
            }
            runs = [await measure_start(environ) for _ in range(STARTS + 1)][1:]  # the first compiles byte code
    ready = [run[0] for run in runs]
    report(
        "footprint",
        {
            "edge_rss_mb": round(percentile([run[2] for run in runs], 0.5), 1),
            "edge_rss_idle_mb": round(percentile([run[1] for run in runs], 0.5), 1),
            "edge_ready_s": round(percentile(ready, 0.5), 2),
            "edge_ready_s_p50": round(percentile(ready, 0.5), 2),
            "edge_ready_s_p99": round(percentile(ready, 0.99), 2),
            "starts": len(ready),
            "previews_drawn": PREVIEWS,
            "goal_rss_mb": GOAL_MB,
            "goal_ready_s": GOAL_S,
        },
    )


async def measure_start(environ: dict[str, str]) -> tuple[float, float, float]:
    """Start an edge; return seconds until it served a preview, MiB then, and MiB after a hundred previews."""
    port = choose_port()
    began_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "halfdrop.edge",
        env={**environ, "HALFDROP_EDGE_PORT": str(port)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await first_preview(client)
            ready_s = time.monotonic() - began_s
            idle_mib = resident_mib(process.pid)
            for number in range(PREVIEWS):
                drawn = await client.post("/v1/previews", json={"prompt": f"red dots {began_s}", "seed": number})
                drawn.raise_for_status()
        return ready_s, idle_mib, resident_mib(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def first_preview(client: httpx.AsyncClient) -> None:
    """Ask until a preview comes. Raises TimeoutError if none does."""
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            try:
                (await client.post("/v1/previews", json={"prompt": "gold stars on navy"})).raise_for_status()
                return
            except httpx.TransportError:
                await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    asyncio.run(main())
