"""Jobs that the hub gave up on: what is kept of them, and how an operator looks at, retries and drops them."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hub_bench import HubView, open_hub, running_hub

from halfdrop.contracts import subjects
from halfdrop.contracts.dead_letters import DeadLetter
from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import (
    Job,
    JobClass,
    JobState,
    JobStatus,
    decode_job,
    supersedes,
)
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import GRID_PX, LAYERS, encode_plates
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.dead_letters import drop, read_letters, revive
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.models.fields import fields_to_plates
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import open_objects

WaitUntil = Callable[..., Awaitable[None]]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Bench(HubView):
    def __init__(self, broker: Broker, nats_url: str, objects_url: str) -> None:
        super().__init__(broker, open_objects(objects_url))
        self.nats_url = nats_url

    async def order_of(
        self, job_id: str, *, tenant: str = "local", job_class: JobClass = "standard", **changes: object
    ) -> Job:
        spec = PatternSpec(prompt=f"red dots for {job_id}", model_digest="0" * 64)
        job = Job(
            id=job_id, tenant=tenant, job_class=job_class, origin="test", spec=spec, size_px=256, created_at=time.time()
        )
        job = msgspec.structs.replace(job, **changes)
        await self.order(job, traceparent=TRACE)
        return job

    async def store_plates(self, job: Job) -> None:
        """Let the job succeed, whatever models the next worker has: its plates are there."""
        fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
        fields[0, 20:40, 20:40] = 1
        key, palette = pattern_key(job.spec), ("#f4efe6", "#c0392b", "#1d3557", "#000000", "#ffffff")
        plates = fields_to_plates(fields, palette, pattern_key=key, model_digest=job.spec.model_digest)
        await self.objects.put(subjects.plates_path(key), encode_plates(plates))

    async def letters(self) -> list[DeadLetter]:
        return [letter async for letter in read_letters(self.broker.js)]

    @asynccontextmanager
    async def worker(self, name: str = "hub-1") -> AsyncIterator[None]:
        settings = HubSettings(
            name=name, nats_url=self.nats_url, objects_url=self.objects.url, ack_wait_s=5, warm=False
        )
        with (
            Sampler(Path("nowhere"), device="cpu", threads=1) as sampler,
            PlateRefiner(Path("nowhere"), Path("nowhere"), device="cpu") as refiner,
        ):
            async with running_hub(settings, self.objects, sampler=sampler, refiner=refiner):
                yield

    async def give_up(self, wait_until: WaitUntil, *job_ids: str) -> None:
        """Let a worker without a model fail the jobs that wait."""
        async with self.worker("hub-blind"):
            for job_id in job_ids:
                await wait_until(lambda job_id=job_id: self.has_state(job_id, JobState.FAILED))
            await wait_until(self.is_empty)


@pytest.fixture
async def bench(hub_nats: NatsServer, objects_url: str) -> AsyncIterator[Bench]:
    async with open_hub(hub_nats.url) as broker:
        yield Bench(broker, hub_nats.url, objects_url)


async def test_a_dead_letter_has_all_that_is_needed_to_try_again(bench: Bench, wait_until: WaitUntil) -> None:
    job = await bench.order_of("a1", tenant="mill", job_class="bulk")
    await bench.give_up(wait_until, "a1")
    [letter] = await bench.letters()
    assert letter.job == job
    assert (letter.job_id, letter.tenant, letter.job_class) == ("a1", "mill", "bulk")
    assert (letter.cause, letter.deliveries, letter.worker) == ("bad-bundle", 1, "hub-blind")
    assert letter.detail
    assert letter.queued_at is not None
    assert letter.buried_at is not None
    assert job.created_at <= letter.queued_at <= letter.buried_at <= time.time()
    assert letter.headers["traceparent"] == TRACE
    assert letter.subject == "jobs.bulk.mill"


async def test_a_revived_job_runs_to_its_end_and_its_status_leaves_failed(bench: Bench, wait_until: WaitUntil) -> None:
    job = await bench.order_of("a1")
    await bench.give_up(wait_until, "a1")
    [letter] = await bench.letters()
    await revive(bench.broker.js, letter, now=time.time())
    assert await bench.letters() == []
    assert await bench.has_state("a1", JobState.QUEUED)
    await bench.store_plates(job)
    async with bench.worker("hub-2"):
        await wait_until(lambda: bench.has_state("a1", JobState.COMPLETED))
    known: JobStatus | None = None
    states = []
    for status in await bench.statuses("a1"):
        if supersedes(status, known):
            known = status
            if not states or states[-1] != status.state:
                states.append(status.state)
    assert states == [
        JobState.PROCESSING, JobState.FAILED, JobState.QUEUED, JobState.PROCESSING, JobState.COMPLETED,
    ]  # fmt: skip
    assert known is not None
    assert (known.revival, known.attempt) == (1, 1)


async def test_a_job_that_fails_after_its_revival_is_a_new_letter_and_can_be_revived_again(
    bench: Bench, wait_until: WaitUntil
) -> None:
    await bench.order_of("a1")
    for revival in range(3):
        await bench.give_up(wait_until, "a1")
        [letter] = await bench.letters()
        assert letter.revival == revival
        status = await bench.last("a1")
        assert status is not None
        assert status.state is JobState.FAILED
        await revive(bench.broker.js, letter, now=time.time())
    failures = [status for status in await bench.statuses("a1") if status.state is JobState.FAILED]
    assert len(failures) == 3


async def test_a_retry_that_was_interrupted_can_be_done_again_and_queues_the_job_once(
    bench: Bench, wait_until: WaitUntil
) -> None:
    """The letter is still there, as if the command had died before it removed it."""
    await bench.order_of("a1")
    await bench.give_up(wait_until, "a1")
    [letter] = await bench.letters()
    await revive(bench.broker.js, letter, now=time.time())
    await revive(bench.broker.js, letter, now=time.time())
    assert await bench.waiting(subjects.JOBS_STREAM) == 1
    message = await bench.broker.js.get_last_msg(subjects.JOBS_STREAM, "jobs.standard.local")
    assert decode_job(message.data or b"").revival == 1
    assert message.headers is not None
    assert message.headers["traceparent"] == TRACE


async def test_a_revived_job_whose_result_is_there_is_told_as_completed(bench: Bench, wait_until: WaitUntil) -> None:
    """A worker that was believed dead finished it after it had been given up on."""
    await bench.order_of("a1")
    await bench.give_up(wait_until, "a1")
    failed = await bench.last("a1")
    assert failed is not None
    result = msgspec.structs.replace(failed, state=JobState.COMPLETED, error=None, completed_at=5.0)
    await bench.objects.put(subjects.artifact_path("local", "a1", "result.json"), msgspec.json.encode(result))
    [letter] = await bench.letters()
    await revive(bench.broker.js, letter, now=time.time())
    async with bench.worker():
        await wait_until(lambda: bench.has_state("a1", JobState.COMPLETED))
    told = await bench.last("a1")
    assert told == msgspec.structs.replace(result, revival=1)
    assert supersedes(told, failed)


async def test_what_is_no_job_or_is_past_its_deadline_cannot_be_revived_only_dropped(
    bench: Bench, wait_until: WaitUntil
) -> None:
    await bench.order_of("a1", cancel_at=time.time() + 1)
    await bench.broker.js.publish(subjects.queued_job("standard", "mill"), b"\xff not a job")
    await bench.give_up(wait_until, "a1")
    late, unreadable = await bench.letters()
    assert unreadable.job is None
    assert (unreadable.tenant, unreadable.cause) == ("mill", "bad-job")
    for letter, code in ((late, "past-deadline"), (unreadable, "bad-job")):
        with pytest.raises(PermanentError) as caught:
            await revive(bench.broker.js, letter, now=time.time() + 2)
        assert caught.value.code == code
        await drop(bench.broker.js, letter)
        await drop(bench.broker.js, letter)  # somebody else was quicker
    assert await bench.letters() == []


async def run(bench: Bench, *arguments: str, answer: bytes = b"") -> tuple[int, str, str]:
    """Run `halfdrop jobs dead …` and return its status, its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("halfdrop"), "jobs", "dead", *arguments, "--nats", bench.nats_url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    output, errors = await process.communicate(answer)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_the_commands_list_show_retry_and_drop(bench: Bench, wait_until: WaitUntil) -> None:
    for job_id, tenant in (("a1", "mill"), ("a2", "mill"), ("a3", "shop"), ("a4", "shop")):
        await bench.order_of(job_id, tenant=tenant)
    await bench.give_up(wait_until, "a1", "a2", "a3", "a4")

    status, output, _ = await run(bench, "list")
    assert status == 0
    assert sorted(line.split()[0] for line in output.splitlines()) == ["a1", "a2", "a3", "a4"]  # tenants take turns
    _, output, _ = await run(bench, "list", "--json", "--tenant", "shop", "--cause", "bad-bundle")
    assert [letter["id"] for letter in json.loads(output)] == ["a3", "a4"]
    _, _, errors = await run(bench, "list", "--cause", "internal")
    assert "no dead letters" in errors

    _, output, _ = await run(bench, "show", "a3")
    assert "red dots for a3" in output
    assert "bad-bundle" in output
    status, _, errors = await run(bench, "show", "zz")
    assert status == 1
    assert "no dead letter is of the job 'zz'" in errors

    status, _, _ = await run(bench, "retry", "a1", answer=b"n\n")
    assert status == 1
    assert len(await bench.letters()) == 4
    status, output, errors = await run(bench, "retry", "--all", "--tenant", "mill", answer=b"y\n")
    assert (status, output.split()[0::3]) == (0, ["a1", "a2"])
    assert "retry 2 jobs?" in errors
    assert await bench.waiting(subjects.JOBS_STREAM) == 2
    status, output, _ = await run(bench, "drop", "a3", "--yes")
    assert (status, output) == (0, "a3  dropped\n")
    assert [letter.job_id for letter in await bench.letters()] == ["a4"]
    status, _, errors = await run(bench, "retry")
    assert status == 2
    assert "--all" in errors


async def test_with_no_hub_the_commands_say_what_to_do(bench: Bench, tmp_path: Path) -> None:
    bench.nats_url = "nats://127.0.0.1:9"
    status, _, errors = await run(bench, "list")
    assert status == 3
    assert "--nats" in errors
    bench.nats_url = ""
    status, _, errors = await run(bench, "list", "--data-dir", str(tmp_path / "none"))
    assert status == 2
    assert "--data-dir" in errors


async def test_the_hub_of_a_data_directory_is_found(
    bench: Bench, hub_nats: NatsServer, tmp_path: Path, wait_until: WaitUntil
) -> None:
    await bench.order_of("a1")
    await bench.give_up(wait_until, "a1")
    bench.nats_url = ""  # the fixture's server lies where `halfdrop up` would have put it: tmp_path/nats-hub
    _, output, _ = await run(bench, "list", "--data-dir", str(tmp_path))
    assert output.startswith("a1 ")
