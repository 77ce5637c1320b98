"""A hub worker in this process, over a real NATS server and an object store in a folder.

Long because all of these share one bench, and modules of tests do not import each other.
"""

import asyncio
import hashlib
import io
import shutil
import signal
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest
from nats.js.errors import NotFoundError
from PIL import Image

from halfdrop.contracts import subjects
from halfdrop.contracts.claims import CLAIM_HEADER, claim_path
from halfdrop.contracts.jobs import Job, JobState, JobStatus, decode_status, encode_job, encode_status
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, Plates, decode_plates
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.printing.manifest import read_manifest
from halfdrop.hub.printing.reproducing import reproduce
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir, shipped_refiner_dir
from halfdrop.models.fields import fields_to_plates
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.streams import ensure_hub_streams

WaitUntil = Callable[..., Awaitable[None]]

KILLED_WORKER = Path(__file__).with_name("killed_worker.py")

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


class Bench:
    """What a test needs: the hub's streams from outside, and workers to start."""

    def __init__(self, broker: Broker, objects: ObjectStore, tmp_path: Path, nats_url: str) -> None:
        self.broker = broker
        self.objects = objects
        self.settings = HubSettings(nats_url=nats_url, objects_url=objects.url, ack_wait_s=2, grace_s=20, warm=False)
        self.bundle_dir = tmp_path / "no-bundle"
        self.refiner_dir = tmp_path / "no-refiner"

    async def order(self, job: Job, **headers: str) -> None:
        subject = subjects.queued_job(job.job_class, job.tenant)
        await self.broker.js.publish(subject, encode_job(job), headers={"Nats-Msg-Id": job.id, **headers})

    async def last(self, job_id: str) -> JobStatus | None:
        try:
            message = await self.broker.js.get_last_msg(subjects.EVENTS_STREAM, subjects.job_event("test", job_id))
        except NotFoundError:
            return None
        assert message.data is not None
        return decode_status(message.data)

    async def has_state(self, job_id: str, state: JobState) -> bool:
        status = await self.last(job_id)
        return status is not None and status.state == state

    async def statuses(self, job_id: str) -> list[JobStatus]:
        state = (await self.broker.js.stream_info(subjects.EVENTS_STREAM)).state
        found = []
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await self.broker.js.get_msg(subjects.EVENTS_STREAM, seq=sequence)
            if message.subject == subjects.job_event("test", job_id):
                assert message.data is not None
                found.append(decode_status(message.data))
        return found

    async def waiting(self, stream: str = subjects.JOBS_STREAM) -> int:
        return (await self.broker.js.stream_info(stream)).state.messages

    @property
    def folder(self) -> Path:
        return Path(urlsplit(self.objects.url).path)

    def take_store_away(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.write_text("no folder at the moment")

    def bring_store_back(self) -> None:
        self.folder.unlink()
        self.folder.mkdir()

    async def is_empty(self) -> bool:
        return await self.waiting() == 0

    async def read(self, job: Job, name: str) -> bytes:
        data = await self.objects.get(subjects.artifact_path(job.tenant, job.id, name))
        assert data is not None, name
        return data

    @asynccontextmanager
    async def worker(self, name: str = "hub-1", **changes: float) -> AsyncIterator[asyncio.Event]:
        """Run a worker until the block ends; the event it gives stops it earlier."""
        settings = msgspec.structs.replace(self.settings, name=name, **changes)
        stop = asyncio.Event()
        with (
            ThreadPoolExecutor(2) as threads,
            Sampler(self.bundle_dir, device="cpu", threads=1) as sampler,
            PlateRefiner(self.refiner_dir, self.bundle_dir, device="cpu") as refiner,
        ):
            async with open_broker(settings.nats_url, name=name, domain=subjects.HUB_DOMAIN) as broker:
                hub = Hub(
                    settings=settings,
                    broker=broker,
                    objects=self.objects,
                    sampler=sampler,
                    refiner=refiner,
                    threads=threads,
                )
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(run_worker(hub, stop))
                    try:
                        yield stop
                    finally:
                        stop.set()


@pytest.fixture
async def bench(hub_nats: NatsServer, objects_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_broker(hub_nats.url, name="test", domain=subjects.HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        yield Bench(broker, open_objects(objects_url), tmp_path, hub_nats.url)


async def test_a_job_becomes_files_that_wrap_on_its_lattice_and_agree_with_each_other(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job(size_px=256)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))

    status = await bench.last(job.id)
    assert status is not None
    assert [a.name for a in status.artifacts] == [
        "master.png",
        "plate-1-c0392b.png",
        "plate-2-1d3557.png",
        "pattern.svg",
        "proof.png",
        "manifest.json",
    ]
    for artifact in status.artifacts:
        data = await bench.objects.get(artifact.path)
        assert data is not None
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.size_bytes, artifact.sha256)

    png = Image.open(io.BytesIO(await bench.read(job, "master.png")))
    master = np.asarray(png)
    assert master.shape == (256, 256, 3)
    assert png.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert "icc_profile" in png.info
    assert "trainedAlgorithmicMedia" in png.info["XML:com.adobe.xmp"]
    assert '"prompt":"red dots"' in png.info["XML:com.adobe.xmp"]
    # a half-drop: one unit across and half a unit down is the same place
    np.testing.assert_array_equal(master, np.roll(master, (64, 128), axis=(0, 1)))
    colours = {tuple(c) for c in master.reshape(-1, 3).tolist()}
    assert {(0xF4, 0xEF, 0xE6), (0xC0, 0x39, 0x2B), (0x1D, 0x35, 0x57)} <= colours

    outer, inner = [
        np.asarray(Image.open(io.BytesIO(await bench.read(job, name)))) for name in
        ("plate-1-c0392b.png", "plate-2-1d3557.png")
    ]  # fmt: skip
    assert outer.dtype == np.uint8
    assert outer.shape == (256, 256)
    assert (master[(outer == 255) & (inner == 0)] == (0xC0, 0x39, 0x2B)).all()
    assert (master[inner == 255] == (0x1D, 0x35, 0x57)).all()
    assert (master[outer == 0] == (0xF4, 0xEF, 0xE6)).all()
    assert outer.mean() / 255 == pytest.approx(np.pi * 24**2 / 64**2, rel=0.01)

    proof = np.asarray(Image.open(io.BytesIO(await bench.read(job, "proof.png"))))
    np.testing.assert_array_equal(proof, np.tile(master, (3, 3, 1)))
    drawing = ET.fromstring(await bench.read(job, "pattern.svg"))
    assert drawing.tag.endswith("svg")
    assert await bench.waiting() == 0


def export_small_refiner(tmp_path: Path) -> Path:
    """Export a refiner that has learnt nothing, and moves every edge outwards by a third of a grid pixel."""
    import torch

    from halfdrop.models.house.refiner.export import export_refiner
    from halfdrop.models.house.refiner.settings import RefinerSettings
    from halfdrop.models.house.refiner.train import CHECKPOINT_FILE, SETTINGS_FILE, VOCABULARY_FILE, begin_run
    from halfdrop.models.house.tokenizer import Tokenizer

    folder = tmp_path / "run"
    folder.mkdir()
    tokenizer = Tokenizer.build(["red dots"])
    tokenizer.save(folder / VOCABULARY_FILE)
    (folder / SETTINGS_FILE).write_text("{}")
    run = begin_run(RefinerSettings(), tokenizer, "cpu")
    assert run.average.head.bias is not None
    torch.nn.init.constant_(run.average.head.bias, 1 / 18)
    run.save(folder / CHECKPOINT_FILE)
    export_refiner(folder, tmp_path / "refiner")
    return tmp_path / "refiner"


async def test_plates_of_the_hubs_own_model_are_refined_and_others_are_not(
    bench: Bench, wait_until: WaitUntil, tmp_path: Path
) -> None:
    bench.refiner_dir, bench.bundle_dir = export_small_refiner(tmp_path), shipped_bundle_dir()
    own = msgspec.structs.replace(SPEC, model_digest=open_bundle(bench.bundle_dir).digest)
    ours, theirs = make_job("ours", spec=own), make_job("theirs")
    async with bench.worker():
        await bench.order(ours)
        await bench.order(theirs)
        await wait_until(lambda: bench.has_state("theirs", JobState.COMPLETED))
    refined, plain = await bench.last("ours"), await bench.last("theirs")
    assert refined is not None
    assert plain is not None
    assert refined.refiner_digest == open_bundle(bench.refiner_dir).digest
    assert "layers refined: 1, 2; kept as previewed: none" in refined.log
    assert plain.refiner_digest is msgspec.UNSET
    assert "layers: as previewed" in plain.log
    for name, radius_px in (("plate-1-c0392b.png", 24), ("plate-2-1d3557.png", 9)):
        before, after = [
            np.asarray(Image.open(io.BytesIO(await bench.read(job, name)))).mean() / 255 for job in (theirs, ours)
        ]
        assert before == pytest.approx(np.pi * radius_px**2 / 64**2, rel=0.01)
        assert after == pytest.approx(np.pi * (radius_px + 1 / 3) ** 2 / 64**2, rel=0.01)
    assert [a.name for a in refined.artifacts] == [a.name for a in plain.artifacts]


async def test_a_damaged_refiner_is_not_used_and_stops_no_job(
    bench: Bench, wait_until: WaitUntil, tmp_path: Path
) -> None:
    bench.refiner_dir, bench.bundle_dir = export_small_refiner(tmp_path), shipped_bundle_dir()
    (bench.refiner_dir / "refiner" / "config.json").write_text("{}")
    job = make_job(spec=msgspec.structs.replace(SPEC, model_digest=open_bundle(bench.bundle_dir).digest))
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert status.refiner_digest is msgspec.UNSET
    assert "layers: as previewed" in status.log


async def test_the_result_lies_beside_the_files_and_is_what_was_announced(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job()
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert decode_status(await bench.read(job, "result.json")) == status
    assert status.worker == "hub-1"
    assert status.step == status.steps > 0
    assert status.queued_at is not None
    assert status.started_at is not None
    assert status.completed_at is not None
    assert status.created_at <= status.queued_at <= status.started_at <= status.completed_at
    assert any(line.startswith("seams: ") for line in status.log)


async def test_formats_that_are_asked_for_are_made_beside_the_usual_files(bench: Bench, wait_until: WaitUntil) -> None:
    asked: tuple[PrintFormat, ...] = ("pdf", "tiff", "tiff-indexed", "tiff-separated")
    job = msgspec.structs.replace(make_job(), formats=asked)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    done = await bench.last(job.id)
    assert done is not None
    assert (done.step, done.steps) == (16, 16)
    names = ("pattern.pdf", "master.tiff", "indexed.tiff", "separated.tiff")
    assert [artifact.name for artifact in done.artifacts][-5:] == [*names, "manifest.json"]
    starts = [(await bench.read(job, name))[:4] for name in names]
    assert starts == [b"%PDF", b"II*\0", b"II*\0", b"II*\0"]


async def test_colourways_are_the_same_plates_in_other_colours_and_the_manifest_makes_all_again(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = msgspec.structs.replace(
        make_job(size_px=256),
        formats=("inks",),
        colourways=(("#102030", "#f0e0d0"),),
        printing=PrintOptions(inks_max=3),
    )
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    done = await bench.last(job.id)
    assert done is not None
    names = [artifact.name for artifact in done.artifacts]
    assert names[-5:] == [
        "inks.json",
        "colourway-1-master.png",
        "colourway-1-pattern.svg",
        "colourway-1-inks.json",
        "manifest.json",
    ]
    master, other = [
        np.asarray(Image.open(io.BytesIO(await bench.read(job, name)))) for name in
        ("master.png", "colourway-1-master.png")
    ]  # fmt: skip
    assert ((master == (0xF4, 0xEF, 0xE6)).all(-1) == (other == (0x10, 0x20, 0x30)).all(-1)).all()
    assert ((master == (0xC0, 0x39, 0x2B)).all(-1) == (other == (0xF0, 0xE0, 0xD0)).all(-1)).all()
    manifest = await bench.read(job, "manifest.json")
    told = {file.name: file.sha256 for file in read_manifest(manifest)[0].files}
    assert told == {artifact.name: artifact.sha256 for artifact in done.artifacts if artifact.name != "manifest.json"}
    made = await asyncio.to_thread(reproduce, manifest, refiner_dir=shipped_refiner_dir())
    assert (made.different, made.missing, made.elsewhere) == ([], [], [])


async def test_more_inks_than_the_press_takes_end_the_job_with_what_is_allowed(
    bench: Bench, wait_until: WaitUntil
) -> None:
    refused = {
        "too-many-inks": (PrintOptions(inks_max=2), "got 3, the ground included; allowed: 2"),
        "unknown-profile": (PrintOptions(profile="mill"), "got 'mill'; allowed: none is installed"),
    }
    async with bench.worker():
        for code, (options, said) in refused.items():
            await bench.order(msgspec.structs.replace(make_job(code), printing=options))
            await wait_until(lambda code=code: bench.has_state(code, JobState.FAILED))
            done = await bench.last(code)
            assert done is not None
            assert done.error is not None
            assert done.error.code == code
            assert said in done.error.detail


async def test_workers_killed_in_one_finishing_step_after_another_lose_nothing_and_make_no_file_twice(
    bench: Bench, wait_until: WaitUntil, tmp_path: Path
) -> None:
    job = msgspec.structs.replace(make_job(), formats=("pdf", "inks"), colourways=(("#102030",),))
    await bench.order(job)
    written: list[list[str]] = []
    for number, deadly in enumerate(("plate-2-1d3557.png", "manifest.json", "")):
        told = tmp_path / f"written-{number}"
        told.touch()
        command = [KILLED_WORKER, bench.settings.nats_url, bench.objects.url, deadly, told]
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        if deadly:
            assert await process.wait() == -signal.SIGKILL
        else:
            await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
            process.terminate()
            await process.wait()
        written.append(told.read_text().split())
    # each begins where the one before it died; the last has only the manifest left to write
    assert written[-1] == ["manifest.json"]
    made = [name for names in written for name in names]
    assert sorted(made) == sorted(set(made))
    done = await bench.last(job.id)
    assert done is not None
    assert {artifact.name for artifact in done.artifacts} == set(made)
    whole = msgspec.structs.replace(job, id="undisturbed")
    async with bench.worker():
        await bench.order(whole)
        await wait_until(lambda: bench.has_state(whole.id, JobState.COMPLETED))
    undisturbed = await bench.last(whole.id)
    assert undisturbed is not None
    assert [a.sha256 for a in done.artifacts] == [a.sha256 for a in undisturbed.artifacts]


async def test_two_orders_of_one_pattern_give_the_same_bytes(bench: Bench, wait_until: WaitUntil) -> None:
    first, second = make_job("job1"), make_job("job2")
    async with bench.worker():
        await bench.order(first)
        await bench.order(second)
        await wait_until(lambda: bench.has_state("job2", JobState.COMPLETED))
    one, two = await bench.last("job1"), await bench.last("job2")
    assert one is not None
    assert two is not None
    assert [a.sha256 for a in one.artifacts] == [a.sha256 for a in two.artifacts]


async def test_progress_names_each_stage_and_never_goes_back(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job(size_px=2048)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    statuses = await bench.statuses(job.id)
    assert statuses[0].state == JobState.PROCESSING
    assert {"master", "separations", "drawing", "proof"} <= {s.stage for s in statuses}
    steps = [s.step for s in statuses]
    assert steps == sorted(steps)
    assert len(statuses) < 30


async def test_a_finished_job_that_comes_again_is_only_announced_again(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job()
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
        result = await bench.read(job, "result.json")
        master = bench.folder / subjects.artifact_path("local", job.id, "master.png")
        written_ns = master.stat().st_mtime_ns
        # the same order again, past the broker's own memory of it
        await bench.broker.js.publish(subjects.queued_job("standard", "local"), encode_job(job))
        await wait_until(bench.is_empty)
    assert await bench.read(job, "result.json") == result
    assert master.stat().st_mtime_ns == written_ns
    assert [s.state for s in await bench.statuses(job.id)].count(JobState.COMPLETED) == 1


async def test_a_result_that_another_worker_left_stands(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job(size_px=4096)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.PROCESSING))
        begun = await bench.last(job.id)
        assert begun is not None
        theirs = msgspec.structs.replace(begun, state=JobState.COMPLETED, worker="hub-9", completed_at=2.0)
        path = subjects.artifact_path(job.tenant, job.id, "result.json")
        await bench.objects.put(path, encode_status(theirs))
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    assert await bench.last(job.id) == theirs
    assert decode_status(await bench.read(job, "result.json")) == theirs


async def test_a_message_that_is_no_job_goes_to_the_dead_letters_and_stops_nobody(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job()
    bad_id = msgspec.structs.replace(make_job(), id="../../etc")
    async with bench.worker():
        await bench.broker.js.publish(subjects.queued_job("standard", "local"), b"\xff not a job")
        await bench.broker.js.publish(subjects.queued_job("standard", "local"), encode_job(bad_id))
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    assert await bench.waiting(subjects.DEAD_STREAM) == 2
    dead = await bench.broker.js.get_msg(subjects.DEAD_STREAM, seq=1)
    assert dead.data == b"\xff not a job"
    assert dead.headers is not None
    assert dead.headers["Halfdrop-Cause"] == "bad-job"
    assert "not a job" in dead.headers["Halfdrop-Detail"]
    assert await bench.waiting() == 0


async def test_what_can_never_be_finished_fails_at_once_with_its_cause(bench: Bench, wait_until: WaitUntil) -> None:
    other = msgspec.structs.replace(SPEC, seed=7)
    job = msgspec.structs.replace(make_job(), plates=dots(other))
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.FAILED))
        await wait_until(bench.is_empty)
    status = await bench.last(job.id)
    assert status is not None
    assert status.error is not None
    assert (status.error.code, status.attempt) == ("bad-plates", 1)
    assert await bench.waiting(subjects.DEAD_STREAM) == 1


async def test_a_job_cancelled_before_its_start_never_runs(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job()
    await bench.order(job)
    await bench.broker.js.publish(subjects.cancel_job(job.id))
    async with bench.worker():
        await wait_until(lambda: bench.has_state(job.id, JobState.CANCELED))
        await wait_until(bench.is_empty)
    assert [s.state for s in await bench.statuses(job.id)] == [JobState.CANCELED]
    assert await bench.objects.list("jobs") == []


async def test_a_running_job_is_cancelled_at_once_and_leaves_no_files(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job(size_px=8192)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.PROCESSING))
        await bench.broker.js.publish(subjects.cancel_job(job.id))
        began_s = time.monotonic()
        await wait_until(lambda: bench.has_state(job.id, JobState.CANCELED))
        assert time.monotonic() - began_s < 1.0
        await wait_until(bench.is_empty)
    assert await bench.objects.list("jobs") == []


class HeldStore(ObjectStore):
    """A store that keeps every upload waiting until the gate opens."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(objects._store, objects.url)
        self.gate = asyncio.Event()
        self.waiting = 0

    async def put(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        await super().put(path, data, media_type=media_type)


async def test_of_several_running_jobs_exactly_the_canceled_one_stops(bench: Bench, wait_until: WaitUntil) -> None:
    held = HeldStore(bench.objects)
    bench.objects = held
    names = ("first", "second", "third")
    async with bench.worker(slots=3):
        for name in names:
            await bench.order(make_job(name))
        await wait_until(lambda: held.waiting >= 3)  # each of them is in the middle of it
        await bench.broker.js.publish(subjects.cancel_job("second"))
        await wait_until(lambda: bench.has_state("second", JobState.CANCELED))
        for name in ("first", "third"):
            assert await bench.has_state(name, JobState.PROCESSING)
        held.gate.set()
        await wait_until(bench.is_empty)
    for name in ("first", "third"):
        done = await bench.last(name)
        assert done is not None
        assert (done.state, done.attempt, len(done.artifacts) > 0) == (JobState.COMPLETED, 1, True)
        assert await bench.objects.list(f"jobs/local/{name}")
    assert await bench.objects.list("jobs/local/second") == []


async def test_a_job_that_another_region_claimed_is_left_to_it_and_others_are_claimed(
    bench: Bench, wait_until: WaitUntil
) -> None:
    theirs, ours = make_job("theirs"), make_job("ours")
    await bench.objects.put(claim_path("local", "theirs"), b"us")
    for job in (theirs, ours):
        await bench.order(job, **{CLAIM_HEADER: "local"})
    await bench.broker.js.publish(subjects.cancel_job("theirs"))
    async with bench.worker():
        await wait_until(lambda: bench.has_state("ours", JobState.COMPLETED))
        await wait_until(bench.is_empty)
    assert await bench.statuses("theirs") == []
    assert await bench.objects.list("jobs/local/theirs") == []
    assert await bench.objects.get(claim_path("local", "theirs")) == b"us"
    assert await bench.objects.get(claim_path("local", "ours")) == b"local"


async def test_with_the_object_store_away_a_job_is_tried_again_and_completes(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job()
    bench.take_store_away()
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING))
        retrying = await bench.last(job.id)
        assert retrying is not None
        assert retrying.error is not None
        assert retrying.error.is_transient
        bench.bring_store_back()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert status.attempt == 2
    assert status.started_at == retrying.started_at


async def test_an_outage_of_the_object_store_spends_a_jobs_deliveries_slowly(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job()
    bench.take_store_away()

    async def has_tried_twice() -> bool:
        status = await bench.last(job.id)
        return status is not None and status.attempt == 2 and status.state is JobState.RETRYING

    async with bench.worker(max_deliver=1):
        await bench.order(job)
        await wait_until(has_tried_twice)
        bench.bring_store_back()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    assert await bench.waiting(subjects.DEAD_STREAM) == 0


async def test_work_without_an_end_is_called_off_and_tried_again(bench: Bench, wait_until: WaitUntil) -> None:
    async with bench.worker(job_max_s=0.01, max_deliver=1):
        await bench.order(make_job(size_px=8192))
        await wait_until(lambda: bench.has_state("job1", JobState.FAILED))
    status = await bench.last("job1")
    assert status is not None
    assert status.error is not None
    assert status.error.code == "too-slow"


async def test_after_its_last_delivery_a_job_fails_and_lies_with_the_dead_letters(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job(size_px=8192)
    async with bench.worker(max_deliver=2, job_max_s=0.01):
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.FAILED))
        await wait_until(bench.is_empty)
    status = await bench.last(job.id)
    assert status is not None
    assert status.error is not None
    assert (status.error.code, status.attempt) == ("too-slow", 2)
    dead = await bench.broker.js.get_last_msg(subjects.DEAD_STREAM, subjects.dead_job(job.id))
    assert dead.data == encode_job(job)


async def test_a_worker_that_stops_hands_its_job_back_to_the_next_at_once(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job(size_px=4096)
    async with bench.worker("hub-1", grace_s=0, ack_wait_s=30) as stop:
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.PROCESSING))
        stop.set()
        await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING))
    async with bench.worker("hub-2", ack_wait_s=30):
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert (status.worker, status.attempt) == ("hub-2", 2)


async def test_a_worker_that_stops_finishes_what_its_grace_allows(bench: Bench, wait_until: WaitUntil) -> None:
    job, later = make_job("job1", size_px=4096), make_job("job2")
    async with bench.worker() as stop:
        await bench.order(job)
        await bench.order(later)
        await wait_until(lambda: bench.has_state(job.id, JobState.PROCESSING))
        stop.set()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    assert await bench.last("job2") is None
    assert await bench.waiting() == 1


async def test_a_worker_outlives_its_broker(bench: Bench, hub_nats: NatsServer, wait_until: WaitUntil) -> None:
    async with bench.worker():
        await bench.order(make_job("job1"))
        await wait_until(lambda: bench.has_state("job1", JobState.COMPLETED))
        await hub_nats.kill()
        await wait_until(lambda: not bench.broker.is_connected)
        await hub_nats.start()
        await wait_until(lambda: bench.broker.is_connected)
        await bench.order(make_job("job2"))
        await wait_until(lambda: bench.has_state("job2", JobState.COMPLETED))


async def test_workers_share_the_queue_and_finish_each_job_once(bench: Bench, wait_until: WaitUntil) -> None:
    job_ids = [f"job{number}" for number in range(8)]
    async with bench.worker("hub-1"), bench.worker("hub-2"):
        for job_id in job_ids:
            await bench.order(make_job(job_id, size_px=1024))
        await wait_until(bench.is_empty, timeout_s=30)
    workers = set()
    for job_id in job_ids:
        statuses = await bench.statuses(job_id)
        assert [s.state for s in statuses].count(JobState.COMPLETED) == 1
        assert statuses[-1].attempt == 1
        workers.add(statuses[-1].worker)
    assert workers == {"hub-1", "hub-2"}


async def test_a_job_without_plates_is_drawn_once_and_its_plates_are_kept(bench: Bench, wait_until: WaitUntil) -> None:
    bench.bundle_dir = shipped_bundle_dir()
    spec = PatternSpec(prompt="red polka dots on white", model_digest=open_bundle(bench.bundle_dir).digest)
    first, second = (
        Job(id=job_id, origin="test", spec=spec, size_px=256, created_at=time.time()) for job_id in ("job1", "job2")
    )
    async with bench.worker():
        await bench.order(first)
        await wait_until(lambda: bench.has_state("job1", JobState.COMPLETED), timeout_s=60)
        await bench.order(second)
        await wait_until(lambda: bench.has_state("job2", JobState.COMPLETED))
    stored = await bench.objects.get(subjects.plates_path(pattern_key(spec)))
    assert stored is not None
    assert decode_plates(stored).model_digest == spec.model_digest
    drawn, found = await bench.last("job1"), await bench.last("job2")
    assert drawn is not None
    assert found is not None
    assert drawn.steps == found.steps + spec.num_inference_steps
    assert any(line.startswith("sampling: ") for line in drawn.log)
    assert [a.sha256 for a in drawn.artifacts] == [a.sha256 for a in found.artifacts]
