"""A hub worker in the process of a test, over a real NATS server and an object store in a folder."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest
from nats.js.errors import NotFoundError

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobState, JobStatus, decode_status, encode_job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.models.fields import fields_to_plates
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.streams import ensure_hub_streams

PALETTE = ("#f4efe6", "#c0392b", "#1d3557", "#000000", "#ffffff")
SPEC = PatternSpec(prompt="red dots", repeat=Repeat(layout="half-drop", units=2).normalise(), model_digest="0" * 64)


def dots(spec: PatternSpec) -> Plates:
    """Plates with two used layers: a round dot, and a smaller one upon it."""
    places = np.arange(GRID_PX) + 0.5 - GRID_PX / 2
    distance = np.hypot(places[:, None], places[None, :])
    fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
    fields[0] = np.clip((24 - distance) / BAND_PX, -1, 1)
    fields[1] = np.clip((9 - distance) / BAND_PX, -1, 1)
    return fields_to_plates(fields, PALETTE, pattern_key=pattern_key(spec), model_digest=spec.model_digest)


def make_job(job_id: str = "job1", *, size_px: int = 256, spec: PatternSpec = SPEC) -> Job:
    return Job(id=job_id, origin="test", spec=spec, size_px=size_px, plates=dots(spec), created_at=time.time())


class HubView:
    """A hub's streams and object store from outside: orders, and what is told of them."""

    def __init__(self, broker: Broker, objects: ObjectStore) -> None:
        self.broker = broker
        self.objects = objects

    async def order(self, job: Job, **headers: str) -> None:
        subject = subjects.queued_job(job.job_class, job.tenant)
        await self.broker.js.publish(subject, encode_job(job), headers={"Nats-Msg-Id": job.id, **headers})

    async def last(self, job_id: str) -> JobStatus | None:
        try:
            message = await self.broker.js.get_last_msg(subjects.EVENTS_STREAM, subjects.job_event("test", job_id))
        except NotFoundError:
            return None
        return decode_status(message.data or b"")

    async def has_state(self, job_id: str, state: JobState, attempt: int = 0) -> bool:
        status = await self.last(job_id)
        return status is not None and status.state is state and status.attempt >= attempt

    async def statuses(self, job_id: str) -> list[JobStatus]:
        """Return all that was told of the job, oldest first."""
        state = (await self.broker.js.stream_info(subjects.EVENTS_STREAM)).state
        messages = [
            await self.broker.js.get_msg(subjects.EVENTS_STREAM, seq=number)
            for number in range(state.first_seq, state.last_seq + 1)
        ]
        return [decode_status(m.data or b"") for m in messages if m.subject == subjects.job_event("test", job_id)]

    async def waiting(self, stream: str = subjects.JOBS_STREAM) -> int:
        return (await self.broker.js.stream_info(stream)).state.messages

    async def is_empty(self) -> bool:
        return await self.waiting() == 0

    async def read(self, job: Job, name: str) -> bytes:
        data = await self.objects.get(subjects.artifact_path(job.tenant, job.id, name))
        assert data is not None, name
        return data


@asynccontextmanager
async def open_hub(nats_url: str) -> AsyncIterator[Broker]:
    """Connect to a hub's NATS as a test, with its streams made."""
    async with open_broker(nats_url, name="test", domain=subjects.HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        yield broker


@asynccontextmanager
async def running_hub(
    settings: HubSettings, objects: ObjectStore, *, sampler: Sampler, refiner: PlateRefiner
) -> AsyncIterator[asyncio.Event]:
    """Run a worker until the block ends; the event it gives stops it earlier."""
    stop = asyncio.Event()
    with ThreadPoolExecutor(2) as threads:
        async with open_broker(settings.nats_url, name=settings.name, domain=subjects.HUB_DOMAIN) as broker:
            hub = Hub(
                settings=settings, broker=broker, objects=objects, sampler=sampler, refiner=refiner, threads=threads
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_worker(hub, stop))
                try:
                    yield stop
                finally:
                    stop.set()


class Bench(HubView):
    """Workers that have no model unless they are given one, and finish jobs that bring their plates."""

    def __init__(self, broker: Broker, objects: ObjectStore, tmp_path: Path, nats_url: str) -> None:
        super().__init__(broker, objects)
        self.settings = HubSettings(nats_url=nats_url, objects_url=objects.url, ack_wait_s=2, grace_s=20, warm=False)
        self.bundle_dir = tmp_path / "no-bundle"
        self.refiner_dir = tmp_path / "no-refiner"

    @property
    def folder(self) -> Path:
        return Path(urlsplit(self.objects.url).path)

    def take_store_away(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.write_text("no folder at the moment")

    def bring_store_back(self) -> None:
        self.folder.unlink()
        self.folder.mkdir()

    @asynccontextmanager
    async def worker(self, name: str = "hub-1", **changes: float) -> AsyncIterator[asyncio.Event]:
        """Run a worker until the block ends; the event it gives stops it earlier."""
        settings = msgspec.structs.replace(self.settings, name=name, **changes)
        with (
            Sampler(self.bundle_dir, device="cpu", threads=1) as sampler,
            PlateRefiner(self.refiner_dir, self.bundle_dir, device="cpu") as refiner,
        ):
            async with running_hub(settings, self.objects, sampler=sampler, refiner=refiner) as stop:
                yield stop


@pytest.fixture
async def bench(hub_nats: NatsServer, objects_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_hub(hub_nats.url) as broker:
        yield Bench(broker, open_objects(objects_url), tmp_path, hub_nats.url)
