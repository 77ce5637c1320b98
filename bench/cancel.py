"""How soon a canceled job has stopped, wherever it is: in a denoising step, refined, in the finishing threads, in an
upload, or waiting for a retry.

Two times for each cancel, from its publishing: until EVENTS says "canceled" (`told`), and until the worker's threads
are free for another job (`free`), both in milliseconds. Real parts: the shipped model on the CPU, NATS, an object store
in a folder; only the uploads are slowed down, and a retry is brought about by a job time of nothing.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Barrier

import structlog
from measuring import percentile, report, summarise

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobState, decode_status, encode_job
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.deploy.servers import run_nats_server
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.withdrawing import withdraw_canceled
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir, shipped_refiner_dir
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.streams import ensure_hub_streams

THREADS = 2
UPLOAD_S = 5.0
STEPS = 8

Parts = tuple[ThreadPoolExecutor, Sampler, PlateRefiner]

PLACES = {
    # stage to wait for, size, whether uploads are slow, job_max_s
    "sampling": ("sampling", 256, False, 600.0),
    "refining": ("refining", 256, False, 600.0),
    "finishing": ("separations", 8192, False, 600.0),
    "upload": ("drawing", 256, True, 600.0),
    "retry": ("", 8192, False, 0.001),
}


class SlowStore(ObjectStore):
    """Takes its time over every write of a file while `is_slow`."""

    is_slow = False

    async def put(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        if self.is_slow and path.startswith("jobs/"):
            await asyncio.sleep(UPLOAD_S)
        await super().put(path, data, media_type=media_type)


async def wait_for(broker: Broker, job_id: str, state: JobState, stage: str = "") -> None:
    """Wait until the newest status of the job is in `state`, and in `stage` if one is named."""
    subscription = await broker.nc.subscribe(subjects.job_event("*", job_id))
    async for message in subscription.messages:
        status = decode_status(message.data)
        if status.state is state and stage in ("", status.stage):
            await subscription.unsubscribe()
            return


async def until_free(threads: Executor, count: int) -> None:
    """Return once all threads of the pool work on nothing else."""
    barrier = Barrier(count)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(threads, barrier.wait) for _ in range(count)))


@contextmanager
def parts() -> Iterator[Parts]:
    bundle_dir = shipped_bundle_dir()
    with (
        ThreadPoolExecutor(THREADS) as threads,
        Sampler(bundle_dir, device="cpu", threads=1) as sampler,
        PlateRefiner(shipped_refiner_dir(), bundle_dir, device="cpu") as refiner,
    ):
        yield threads, sampler, refiner


@asynccontextmanager
async def worker(nats_url: str, objects: ObjectStore, job_max_s: float, at_hand: Parts) -> AsyncIterator[Hub]:
    settings = HubSettings(nats_url=nats_url, objects_url=objects.url, warm=False, job_max_s=job_max_s)
    stop, (threads, sampler, refiner) = asyncio.Event(), at_hand
    async with open_broker(nats_url, name="hub", domain=subjects.HUB_DOMAIN) as broker:
        hub = Hub(settings=settings, broker=broker, objects=objects, sampler=sampler, refiner=refiner, threads=threads)
        async with asyncio.TaskGroup() as tasks:
            withdrawing = tasks.create_task(withdraw_canceled(broker, objects, time.time))
            tasks.create_task(run_worker(hub, stop))
            yield hub
            stop.set()
            withdrawing.cancel()


async def cancel_once(broker: Broker, hub: Hub, place: str, job_id: str, chance: random.Random) -> tuple[float, float]:
    """Order a job, cancel it at the place, and return the milliseconds until it was told and until all was free."""
    stage, size_px, _, _ = PLACES[place]
    digest = open_bundle(shipped_bundle_dir()).digest
    spec = PatternSpec(
        prompt="red polka dots on white", seed=chance.getrandbits(32), num_inference_steps=STEPS, model_digest=digest
    )
    job = Job(id=job_id, origin="bench", spec=spec, size_px=size_px, created_at=time.time())
    async with asyncio.TaskGroup() as tasks:
        state = JobState.PROCESSING if stage else JobState.RETRYING
        there = tasks.create_task(wait_for(broker, job_id, state, stage))
        canceled = tasks.create_task(wait_for(broker, job_id, JobState.CANCELED))
        await broker.nc.flush()
        subject = subjects.queued_job(job.job_class, job.tenant)
        await broker.js.publish(subject, encode_job(job))
        await there
        await asyncio.sleep(chance.uniform(0.0, 0.1 if place != "finishing" else 0.5))
        began_s = time.perf_counter()
        await broker.js.publish(subjects.cancel_job(job_id), b"")
        await canceled
        told_s = time.perf_counter() - began_s
        await until_free(hub.threads, THREADS)
        await until_free(hub.sampler._executor, 1)
        await until_free(hub.refiner._executor, 1)
        return told_s * 1e3, (time.perf_counter() - began_s) * 1e3


async def measure(count: int, seed: int, at_hand: Parts) -> dict[str, object]:
    figures: dict[str, object] = {"seed": seed, "cancels": count}
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        inner = open_objects((Path(folder) / "objects").as_uri())
        objects = SlowStore(inner._store, inner.url)
        async with (
            run_nats_server(name="hub", data_dir=Path(folder) / "nats", domain=subjects.HUB_DOMAIN) as server,
            open_broker(server.url, name="bench", domain=subjects.HUB_DOMAIN) as broker,
        ):
            await ensure_hub_streams(broker.js)
            await at_hand[1].warm()
            await at_hand[2].warm()
            for place, (_, _, is_slow, job_max_s) in PLACES.items():
                objects.is_slow = is_slow
                told, free = [], []
                async with worker(server.url, objects, job_max_s, at_hand) as hub:
                    for number in range(count):
                        try:
                            async with asyncio.timeout(60):
                                times = await cancel_once(broker, hub, place, f"{place}{number}", chance)
                        except TimeoutError:  # it was done before the cancel came
                            continue
                        told.append(times[0])
                        free.append(times[1])
                figures |= summarise(f"{place}_told_ms", told, digits=1) | summarise(f"{place}_free_ms", free, digits=1)
                left = [path for path in await objects.list("jobs") if not path.endswith("result.json")]
                figures[f"{place}_files_left"] = len(left)
                print(place, f"{percentile(told, 0.5):.0f} ms, free after {percentile(free, 0.5):.0f} ms", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="cancels at each place")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run")
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    seed = arguments.seed if arguments.seed is not None else time.time_ns() % 2**32
    with parts() as at_hand:
        report("cancel", asyncio.run(measure(arguments.count, seed, at_hand)))


if __name__ == "__main__":
    main()
