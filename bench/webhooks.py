"""Does a healthy receiver of webhooks wait for broken ones? One edge, its real process, over embedded servers.

Orders are placed at the edge; what a worker would tell of them is published here, so that no drawing is in the figures.
The delay of an event is from its status' publication at the hub's NATS to the receiver's having read it. It is measured
twice at the same gentle rate: alone, then while four other receivers hang, drip, break off and redirect, each with
events waiting for it all the time. Then the same again in one burst gives deliveries a second.
"""

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
from live import LiveSystem, run_system
from measuring import percentile, report, summarise

from halfdrop.contracts.jobs import JobState, JobStatus, accepted_status, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, job_event
from halfdrop.deploy.ports import LOOPBACK
from halfdrop.runtime.broker import Broker, open_broker

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
FOR_EACH_BAD = 40
"""Events that each broken receiver begins with, and gets more of while the delays are measured."""

RATE_S = 0.05
"""Between two measured events: far from what an edge can do, so that a delay is no queue of ours."""

DONE_WAIT_S = 300.0

Answer = Callable[[asyncio.StreamWriter, asyncio.Event], Awaitable[None]]
"""The event is set when the receiver is to stop."""


class Receiver:
    """A server that notes when each webhook-id came first, and answers as it was told."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.at_s: dict[str, float] = {}
        self.requests = 0
        self.url = ""
        self.news = asyncio.Event()
        self._stopping = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        server = await asyncio.start_server(self._take, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/hook"

    async def stop(self) -> None:
        self._stopping.set()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(serving)
        await asyncio.wait([serving])
        self._serving.discard(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                webhook_id = re.search(rb"webhook-id: (\S+)", head, re.IGNORECASE)
                self.requests += 1
                if webhook_id:
                    self.at_s.setdefault(webhook_id[1].decode(), time.time())
                self.news.set()
                await self._answer(writer, self._stopping)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()


async def answer_well(writer: asyncio.StreamWriter, stopping: asyncio.Event) -> None:
    writer.write(OK)


async def hang(writer: asyncio.StreamWriter, stopping: asyncio.Event) -> None:
    await stopping.wait()


async def drip(writer: asyncio.StreamWriter, stopping: asyncio.Event) -> None:
    for letter in OK * 100:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(1)


async def break_off(writer: asyncio.StreamWriter, stopping: asyncio.Event) -> None:
    writer.close()


async def redirect(writer: asyncio.StreamWriter, stopping: asyncio.Event) -> None:
    writer.write(REDIRECT)


async def place(client: httpx.AsyncClient, url: str, count: int, seed: int) -> list[str]:
    """Place orders whose `completed` goes to `url`; return their ids."""
    ids = []
    for _ in range(count):
        body = {
            "input": {"prompt": "red dots on white", "size_px": 64, "seed": seed},
            "webhook": url,
            "webhook_events_filter": ["completed"],
        }
        ids.append((await client.post("/v1/predictions", json=body)).raise_for_status().json()["id"])
    return ids


async def read_endings(hub: Broker, count: int) -> dict[str, JobStatus]:
    """Return what a worker would tell of each order at its end, once all `count` have reached the hub."""
    async with asyncio.timeout(DONE_WAIT_S):
        there = 0
        while there < count:
            await asyncio.sleep(0.2)
            there = (await hub.js.stream_info(JOBS_STREAM)).state.messages
    found = {}
    for number in range(1, count + 1):
        job = decode_job((await hub.js.get_msg(JOBS_STREAM, seq=number)).data or b"")
        first = accepted_status(job, pattern_key(job.spec))
        found[job.id] = msgspec.structs.replace(
            first, state=JobState.COMPLETED, attempt=1, started_at=time.time(), completed_at=time.time()
        )
    return found


async def publish(hub: Broker, status: JobStatus) -> float:
    """Tell the edge that an order ended; return when."""
    now_s = time.time()
    await hub.js.publish(job_event(status.origin, status.id), encode_status(status))
    return now_s


async def measure_delays(hub: Broker, receiver: Receiver, endings: list[JobStatus]) -> list[float]:
    """Return the milliseconds from status to receipt of each."""
    told_s = {}
    for status in endings:
        told_s[f"{status.id}.completed"] = await publish(hub, status)
        await asyncio.sleep(RATE_S)
    await wait_for(receiver, told_s)
    return [(receiver.at_s[webhook_id] - at_s) * 1000 for webhook_id, at_s in told_s.items()]


async def measure_rate(hub: Broker, receiver: Receiver, endings: list[JobStatus]) -> float:
    """Return deliveries a second of a burst, from the first status to the last receipt."""
    began_s = time.time()
    await asyncio.gather(*(publish(hub, status) for status in endings))
    ids = {f"{status.id}.completed": began_s for status in endings}
    await wait_for(receiver, ids)
    return len(ids) / (max(receiver.at_s[webhook_id] for webhook_id in ids) - began_s)


async def wait_for(receiver: Receiver, ids: dict[str, float]) -> None:
    async with asyncio.timeout(DONE_WAIT_S):
        while not ids.keys() <= receiver.at_s.keys():
            receiver.news.clear()
            await receiver.news.wait()


async def main(events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with run_system(Path(folder), has_hub=False) as system:
            await run(system, events)


async def run(system: LiveSystem, events: int) -> None:
    healthy = Receiver(answer_well)
    bad = [Receiver(answer) for answer in (hang, drip, break_off, redirect)]
    for receiver in (healthy, *bad):
        await receiver.start()
    url = system.edges[0].url
    assert urlsplit(url).hostname == LOOPBACK
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        open_broker(system.hub_nats.url, name="bench", domain=HUB_DOMAIN) as hub,
    ):
        good_ids = await place(client, healthy.url, 3 * events, seed=1)
        bad_ids = [await place(client, receiver.url, 2 * FOR_EACH_BAD, seed=2) for receiver in bad]
        endings = await read_endings(hub, len(good_ids) + sum(map(len, bad_ids)))
        good = [endings[order_id] for order_id in good_ids]
        await measure_delays(hub, healthy, good[:10])  # connections, secrets, byte code
        alone = await measure_delays(hub, healthy, good[10:events])
        first, more = ([endings[one] for ids in bad_ids for one in ids[at::2]] for at in (0, 1))
        for status in first:
            await publish(hub, status)
        await wait_until_followed(client, len(endings) + events + len(first))
        feeding = asyncio.ensure_future(feed(hub, more))
        beside = await measure_delays(hub, healthy, good[events : 2 * events])
        rate = await measure_rate(hub, healthy, good[2 * events :])
        await feeding
        metrics = (await client.get("/metrics")).text
        for receiver in (healthy, *bad):
            await receiver.stop()
    alone_ms, beside_ms = (percentile(delays, 0.99) for delays in (alone, beside))
    report(
        "webhooks",
        {
            "deliveries_per_s": round(rate, 1),
            **summarise("delay_alone_ms", alone, digits=1),
            **summarise("delay_beside_bad_ms", beside, digits=1),
            "p99_ratio": round(beside_ms / alone_ms, 2),
            "p50_ratio": round(percentile(beside, 0.5) / percentile(alone, 0.5), 2),
            "bad_receivers": len(bad),
            "bad_events": sum(map(len, bad_ids)),
            "bad_requests": sum(receiver.requests for receiver in bad),
            "failed_attempts": sum(
                float(value)
                for value in re.findall(r"^halfdrop_webhooks_failed_total\{.*\} (\S+)", metrics, re.MULTILINE)
            ),
        },
    )


async def wait_until_followed(client: httpx.AsyncClient, statuses: int) -> None:
    """Wait until the edge has taken in so many statuses: a burst is a queue in front of the webhooks, not in them."""
    async with asyncio.timeout(DONE_WAIT_S):
        followed = 0.0
        while followed < statuses:
            await asyncio.sleep(0.2)
            found = re.search(
                r"^halfdrop_hub_events_followed_total (\S+)", (await client.get("/metrics")).text, re.MULTILINE
            )
            followed = float(found[1]) if found else 0.0


async def feed(hub: Broker, statuses: list[JobStatus]) -> None:
    """Have more events for the broken receivers come in while the healthy one is measured."""
    for status in statuses:
        await publish(hub, status)
        await asyncio.sleep(RATE_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200, help="events to the healthy receiver in each of three parts")
    asyncio.run(main(parser.parse_args().events))
