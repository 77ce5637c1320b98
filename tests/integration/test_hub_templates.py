"""Orders by a template through a real hub worker: files and report, another seed, and a gate that fails for good."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hub_bench import HubView, open_hub, running_hub

from halfdrop.contracts import subjects
from halfdrop.contracts.gate_reports import REPORT_NAME, decode_report
from halfdrop.contracts.jobs import Job, JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec, canonical_bytes, pattern_key
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, Plates, encode_plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.templates import AtLeast, AtMost, Finishing, Gates
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.fields import Fields, fields_to_plates
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore, open_objects

WaitUntil = Callable[..., Awaitable[None]]

PALETTE = ("#f4efe6", "#c0392b", "#1d3557", "#000000", "#ffffff")
HALF_DROP = Repeat(layout="half-drop", units=2).normalise()
SEAMS = AtMost(max=1.1)


def spec_of(prompt: str = "red dots") -> PatternSpec:
    return PatternSpec(prompt=prompt, repeat=HALF_DROP, num_inference_steps=2, model_digest=bundle_digest())


def bundle_digest() -> str:
    return open_bundle(shipped_bundle_dir()).digest


def plates_of(spec: PatternSpec, radius_px: float) -> Plates:
    """A dot on the border, so that its other half hangs half a unit lower; radius 0: nothing at all."""
    places = (np.arange(GRID_PX) + 0.5) / GRID_PX
    u, v = np.meshgrid(places, places)
    fields: Fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
    if radius_px:
        across, down = np.minimum(np.abs(u - 0.4), 1 - np.abs(u - 0.4)), np.abs(v - 0.4)
        fields[0] = np.clip((radius_px - GRID_PX * np.hypot(across, down)) / BAND_PX, -1, 1)
    return fields_to_plates(fields, PALETTE, pattern_key=pattern_key(spec), model_digest=spec.model_digest)


def finishing(gates: Gates) -> Finishing:
    return Finishing(
        template="test@1",
        digest="d" * 64,
        steps=("separate", "trace"),
        outputs=("png", "plates", "pdf"),
        gates=gates,
    )


def make_job(job_id: str, gates: Gates, *, radius_px: float = 20, tenant: str = "local") -> Job:
    spec = spec_of()
    return Job(
        id=job_id,
        tenant=tenant,
        origin="test",
        spec=spec,
        size_px=256,
        plates=plates_of(spec, radius_px),
        formats=("pdf",),
        finishing=finishing(gates),
        created_at=time.time(),
    )


class Mill(HubView):
    """The hub's streams from outside, and a worker."""

    def __init__(self, broker: Broker, objects: ObjectStore, settings: HubSettings, tmp_path: Path) -> None:
        super().__init__(broker, objects)
        self.settings = settings
        self.nowhere = tmp_path / "no-refiner"

    async def finish(self, job: Job, wait_until: WaitUntil) -> JobStatus:
        """Order a job and return its last status."""
        await self.order(job)

        async def is_over() -> bool:
            status = await self.last(job.id)
            return status is not None and status.state.is_final

        await wait_until(is_over, timeout_s=60)
        status = await self.last(job.id)
        assert status is not None
        return status

    async def stored(self, job: Job) -> set[str]:
        folder = subjects.artifact_path(job.tenant, job.id, "").rstrip("/")
        return {path.rpartition("/")[2] for path in await self.objects.list(folder)}

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        with (
            Sampler(shipped_bundle_dir(), device="cpu", threads=1) as sampler,
            PlateRefiner(self.nowhere, self.nowhere, device="cpu", enabled=False) as refiner,
        ):
            async with running_hub(self.settings, self.objects, sampler=sampler, refiner=refiner):
                yield


@pytest.fixture
async def mill(hub_nats: NatsServer, objects_url: str, tmp_path: Path) -> AsyncIterator[Mill]:
    settings = HubSettings(nats_url=hub_nats.url, objects_url=objects_url, ack_wait_s=10, warm=False)
    async with open_hub(hub_nats.url) as broker:
        yield Mill(broker, open_objects(objects_url), settings, tmp_path)


