"""Kills and stalls of a running system: no accepted order is lost, and each gives one result."""

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nats
import pytest

from halfdrop.contracts.jobs import JobState, decode_status
from halfdrop.contracts.subjects import EVENTS_STREAM, job_event
from halfdrop.deploy.processes import EDGE_NAME

if TYPE_CHECKING:
    from tests.conftest import StartUp, System, WaitUntil

pytestmark = pytest.mark.timeout(180)

IMPATIENT = {"HALFDROP_HUB_ACK_WAIT_S": "2", "HALFDROP_HUB_WARM": "false"}
"""A worker's death is noticed after 2 s, not after half a minute, and torch, which no job here needs, stays away."""

DONE_S = 90.0


async def test_a_hub_killed_in_the_middle_of_a_job_leaves_it_to_the_next(
    start_up: "StartUp", wait_until: "WaitUntil"
) -> None:
    system = await start_up(**IMPATIENT)
    async with httpx.AsyncClient(base_url=system.url, timeout=30) as client:
        job = await order(client, "coral seashells on sand", size_px=8192)
        await wait_until(lambda: has_state(client, job, "processing"), timeout_s=30, poll_s=0.01)
        system.kill("hub-1")
        done = await wait_done(client, job, wait_until)
    assert done["attempt"] >= 2
    await assert_one_result_each(system, [job])


async def test_an_edge_killed_right_after_its_201_keeps_the_order(start_up: "StartUp", wait_until: "WaitUntil") -> None:
    system = await start_up(**IMPATIENT)
    async with httpx.AsyncClient(base_url=system.url, timeout=30) as client:
        job = await order(client, "green ferns on cream")
        system.kill("edge")
        await wait_done(client, job, wait_until)
    await assert_one_result_each(system, [job])


async def test_orders_taken_while_the_hubs_nats_hangs_are_done_later(
    start_up: "StartUp", wait_until: "WaitUntil"
) -> None:
    system = await start_up(**IMPATIENT)
    async with httpx.AsyncClient(base_url=system.url, timeout=30) as client:
        jobs = [await order(client, "yellow lemons on blue")]
        system.kill("nats-hub", signal.SIGSTOP)
        try:
            jobs += [await order(client, f"small red stars on white {number}") for number in range(3)]
            await asyncio.sleep(3)
            assert (await client.post("/v1/previews", json={"prompt": "leaves"})).status_code == 200
            assert not await has_state(client, jobs[-1], "completed")
        finally:
            system.kill("nats-hub", signal.SIGCONT)
        for job in jobs:
            await wait_done(client, job, wait_until)
    await assert_one_result_each(system, jobs)


async def test_orders_outlive_kills_of_every_part_in_turn(start_up: "StartUp", wait_until: "WaitUntil") -> None:
    system = await start_up(**IMPATIENT)
    jobs = []
    async with httpx.AsyncClient(base_url=system.url, timeout=30) as client:
        for name in ("nats-hub", "valkey", "nats-edge-local", "hub-1", "edge"):
            jobs.append(await order(client, f"blue waves {name}"))
            pid = system.pid(name)
            system.kill(name)
            await wait_until(lambda name=name, pid=pid: is_back(system, name, pid), timeout_s=30)
        for job in jobs:
            await wait_done(client, job, wait_until)
    await assert_one_result_each(system, jobs)


async def order(client: httpx.AsyncClient, prompt: str, *, size_px: int = 512) -> str:
    """Return the id of an accepted order; asks again while the edge cannot take one."""
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await client.post("/v1/predictions", json={"input": {"prompt": prompt, "size_px": size_px}})
            except httpx.TransportError:
                answer = httpx.Response(503)
            if answer.status_code == 201:
                return str(answer.json()["id"])
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.1)


async def has_state(client: httpx.AsyncClient, job: str, state: str) -> bool:
    prediction: dict[str, Any] = (await client.get(f"/v1/predictions/{job}")).json()
    return bool(prediction["state"] == state)


async def wait_done(client: httpx.AsyncClient, job: str, wait_until: "WaitUntil") -> dict[str, Any]:
    latest: dict[str, Any] = {}

    async def is_done() -> bool:
        try:
            answer = await client.get(f"/v1/predictions/{job}")
        except httpx.TransportError:  # the edge is being started again
            return False
        if answer.status_code >= 500:
            return False
        latest.update(answer.json())
        return latest["status"] in ("succeeded", "failed", "canceled")

    await wait_until(is_done, timeout_s=DONE_S, poll_s=0.1)
    assert latest["status"] == "succeeded", latest
    return latest


def is_back(system: "System", name: str, old_pid: int) -> bool:
    ledger = system.folder.read_ledger()
    return ledger is not None and any(child.name == name and child.pid != old_pid for child in ledger.children)


async def assert_one_result_each(system: "System", jobs: list[str]) -> None:
    """Each job has its files once, and was announced as completed by exactly one result."""
    client = await nats.connect(_hub_url(system))
    js = client.jetstream()
    for job in jobs:
        folder = system.folder.objects / "jobs" / "local" / job
        result = json.loads((folder / "result.json").read_bytes())
        assert result["state"] == JobState.COMPLETED
        assert {file["name"] for file in result["artifacts"]} <= {path.name for path in folder.iterdir()}
        announced = []
        consumer = await js.pull_subscribe(job_event(EDGE_NAME, job), stream=EVENTS_STREAM)
        for message in await consumer.fetch(256, timeout=1):
            status = decode_status(message.data)
            if status.state is JobState.COMPLETED:
                announced.append(status.completed_at)
        assert len(set(announced)) == 1, f"{job} was completed {len(announced)} times"
    await client.close()


def _hub_url(system: "System") -> str:
    config = Path(system.folder.nats_hub / "nats.conf").read_text()
    listen = next(line for line in config.splitlines() if line.startswith("listen: "))
    return "nats://" + listen.split('"')[1]
