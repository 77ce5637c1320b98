"""What is told of a job at the hub: progress, one result, cancels, dead letters."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from hub_bench import SPEC, Bench, bench, dots, make_job

from halfdrop.contracts import subjects
from halfdrop.contracts.claims import CLAIM_HEADER, claim_path
from halfdrop.contracts.jobs import JobState, decode_status, encode_job, encode_status
from halfdrop.runtime.objects import ObjectStore

__all__ = ["bench"]

WaitUntil = Callable[..., Awaitable[None]]


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
