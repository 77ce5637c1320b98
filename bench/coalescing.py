"""Many requests at once for a picture that nobody has drawn: how many renders they cost.

A thousand connections to two edges of one region, each with its request written but for the last byte; then the last
bytes go out together. Real processes over HTTP. `coalesced_renders` is what both edges say that they drew; every
answer must be a 200 with the same picture.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
from live import LiveEdge, run_system
from measuring import report, summarise

REQUESTS = 1_000
EDGES = ("local", "second")
ANSWER_LIMIT_S = 60.0
PROMPT = "gold ogee with teal leaves on burgundy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    report("coalescing", asyncio.run(measure_coalescing(parser.parse_args().requests)))


async def measure_coalescing(requests: int = REQUESTS) -> dict[str, object]:
    """Return the figures of one burst of `requests`, over a region of two edges that runs for this."""
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with run_system(Path(folder), edge_names=EDGES, has_hub=False) as system:
            before = await count_drawn(system.edges)
            answers = await send_at_once(system.edges, requests, seed=int.from_bytes(os.urandom(4)))
            drawn = await count_drawn(system.edges) - before
    statuses = Counter(status for status, _, _ in answers)
    return {
        "coalesced_renders": drawn,
        "requests": requests,
        "edges": len(EDGES),
        "not_ok": requests - statuses[200],
        "statuses": {str(status): count for status, count in statuses.items()},
        "distinct_pictures": len({body for status, body, _ in answers if status == 200}),
        **summarise("answer_ms", [ms for _, _, ms in answers], digits=1),
    }


async def count_drawn(edges: list[LiveEdge]) -> int:
    """Return what all edges drew since their start."""
    async with httpx.AsyncClient() as client:
        return sum([(await client.get(f"{edge.url}/healthz")).json()["previews_drawn"] for edge in edges])


async def send_at_once(edges: list[LiveEdge], requests: int, *, seed: int) -> list[tuple[int, bytes, float]]:
    """Return status, body and milliseconds of each answer to one request sent `requests` times."""
    body = msgspec.json.encode({"prompt": PROMPT, "seed": seed})
    streams = []
    for number in range(requests):
        edge = urlsplit(edges[number % len(edges)].url)
        reader, writer = await asyncio.open_connection(edge.hostname, edge.port)
        writer.write(
            b"POST /v1/previews HTTP/1.1\r\nHost: localhost\r\nAccept: image/webp\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body[:-1])
        )
        streams.append((reader, writer))
    await asyncio.gather(*(writer.drain() for _, writer in streams))
    began_s = time.monotonic()
    for _, writer in streams:
        writer.write(body[-1:])
    return await asyncio.gather(*(read_answer(reader, writer, began_s) for reader, writer in streams))


async def read_answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began_s: float
) -> tuple[int, bytes, float]:
    async with asyncio.timeout(ANSWER_LIMIT_S):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body, (time.monotonic() - began_s) * 1e3


if __name__ == "__main__":
    main()