async def test_an_order_by_a_template_has_its_files_and_a_report_and_one_that_fails_has_the_report_alone(
    mill: Mill, wait_until: WaitUntil
) -> None:
    good = make_job("good", Gates(seams=SEAMS, colours=AtMost(max=2), size=AtMost(max=0.1), blank=AtLeast(min=0.02)))
    bad = make_job("bad", Gates(seams=SEAMS, colours=AtMost(max=1)))
    async with mill.worker():
        done, failed = await mill.finish(good, wait_until), await mill.finish(bad, wait_until)

    assert done.state is JobState.COMPLETED, done.error
    assert done.template == "test@1"
    names = {artifact.name for artifact in done.artifacts}
    assert names == {"master.png", "plate-1-c0392b.png", "pattern.pdf", "manifest.json", REPORT_NAME}
    report = decode_report(await mill.read(good, REPORT_NAME))
    [attempt] = report.attempts
    looked_at = {(finding.gate, finding.stage) for finding in attempt.findings}
    assert {("seams", "pattern"), ("seams", "master.png"), ("seams", "plate-1-c0392b.png")} <= looked_at
    assert {("size", "master.png"), ("size", "plate-1-c0392b.png"), ("colours", "pattern")} <= looked_at
    assert report.verdict == "pass"
    assert b"test@1" in await mill.read(good, "manifest.json"), "the files carry what was found"

    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert failed.error.code == "gate-failed"
    assert "gate colours of template test@1: 2 colours" in failed.error.detail
    assert {artifact.name for artifact in failed.artifacts} == {REPORT_NAME, "gate-colours.png"}
    assert await mill.stored(bad) == {REPORT_NAME, "gate-colours.png"}
    [finding] = [one for one in decode_report(await mill.read(bad, REPORT_NAME)).attempts[0].findings if one.picture]
    assert (finding.gate, finding.verdict, finding.number, finding.limit) == ("colours", "fail", 2, 1)


async def test_a_blank_pattern_is_drawn_again_under_the_next_seed(mill: Mill, wait_until: WaitUntil) -> None:
    job = make_job("blank", Gates(blank=AtLeast(min=0.02, retry_with_new_seed=2)), radius_px=0)
    # Somebody has previewed the next seed: its plates are there, and need not be sampled, which takes torch seconds.
    spec = msgspec.structs.replace(job.spec, seed=1)
    await mill.objects.put(subjects.plates_path(pattern_key(spec)), encode_plates(plates_of(spec, 18)))
    async with mill.worker():
        done = await mill.finish(job, wait_until)
    assert done.state is JobState.COMPLETED, done.error
    report = decode_report(await mill.read(job, REPORT_NAME))
    assert [attempt.seed for attempt in report.attempts] == [0, 1]
    assert [attempt.findings[0].verdict for attempt in report.attempts] == ["retry", "pass"]
    assert done.spec.seed == 1
    assert done.pattern_key == pattern_key(msgspec.structs.replace(job.spec, seed=1))
    assert "another seed is tried: 1" in done.log
    stored = await mill.objects.get(subjects.spec_path(done.pattern_key))
    assert stored == canonical_bytes(spec), "an edge that is asked for the new key finds its spec"


async def test_another_tenants_pattern_is_told_by_a_distance_alone(mill: Mill, wait_until: WaitUntil) -> None:
    gates = Gates(copies=AtLeast(min=0.05))
    jobs = [
        make_job("first", gates, tenant="a"),
        make_job("again", gates, tenant="a"),
        make_job("copy", gates, tenant="b"),
    ]
    async with mill.worker():
        states = [(await mill.finish(job, wait_until)).state for job in jobs]
    assert states == [JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED]
    assert await mill.stored(jobs[2]) == {REPORT_NAME, "gate-copies.png"}
    text = (await mill.read(jobs[2], REPORT_NAME)).decode()
    assert '"number": 0' in text
    assert "tenant a" not in text
    assert "first" not in text
