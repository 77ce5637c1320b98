"""The hub's queue: jobs a second through the whole path, shares against weights, a real-time job's wait before a heap.

    python bench/fair_queue.py                      # two workers of 16 slots, 100,000 bulk jobs waiting
    python bench/fair_queue.py --workers 1 --backlog 20000

Real servers and real worker processes; only the rendering is empty. A job is pulled, read, looked up in the object
store, settled there with a result without files, announced in EVENTS and acked, as a worker does it with any job.
(The file is not called queue.py: Python would take it for its own module of that name.)

- `jobs_per_s`: jobs of four tenants in three classes, from the first that is taken to the last that is settled.
- `realtime_queue_p99_ms`: from JOBS' storing a real-time job to its start, while a tenant's bulk jobs wait;
  `empty_queue_p99_ms`: the same without them.
- `share_error`: largest error of a class's share of the work, relative to what its weight gives it.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from measuring import cpu_seconds, percentile, report
from msgspec.structs import replace
from nats.aio.msg import Msg

from halfdrop.contracts.jobs import Job, JobClass, JobState, JobStatus, decode_status, encode_job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.pools import DEFAULT_WEIGHTS
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, queued_job
from halfdrop.contracts.work import WORK_HEADER
from halfdrop.deploy.servers import NatsServer, run_nats_server
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.outcomes import Outcome, Verdict
from halfdrop.hub.reading import read_job
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.reporting import begin_status
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.settling import find_result, settle
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.objects import open_objects
from halfdrop.runtime.streams import ensure_hub_streams

SPEC = PatternSpec(prompt="red polka dots on white", model_digest="0" * 64)
BATCH = 250
PROBES = 200
PROBE_EVERY_S = 0.05


async def settle_empty(hub: Hub, delivery: Delivery, _: asyncio.Event) -> Outcome:
    """Do a job as `handle_delivery` does, with nothing to render."""
    job = read_job(delivery.data)
    key = pattern_key(job.spec)
    status = await begin_status(hub.broker, job, key, delivery, worker=hub.settings.name, clock=hub.clock)
    earlier = await find_result(hub.objects, job.tenant, job.id)
    if earlier is not None:
        outcome = Outcome(verdict=Verdict.REPEAT, status=earlier)
    else:
        done = replace(status, state=JobState.COMPLETED, completed_at=hub.clock())
        outcome = Outcome(verdict=Verdict.COMPLETE, status=done)
    await settle(hub.broker, hub.events, hub.objects, delivery, outcome)
    return outcome


async def be_worker(settings: HubSettings) -> None:
    """Run a worker in this process until it is ended."""
    none = Path("/nonexistent")
    with (
        ThreadPoolExecutor(1) as threads,
        Sampler(none, device="cpu", threads=1) as sampler,
        PlateRefiner(none, none, device="cpu", enabled=False) as refiner,
    ):
        async with open_broker(settings.nats_url, name=settings.name, domain=HUB_DOMAIN) as broker:
            objects = open_objects(settings.objects_url)
            hub = Hub(
                settings=settings, broker=broker, objects=objects, sampler=sampler, refiner=refiner, threads=threads
            )
            await run_worker(hub, asyncio.Event(), settle_empty)


class Crew:
    """Worker processes, and what they are heard to have done."""

    def __init__(self, nats: NatsServer, broker: Broker, folder: Path) -> None:
        self.nats = nats
        self.broker = broker
        self.folder = folder
        self.done: list[tuple[float, JobStatus]] = []
        self.known: set[str] = set()
        self.workers_cpu_s = 0.0
        self.pids: list[int] = []

    async def hear(self, message: Msg) -> None:
        """Take a status from EVENTS."""
        status = decode_status(message.data)
        if status.state is JobState.COMPLETED and status.id not in self.known:
            self.known.add(status.id)  # a worker that is ended between news and ack has its job announced again
            self.done.append((time.perf_counter(), status))

    @asynccontextmanager
    async def at_work(self, workers: int, slots: int) -> AsyncIterator[None]:
        """Let workers run until the block ends."""
        objects_url = (self.folder / "objects").as_uri()
        argv = [sys.executable, __file__, "--be-worker", self.nats.url, objects_url, "--slots", str(slots)]
        with (self.folder / "workers.log").open("ab") as log:
            processes = [
                await asyncio.create_subprocess_exec(*argv, "--name", f"hub-{number}", stdout=log, stderr=log)
                for number in range(workers)
            ]
        self.pids = [process.pid for process in processes]
        try:
            yield
            self.workers_cpu_s = sum(cpu_seconds(process.pid) for process in processes)
        finally:
            for process in processes:
                process.kill()
                await process.wait()

    async def order(self, count: int, tenant: str, job_class: JobClass) -> None:
        """Put jobs into JOBS, many with one atomic batch, so that a disk that syncs is no obstacle."""
        await self.broker.js.update_stream((await self.broker.js.stream_info(JOBS_STREAM)).config, allow_atomic=True)
        for start in range(0, count, BATCH):
            batch_id = secrets.token_hex(8)
            size = min(BATCH, count - start)
            for number in range(1, size + 1):
                job = make_job(tenant, job_class)
                headers = {"Nats-Msg-Id": job.id, WORK_HEADER: "1", "Nats-Batch-Id": batch_id}
                headers["Nats-Batch-Sequence"] = str(number)
                if number < size:
                    await self.broker.nc.publish(queued_job(job_class, tenant), encode_job(job), headers=headers)
            headers["Nats-Batch-Commit"] = "1"
            reply = await self.broker.nc.request(
                queued_job(job_class, tenant), encode_job(job), headers=headers, timeout=30
            )
            assert "error" not in json.loads(reply.data), reply.data

    async def order_one(self, tenant: str, job_class: JobClass) -> None:
        """Put one job into JOBS, as a forwarder does."""
        job = make_job(tenant, job_class)
        headers = {"Nats-Msg-Id": job.id, WORK_HEADER: "1"}
        await self.broker.js.publish(queued_job(job_class, tenant), encode_job(job), headers=headers)

    async def wait_for(self, count: int, *, timeout_s: float = 600.0) -> None:
        """Wait until so many jobs were heard to be done."""
        async with asyncio.timeout(timeout_s):
            while len(self.done) < count:  # noqa: ASYNC110  # the list is filled by a callback
                await asyncio.sleep(0.005)


def make_job(tenant: str, job_class: JobClass) -> Job:
    """Return a job that nobody ordered before."""
    return Job(
        id=secrets.token_hex(8),
        tenant=tenant,
        job_class=job_class,
        origin="bench",
        spec=SPEC,
        size_px=1024,
        created_at=time.time(),
    )


async def measure_throughput(crew: Crew, *, jobs: int, workers: int, slots: int) -> dict[str, object]:
    """Return jobs a second while all classes have jobs and then while they empty."""
    for tenant, job_class in (("ann", "realtime"), ("bob", "standard"), ("cid", "standard"), ("dan", "bulk")):
        await crew.order(jobs // 4, tenant, job_class)  # type: ignore[arg-type]
    crew.done.clear()
    async with crew.at_work(workers, slots):
        await crew.wait_for(jobs // 4 * 4)
    seconds = crew.done[-1][0] - crew.done[0][0]
    return {
        "jobs_per_s": round((len(crew.done) - 1) / seconds, 1),
        "worker_cpu_ms_per_job": round(crew.workers_cpu_s / len(crew.done) * 1e3, 3),
    }


async def measure_shares(crew: Crew, *, jobs: int, workers: int, slots: int) -> dict[str, object]:
    """Return the largest relative error of a class's share, while every class has jobs."""
    counts = {name: int(jobs * weight / sum(DEFAULT_WEIGHTS.values())) for name, weight in DEFAULT_WEIGHTS.items()}
    for name, count in counts.items():
        await crew.order(2 * count, f"t-{name}", name)
    crew.done.clear()
    async with crew.at_work(workers, slots):
        await crew.wait_for(2 * sum(counts.values()))
    done: defaultdict[str, int] = defaultdict(int)
    for _, status in crew.done[:jobs]:
        done[status.job_class] += 1
    ideal = {name: jobs * weight / sum(DEFAULT_WEIGHTS.values()) for name, weight in DEFAULT_WEIGHTS.items()}
    return {
        "share_error": round(max(abs(done[name] / ideal[name] - 1) for name in ideal), 4),
        "shares": {name: round(done[name] / jobs, 4) for name in ideal},
    }


