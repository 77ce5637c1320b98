"""Hub workers as processes, killed and stopped: no job lost, one result each, memory bounded."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from nats.js.errors import NotFoundError

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobState, JobStatus, decode_status, encode_job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.deploy.servers import NatsServer
from halfdrop.models.fields import fields_to_plates
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import open_objects
from halfdrop.runtime.streams import ensure_hub_streams

WaitUntil = Callable[..., Awaitable[None]]

PEAK_MAX_MIB = 1024
"""An 8192 px job of four layers: 192 MiB of pixels, 256 of coverage, what is being written, and the process itself with
its torch and refiner. Measured: 830 to 910 on three machines; a second copy of the pixels or coverage breaks it."""

SPEC = PatternSpec(prompt="rings", repeat=Repeat(layout="brick", units=2).normalise(), model_digest="0" * 64)


def rings(spec: PatternSpec) -> Plates:
    """Plates that use all four layers."""
    places = np.arange(GRID_PX) + 0.5 - GRID_PX / 2
    distance = np.hypot(places[:, None], places[None, :])
    fields = np.stack([np.clip((radius - distance) / BAND_PX, -1, 1) for radius in (28, 21, 14, 7)])
    assert len(fields) == LAYERS
    palette = ("#f4efe6", "#c0392b", "#1d3557", "#2a9d8f", "#e9c46a")
    return fields_to_plates(
        fields.astype(np.float32), palette, pattern_key=pattern_key(spec), model_digest=spec.model_digest
    )


@pytest.fixture
async def broker(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=subjects.HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        yield broker


@asynccontextmanager
async def hub_process(
    name: str, nats_url: str, objects_url: str, **settings: object
) -> AsyncIterator[asyncio.subprocess.Process]:
    given = {"NAME": name, "NATS_URL": nats_url, "OBJECTS_URL": objects_url, "WARM": "false", "ACK_WAIT_S": 2}
    given |= {key.upper(): value for key, value in settings.items()}
    environ = {**os.environ, **{f"HALFDROP_HUB_{key}": str(value) for key, value in given.items()}}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "halfdrop.hub", env=environ)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def order(broker: Broker, job_id: str, size_px: int) -> Job:
    job = Job(id=job_id, origin="test", spec=SPEC, size_px=size_px, plates=rings(SPEC), created_at=time.time())
    await broker.js.publish(
        subjects.queued_job(job.job_class, job.tenant), encode_job(job), headers={"Nats-Msg-Id": job.id}
    )
    return job


async def last(broker: Broker, job_id: str) -> JobStatus | None:
    try:
        message = await broker.js.get_last_msg(subjects.EVENTS_STREAM, subjects.job_event("test", job_id))
    except NotFoundError:
        return None
    assert message.data is not None
    return decode_status(message.data)


async def has_state(broker: Broker, job_id: str, state: JobState) -> bool:
    status = await last(broker, job_id)
    return status is not None and status.state == state


async def completions(broker: Broker) -> list[str]:
    state = (await broker.js.stream_info(subjects.EVENTS_STREAM)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await broker.js.get_msg(subjects.EVENTS_STREAM, seq=sequence)
        assert message.data is not None
        status = decode_status(message.data)
        if status.state is JobState.COMPLETED:
            found.append(status.id)
    return sorted(found)


async def test_a_worker_killed_in_the_middle_of_a_job_costs_time_but_no_job(
    broker: Broker, hub_nats: NatsServer, objects_url: str, wait_until: WaitUntil
) -> None:
    async with hub_process("hub-1", hub_nats.url, objects_url) as victim:
        await order(broker, "job1", 8192)
        await order(broker, "job2", 256)
        await wait_until(lambda: has_state(broker, "job1", JobState.PROCESSING))
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
    async with hub_process("hub-2", hub_nats.url, objects_url):
        await wait_until(lambda: has_state(broker, "job1", JobState.COMPLETED), timeout_s=40)
        await wait_until(lambda: has_state(broker, "job2", JobState.COMPLETED))
    status = await last(broker, "job1")
    assert status is not None
    assert (status.attempt, status.worker) == (2, "hub-2")
    assert await completions(broker) == ["job1", "job2"]
    assert (await broker.js.stream_info(subjects.JOBS_STREAM)).state.messages == 0
    objects = open_objects(objects_url)
    files = ["master.png", "pattern.svg", "proof.png", "manifest.json", "result.json"]
    assert len(await objects.list("jobs/local/job1")) == LAYERS + len(files)


async def test_jobs_that_a_killed_worker_had_in_hand_at_once_all_come_again(
    broker: Broker, hub_nats: NatsServer, objects_url: str, wait_until: WaitUntil
) -> None:
    ids = ["job1", "job2", "job3"]
    async with hub_process("hub-1", hub_nats.url, objects_url, slots=3) as victim:
        for job_id in ids:
            await order(broker, job_id, 8192)
        for job_id in ids:
            await wait_until(lambda job_id=job_id: has_state(broker, job_id, JobState.PROCESSING), timeout_s=30)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
    assert await completions(broker) == []
    async with hub_process("hub-2", hub_nats.url, objects_url):
        for job_id in ids:
            await wait_until(lambda job_id=job_id: has_state(broker, job_id, JobState.COMPLETED), timeout_s=60)
    assert await completions(broker) == ids
    assert (await broker.js.stream_info(subjects.JOBS_STREAM)).state.messages == 0


async def test_a_stopped_worker_finishes_its_job_and_leaves_with_zero(
    broker: Broker, hub_nats: NatsServer, objects_url: str, wait_until: WaitUntil
) -> None:
    async with hub_process("hub-1", hub_nats.url, objects_url) as process:
        await order(broker, "job0", 256)  # the first one waits for the refiner, and says nothing of the pace
        await wait_until(lambda: has_state(broker, "job0", JobState.COMPLETED))
        await order(broker, "job1", 2048)
        await wait_until(lambda: has_state(broker, "job1", JobState.PROCESSING))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    assert await has_state(broker, "job1", JobState.COMPLETED)


async def test_an_outage_of_the_broker_in_the_middle_of_a_job_ends_with_one_result(
    broker: Broker, hub_nats: NatsServer, objects_url: str, wait_until: WaitUntil
) -> None:
    async with hub_process("hub-1", hub_nats.url, objects_url):
        await order(broker, "job1", 8192)
        await wait_until(lambda: has_state(broker, "job1", JobState.PROCESSING))
        await hub_nats.kill()
        await asyncio.sleep(3)  # long enough for the job to end while nobody can be told
        await hub_nats.start()
        await wait_until(lambda: broker.is_connected)
        await wait_until(lambda: has_state(broker, "job1", JobState.COMPLETED), timeout_s=40)
    assert await completions(broker) == ["job1"]


async def test_the_largest_job_stays_within_its_memory(
    broker: Broker, hub_nats: NatsServer, objects_url: str, wait_until: WaitUntil
) -> None:
    async with hub_process("hub-1", hub_nats.url, objects_url, ack_wait_s=30) as process:
        for job_id in ("job1", "job2"):
            await order(broker, job_id, 8192)
        await wait_until(lambda: has_state(broker, "job2", JobState.COMPLETED), timeout_s=100)
        status = Path(f"/proc/{process.pid}/status").read_text()  # noqa: ASYNC240
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    assert int(found[1]) / 1024 < PEAK_MAX_MIB


async def test_what_cannot_start_says_why_in_one_line(objects_url: str) -> None:
    async def says_why(settings: dict[str, str], word: str) -> None:
        environ = {**os.environ, **{f"HALFDROP_HUB_{key}": value for key, value in settings.items()}}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "halfdrop.hub", env=environ, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        lines = [line for line in errors.decode().splitlines() if not line.startswith("{")]  # logs are JSON
        assert len(lines) == 1, lines
        assert word in lines[0]

    async with asyncio.TaskGroup() as tasks:
        for settings, word in (
            ({"NATS_URL": "nats://127.0.0.1:9", "OBJECTS_URL": objects_url}, "does not answer"),
            ({"OBJECTS_URL": "ftp://nowhere"}, "object store"),
            ({}, "HALFDROP_HUB_OBJECTS_URL"),
            ({"OBJECTS_URL": objects_url, "THREDS": "2"}, "HALFDROP_HUB_THREDS"),
        ):
            tasks.create_task(says_why(settings, word))
