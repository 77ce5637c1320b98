"""Pictures of a job on its way: from a real worker's sampling, and what becomes of a job when they cannot be made."""

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hub_bench import HubView, open_hub, running_hub
from PIL import Image

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub import progress_pictures, rendering
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.runtime.objects import ObjectStore, open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil

STEPS = 50


async def run_job(
    hub_nats: NatsServer, objects: ObjectStore, tmp_path: Path, wait_until: "WaitUntil"
) -> list[JobStatus]:
    """Run a job that must be sampled; return all that was told of it."""
    spec = PatternSpec(
        prompt="red polka dots on white",
        model_digest=open_bundle(shipped_bundle_dir()).digest,
        num_inference_steps=STEPS,
    )
    job = Job(id="job1", origin="test", spec=spec, size_px=256, created_at=time.time())
    settings = HubSettings(nats_url=hub_nats.url, objects_url=objects.url, ack_wait_s=10, grace_s=5, warm=False)
    async with open_hub(hub_nats.url) as broker:
        view = HubView(broker, objects)
        with (
            Sampler(shipped_bundle_dir(), device="cpu", threads=1) as sampler,
            PlateRefiner(tmp_path / "none", shipped_bundle_dir(), device="cpu") as refiner,
        ):
            await sampler.warm()
            async with running_hub(settings, objects, sampler=sampler, refiner=refiner):
                await view.order(job)

                async def has_ended() -> bool:
                    status = await view.last(job.id)
                    return status is not None and status.state.is_final

                await wait_until(has_ended, timeout_s=60)
        return await view.statuses(job.id)


def pictures_in(statuses: list[JobStatus]) -> list[int]:
    found = (status.progress_picture for status in statuses)
    return [picture.step for picture in found if hasattr(picture, "step")]


async def test_a_job_that_is_sampled_for_long_shows_what_it_looks_like_so_far(
    hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_pictures, "EVERY_S", 0.1)  # a quick machine samples all steps in a second
    objects = open_objects(objects_url)
    statuses = await run_job(hub_nats, objects, tmp_path, wait_until)
    assert statuses[-1].state is JobState.COMPLETED
    steps = pictures_in(statuses)
    assert steps == sorted(steps)
    assert 0 < steps[0] <= steps[-1] < STEPS
    data = await objects.get(subjects.artifact_path("local", "job1", progress_pictures.PICTURE_NAME))
    assert data is not None
    assert len(data) < 32 * 1024
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (128, 128))


async def test_pictures_that_cannot_be_made_or_stored_fail_no_job(
    hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(*_: Any) -> bytes:
        tried.append(1)
        if len(tried) % 2:
            raise ValueError("no picture today")
        return b"not stored either"

    monkeypatch.setattr(progress_pictures, "EVERY_S", 0.05)
    monkeypatch.setattr(rendering, "draw_picture", fail)
    folder = Path(urlsplit(objects_url).path)
    (folder / "jobs/local/job1" / progress_pictures.PICTURE_NAME).mkdir(parents=True)  # a put there must fail
    statuses = await run_job(hub_nats, open_objects(objects_url), tmp_path, wait_until)
    assert statuses[-1].state is JobState.COMPLETED
    assert pictures_in(statuses) == []
    assert len(tried) >= 2


async def test_a_job_that_is_done_within_the_time_of_one_picture_has_none(
    hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_pictures, "EVERY_S", 600.0)
    statuses = await run_job(hub_nats, open_objects(objects_url), tmp_path, wait_until)
    assert statuses[-1].state is JobState.COMPLETED
    assert pictures_in(statuses) == []