async def measure_waits(crew: Crew, *, backlog: int, workers: int, slots: int) -> dict[str, object]:
    """Return how long real-time jobs wait, in an empty system and before a backlog of bulk jobs."""
    figures: dict[str, object] = {}
    for name, bulk in (("empty", 0), ("realtime", backlog)):
        await crew.order(bulk, "heap", "bulk")
        crew.done.clear()
        async with crew.at_work(workers, slots):
            if bulk:
                await crew.wait_for(100)
            else:
                await crew.order_one("warm", "standard")
                await crew.wait_for(1)
            for _ in range(PROBES):
                await crew.order_one("probe", "realtime")
                await asyncio.sleep(PROBE_EVERY_S)
            left = (await crew.broker.js.stream_info(JOBS_STREAM)).state.messages
            await asyncio.sleep(2)
        waits = [
            ((status.started_at or 0) - (status.queued_at or 0)) * 1e3
            for _, status in crew.done
            if status.tenant == "probe"
        ]
        assert len(waits) == PROBES, f"{len(waits)} of {PROBES} real-time jobs were done"
        figures |= {
            f"{name}_queue_p50_ms": round(percentile(waits, 0.5), 2),
            f"{name}_queue_p99_ms": round(percentile(waits, 0.99), 2),
        }
        if bulk:
            figures["bulk_left"] = left
    return figures


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Return all figures."""
    figures: dict[str, object] = {"workers": arguments.workers, "slots": arguments.slots, "backlog": arguments.backlog}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            run_nats_server(name="hub", data_dir=folder / "nats", domain=HUB_DOMAIN, leaf_port=0) as nats,
            open_broker(nats.url, name="bench", domain=HUB_DOMAIN) as broker,
        ):
            await ensure_hub_streams(broker.js)
            crew = Crew(nats, broker, folder)
            await broker.nc.subscribe("events.bench.*", cb=crew.hear)
            crowd = {"workers": arguments.workers, "slots": arguments.slots}
            figures |= await measure_throughput(crew, jobs=arguments.jobs, **crowd)
            figures |= await measure_shares(crew, jobs=arguments.jobs // 2, **crowd)
            figures |= await measure_waits(crew, backlog=arguments.backlog, **crowd)
    return figures


def main() -> None:
    """Run the benchmark, or one of its workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=4_000)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--be-worker", nargs=2, metavar=("NATS", "OBJECTS"), help=argparse.SUPPRESS)
    parser.add_argument("--name", default="hub-0", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be_worker:
        nats_url, objects_url = arguments.be_worker
        settings = HubSettings(
            name=arguments.name, nats_url=nats_url, objects_url=objects_url, slots=arguments.slots, warm=False
        )
        configure_logs(settings.name)
        uvloop.run(be_worker(settings))  # as a worker runs
        return
    report("fair_queue", asyncio.run(run(arguments)))


if __name__ == "__main__":
    main()
