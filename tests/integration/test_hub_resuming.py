"""A job that is interrupted goes on from the step that was saved, and its files are those of an undisturbed run.

Real parts: the shipped model on the CPU, workers in this process, NATS, an object store in a folder. Only the moment of
the interruption is arranged: the sampler's thread or an upload waits there.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import structlog
from hub_bench import HubView, open_hub, running_hub

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobClass, JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.tries import Tries
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Resumption, Sampler
from halfdrop.hub.saved_work import SAVED_NAME, SamplerState, TakeState, decode_saved, encode_saved
from halfdrop.hub.settings import HubSettings
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore, open_objects

WaitUntil = Callable[..., Awaitable[None]]

STEPS = 8


def spec_of(**changes: object) -> PatternSpec:
    digest = open_bundle(shipped_bundle_dir()).digest
    spec = PatternSpec(prompt="red polka dots on white", seed=11, num_inference_steps=STEPS, model_digest=digest)
    return msgspec.structs.replace(spec, **changes)


class PausedSampler(Sampler):
    """Waits in its thread after step `pause_at` until released, as a slow GPU would be in the middle of a job."""

    pause_at = 0
    step_takes_s = 0.0

    def __init__(self) -> None:
        super().__init__(shipped_bundle_dir(), device="cpu", threads=1)
        self.released = threading.Event()
        self.counted = 0

    async def draw(
        self,
        spec: PatternSpec,
        *,
        on_step: Callable[[], None],
        resumption: Resumption | None = None,
        job_class: JobClass = "standard",
    ) -> Plates:
        def end_step() -> None:
            on_step()
            self.counted += 1
            time.sleep(self.step_takes_s)
            if self.counted == self.pause_at:
                self.released.wait(30)

        return await super().draw(spec, on_step=end_step, resumption=resumption, job_class=job_class)


class WatchedStore(ObjectStore):
    """Notes what is written, and never finishes an upload of `stuck_at`."""

    stuck_at = ""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner._store, inner.url)
        self.written: list[str] = []

    async def put(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        if self.stuck_at and path.endswith(self.stuck_at):
            await asyncio.Event().wait()
        await super().put(path, data, media_type=media_type)
        self.written.append(path.rpartition("/")[2])


class Bench(HubView):
    """Workers with the shipped model that can be made to wait in the middle of a job."""

    def __init__(self, broker: Broker, nats_url: str, objects_url: str) -> None:
        super().__init__(broker, open_objects(objects_url))
        self.settings = HubSettings(
            nats_url=nats_url, objects_url=objects_url, ack_wait_s=5, grace_s=0, warm=False, save_every_s=0
        )

    async def saved(self, job_id: str) -> bytes | None:
        return await self.objects.get(subjects.artifact_path("local", job_id, SAVED_NAME))

    @asynccontextmanager
    async def worker(
        self, name: str, *, pause_at: int = 0, objects: ObjectStore | None = None, **changes: float
    ) -> AsyncIterator[tuple[PausedSampler, asyncio.Event]]:
        settings = msgspec.structs.replace(self.settings, name=name, **changes)
        with (
            PausedSampler() as sampler,
            PlateRefiner(Path("no-refiner"), shipped_bundle_dir(), device="cpu") as refiner,
        ):
            sampler.pause_at = pause_at
            async with running_hub(settings, objects or self.objects, sampler=sampler, refiner=refiner) as stop:
                try:
                    yield sampler, stop
                finally:
                    stop.set()
                    sampler.released.set()


@pytest.fixture
async def bench(hub_nats: NatsServer, objects_url: str) -> AsyncIterator[Bench]:
    async with open_hub(hub_nats.url) as broker:
        yield Bench(broker, hub_nats.url, objects_url)


def make_job(job_id: str = "job1", *, size_px: int = 512, spec: PatternSpec | None = None) -> Job:
    return Job(id=job_id, origin="test", spec=spec or spec_of(), size_px=size_px, created_at=time.time())


async def draw_keeping(
    sampler: Sampler, spec: PatternSpec, state: SamplerState | None = None
) -> tuple[Plates, dict[int, SamplerState], int]:
    """Return the plates, the state after each step as it comes back from its bytes, and the steps skipped."""
    taken: dict[int, TakeState] = {}
    skipped = 0

    def note(done: int) -> None:
        nonlocal skipped
        skipped = done

    resumption = Resumption(state=state, on_resumed=note, keep=lambda take, step: taken.update({step: take}))
    plates = await sampler.draw(spec, on_step=lambda: None, resumption=resumption)
    states = {}
    for step, take in taken.items():
        data = encode_saved(release="0", pattern_key="k", size_px=8, state=take(), files=None)
        _, read = decode_saved(data)
        assert read is not None
        states[step] = read
    return plates, states, skipped


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negative_prompt": "blue stars", "guidance_scale": 2.0},
        {"palette": ("#102030", "#405060"), "prompt": "#ff8800 dots on #141e5a"},
    ],
    ids=["plain", "guided", "exact colours"],
)
async def test_sampling_that_goes_on_from_any_step_ends_in_the_same_bits(changes: dict[str, object]) -> None:
    spec = spec_of(**changes)
    with Sampler(shipped_bundle_dir(), device="cpu", threads=1) as sampler:
        whole, states, _ = await draw_keeping(sampler, spec)
    assert sorted(states) == list(range(1, STEPS + 1))
    with Sampler(shipped_bundle_dir(), device="cpu", threads=1) as another:
        for step, state in states.items():
            plates, later, skipped = await draw_keeping(another, spec, state)
            assert skipped == step
            assert sorted(later) == list(range(step + 1, STEPS + 1))
            assert plates == whole, step


async def test_a_state_that_does_not_fit_is_left_alone_and_logged() -> None:
    with Sampler(shipped_bundle_dir(), device="cpu", threads=1) as sampler:
        whole, _, _ = await draw_keeping(sampler, spec_of())
        _, others, _ = await draw_keeping(sampler, spec_of(seed=12))
        with structlog.testing.capture_logs() as logs:
            plates, _, skipped = await draw_keeping(sampler, spec_of(), others[4])
    assert (plates, skipped) == (whole, 0)
    assert [entry["reason"] for entry in logs if entry["event"] == "saved_step_ignored"] == [
        "seed: got 12; allowed: 11"
    ]


HandBack = Callable[..., Awaitable[JobStatus]]


@pytest.fixture
def hand_back(bench: Bench, wait_until: WaitUntil) -> HandBack:
    """`told = await hand_back(job, pause_at=3, attempt=1)`: a worker takes the job and is stopped after so many more
    steps; returns what is told then."""

    async def hand_back(job: Job, *, pause_at: int, attempt: int) -> JobStatus:
        async with bench.worker(f"hub-{attempt}", pause_at=pause_at) as (sampler, stop):
            await wait_until(lambda: sampler.counted >= pause_at, timeout_s=30)
            stop.set()
            await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING, attempt))
            status = await bench.last(job.id)
        assert status is not None
        return status

    return hand_back


async def test_jobs_in_several_slots_share_rounds_and_one_that_is_cancelled_leaves_alone(
    bench: Bench, wait_until: WaitUntil
) -> None:
    jobs = [make_job(f"job-{seed}", spec=spec_of(seed=seed)) for seed in range(4)]
    async with bench.worker("hub-1", pause_at=1, slots=4) as (sampler, _):
        for job in jobs:
            await bench.order(job)
        for job in jobs:
            await wait_until(partial(bench.has_state, job.id, JobState.PROCESSING), timeout_s=30)
        await wait_until(lambda: sampler.counted == 1, timeout_s=30)
        await bench.broker.js.publish(subjects.cancel_job(jobs[3].id), b"")
        await wait_until(lambda: bench.has_state("job-3", JobState.CANCELED), timeout_s=30)
        sampler.released.set()
        for job in jobs[:3]:
            await wait_until(partial(bench.has_state, job.id, JobState.COMPLETED), timeout_s=30)
        assert sampler.engine.counters.largest >= 3
        assert sampler.engine.counters.rounds < 2 * STEPS


async def test_a_stopping_worker_hands_its_job_back_with_the_step_it_came_to_and_the_files_are_the_same(
    bench: Bench, wait_until: WaitUntil, hand_back: HandBack
) -> None:
    undisturbed = make_job("undisturbed")
    async with bench.worker("hub-0"):
        await bench.order(undisturbed)
        await wait_until(lambda: bench.has_state("undisturbed", JobState.COMPLETED), timeout_s=30)
    for path in await bench.objects.list("patterns"):
        await bench.objects.delete(path)

    job = make_job()
    await bench.order(job)
    told = await hand_back(job, pause_at=3, attempt=1)
    assert (told.step, told.steps) == (3, STEPS + 12)
    assert told.error is not None
    assert told.error.code == "handed-back"
    told = await hand_back(job, pause_at=2, attempt=2)
    assert told.step == 5
    assert told.tries == Tries(through=2, handed_back=2)
    data = await bench.saved(job.id)
    assert data is not None
    _, state = decode_saved(data)
    assert state is not None
    assert state.step == 5
    async with bench.worker("hub-3") as (sampler, _):
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
        assert sampler.counted == STEPS - 5
    done, whole = await bench.last(job.id), await bench.last("undisturbed")
    assert done is not None
    assert whole is not None
    assert [(a.name, a.sha256) for a in done.artifacts] == [(a.name, a.sha256) for a in whole.artifacts]
    steps = [status.step for status in await bench.statuses(job.id)]
    assert steps == sorted(steps), "progress went back"
    assert await bench.saved(job.id) is None


async def test_hand_backs_do_not_use_up_a_jobs_deliveries(
    bench: Bench, wait_until: WaitUntil, hand_back: HandBack
) -> None:
    bench.settings = msgspec.structs.replace(bench.settings, max_deliver=1)
    job = make_job()
    await bench.order(job)
    for attempt in (1, 2, 3):
        await hand_back(job, pause_at=1, attempt=attempt)
    async with bench.worker("hub-4"):
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
    status = await bench.last(job.id)
    assert status is not None
    assert status.attempt == 4


async def test_files_that_are_stored_whole_are_not_made_again(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job(size_px=1024)
    first, second = WatchedStore(bench.objects), WatchedStore(bench.objects)
    first.stuck_at = "proof.png"
    async with bench.worker("hub-1", objects=first) as (_, stop):
        await bench.order(job)
        await wait_until(lambda: {"master.png", "pattern.svg"} <= set(first.written), timeout_s=30)
        await wait_until(lambda: sum(name.startswith("plate-") for name in first.written) >= 1)
        await asyncio.sleep(0.3)  # the last separation, if there are several
        stop.set()
        await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING))
    stored = [name for name in first.written if name.endswith((".png", ".svg"))]
    # a file that lost its end in the store is made again
    await bench.objects.put(subjects.artifact_path("local", job.id, "pattern.svg"), b"<svg")
    async with bench.worker("hub-2", objects=second):
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
    assert sorted(second.written) == ["manifest.json", "pattern.svg", "proof.png"]
    status = await bench.last(job.id)
    assert status is not None
    assert sorted(a.name for a in status.artifacts) == sorted([*stored, "proof.png", "manifest.json"])
    for artifact in status.artifacts:
        assert await bench.objects.size(artifact.path) == artifact.size_bytes
    steps = [status.step for status in await bench.statuses(job.id)]
    assert steps == sorted(steps), "progress went back"


@pytest.mark.parametrize("data", [b"", b"no safetensors at all", b"\xff" * 4096])
async def test_what_was_saved_and_cannot_be_read_is_ignored_and_removed_at_the_end(
    bench: Bench, wait_until: WaitUntil, hand_back: HandBack, data: bytes
) -> None:
    job = make_job()
    await bench.order(job)
    await hand_back(job, pause_at=2, attempt=1)
    await bench.objects.put(subjects.artifact_path("local", job.id, SAVED_NAME), data)
    with structlog.testing.capture_logs() as logs:
        async with bench.worker("hub-2") as (sampler, _):
            await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
            assert sampler.counted == STEPS
    assert any(entry["event"] == "saved_work_ignored" for entry in logs)
    assert await bench.saved(job.id) is None


async def test_a_running_job_is_saved_now_and_then(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job()
    async with bench.worker("hub-1", pause_at=4, save_every_s=0.05, grace_s=20) as (sampler, _):
        await bench.order(job)
        await wait_until(lambda: sampler.counted == 4, timeout_s=30)

        async def is_saved() -> bool:
            data = await bench.saved(job.id)
            state = decode_saved(data)[1] if data else None
            return state is not None and state.step == 4

        await wait_until(is_saved)
        sampler.released.set()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
        await wait_until(lambda: _is_none(bench.saved(job.id)))


async def _is_none(found: Awaitable[bytes | None]) -> bool:
    return await found is None


async def test_a_job_that_needs_longer_than_the_grace_is_handed_back_at_once(
    bench: Bench, wait_until: WaitUntil
) -> None:
    """Steps of half a second and five to come: more than two seconds, and one of grace."""
    job = make_job()

    async with bench.worker("hub-1", grace_s=1.0) as (sampler, stop):
        sampler.step_takes_s = 0.5
        await bench.order(job)
        await wait_until(lambda: sampler.counted >= 3, timeout_s=30)
        stop.set()
        began_s = time.monotonic()
        await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING))
        assert time.monotonic() - began_s < 0.6
    assert await bench.saved(job.id) is not None
