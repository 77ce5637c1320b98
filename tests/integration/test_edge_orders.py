"""Orders at a live edge: durable first, forwarded once in effect, followed to their end, whoever is away meanwhile."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import nats.errors
import pytest

from halfdrop.contracts.jobs import Job, JobState, JobStatus, accepted_status, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import (
    CANCELS_STREAM,
    HUB_DOMAIN,
    JOBS_STREAM,
    ORDERS_BUCKET,
    cancel_job,
    edge_domain,
    job_event,
)
from halfdrop.deploy.processes import make_hub
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import Broker, open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge

OUTAGE_RECOVERY_S = 30.0
"""A leaf node reconnects within a second or two of its hub's return; a busy machine takes longer."""


async def order(client: httpx.AsyncClient, prompt: str = "red dots on white", **members: object) -> dict[str, Any]:
    body = {"input": {"prompt": prompt, "size_px": 256, **members}}
    response = await client.post("/v1/predictions", json=body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    assert response.headers["location"] == found["urls"]["get"]
    return found


async def look_up(client: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    response = await client.get(f"/v1/predictions/{order_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def jobs_at(hub: Broker) -> list[Job]:
    """Return every job in the hub's queue, oldest first, without taking any."""
    state = (await hub.js.stream_info(JOBS_STREAM)).state
    found = []
    for number in range(max(1, state.first_seq), state.last_seq + 1):
        message = await hub.js.get_msg(JOBS_STREAM, seq=number)
        found.append(decode_job(message.data or b""))
    return found


async def publish(hub: Broker, status: JobStatus) -> None:
    await hub.js.publish(job_event(status.origin, status.id), encode_status(status))


@asynccontextmanager
async def hub_worker(hub_nats: NatsServer, objects_url: str, tmp_path: Path) -> AsyncIterator[None]:
    worker = make_hub(name="hub-1", nats_url=hub_nats.url, objects_url=objects_url, log_path=tmp_path / "hub.log")
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()


@pytest.fixture
async def hub(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def test_an_order_reaches_the_hub_with_the_plates_of_its_preview(
    edge: "LiveEdge", hub: Broker, wait_until: "WaitUntil"
) -> None:
    shown = await edge.client.post("/v1/previews", json={"prompt": "red dots on white", "seed": 5})
    placed = await order(edge.client, seed=5)
    assert placed["status"] == "starting"
    assert placed["state"] == "queued"
    assert placed["pattern_key"] == shown.headers["halfdrop-key"]
    assert placed["input"]["repeat"]["layout"] == "straight"

    async def is_there() -> bool:
        return [job.id for job in await jobs_at(hub)] == [placed["id"]]

    await wait_until(is_there)
    (job,) = await jobs_at(hub)
    assert job.origin == "test"
    assert job.plates is not None
    assert job.plates.pattern_key == pattern_key(job.spec) == placed["pattern_key"]


async def test_how_the_words_of_an_order_were_read_is_told_to_the_end(
    edge: "LiveEdge", hub: Broker, wait_until: "WaitUntil"
) -> None:
    placed = await order(edge.client, prompt="crimson sunflwers and cats on #141e5a")
    assert placed["input"]["prompt"] == "crimson daisies on #141e5a"
    assert placed["read_as"] == {"sunflwers": "daisies"}
    assert placed["unknown_words"] == ["cats"]

    async def is_there() -> bool:
        return len(await jobs_at(hub)) == 1

    await wait_until(is_there)
    (job,) = await jobs_at(hub)
    assert job.plates is not None
    assert job.plates.palette[0] == "#141e5a"
    done = msgspec.structs.replace(
        accepted_status(job, placed["pattern_key"]), state=JobState.FAILED, attempt=1, log=("begun",)
    )
    await publish(hub, done)

    async def is_failed() -> bool:
        return bool((await edge.client.get(f"/v1/predictions/{placed['id']}")).json()["status"] == "failed")

    await wait_until(is_failed)
    ended = (await edge.client.get(f"/v1/predictions/{placed['id']}")).json()
    assert ended["read_as"] == placed["read_as"]
    assert ended["logs"].splitlines()[0] == 'read "sunflwers" as "daisies"'
    assert ended["logs"].splitlines()[-1] == "begun"


async def test_orders_taken_while_the_hub_is_away_arrive_once_each_and_in_order(
    edge: "LiveEdge", hub_nats: NatsServer, hub: Broker, wait_until: "WaitUntil"
) -> None:
    first = await order(edge.client, seed=1)

    async def has_first() -> bool:
        return len(await jobs_at(hub)) == 1

    await wait_until(has_first)
    await hub_nats.kill()
    waiting = [await order(edge.client, seed=seed) for seed in range(2, 6)]
    assert [p["queue_position"] for p in waiting] == [1, 2, 3, 4]
    await edge.kill()
    await edge.start()
    known = await edge.client.get("/v1/predictions")
    assert [p["id"] for p in known.json()["results"]] == [p["id"] for p in reversed([first, *waiting])]
    await hub_nats.start()

    async def has_all() -> bool:
        with contextlib.suppress(nats.errors.Error):  # our own connection comes back, too
            return len(await jobs_at(hub)) >= 5
        return False

    await wait_until(has_all, timeout_s=OUTAGE_RECOVERY_S)
    await asyncio.sleep(0.5)  # a duplicate would follow at once
    assert [job.id for job in await jobs_at(hub)] == [p["id"] for p in [first, *waiting]]


async def test_statuses_are_followed_and_survive_restarts_of_the_edge(
    edge: "LiveEdge", hub: Broker, wait_until: "WaitUntil"
) -> None:
    placed = await order(edge.client)

    async def is_there() -> bool:
        return bool(await jobs_at(hub))

    await wait_until(is_there)
    (job,) = await jobs_at(hub)
    now = time.time()
    running = msgspec.structs.replace(
        accepted_status(job, placed["pattern_key"]),
        state=JobState.PROCESSING, attempt=1, started_at=now, step=2, steps=8, stage="master",
    )  # fmt: skip
    await publish(hub, running)

    async def has_progress() -> bool:
        progress = (await look_up(edge.client, placed["id"]))["progress"]
        return bool(progress == {"step": 2, "steps": 8, "stage": "master", "picture": None})

    await wait_until(has_progress)
    await edge.kill()
    # Published while the edge is down; the older one of the two must not win.
    await publish(hub, msgspec.structs.replace(running, state=JobState.COMPLETED, step=8, completed_at=now + 1))
    await publish(hub, msgspec.structs.replace(running, step=3))
    await edge.start()

    async def is_done() -> bool:
        return (await look_up(edge.client, placed["id"]))["status"] == "succeeded"

    await wait_until(is_done)
    await edge.restart()
    found = await look_up(edge.client, placed["id"])
    assert found["status"] == "succeeded"
    assert found["created_at"] == placed["created_at"]
    assert found["metrics"]["predict_time"] == pytest.approx(1, abs=0.01)


async def test_a_waiting_order_is_canceled_at_once_and_the_hub_is_told(
    edge: "LiveEdge", hub: Broker, wait_until: "WaitUntil"
) -> None:
    placed = await order(edge.client)
    canceled = (await edge.client.post(f"/v1/predictions/{placed['id']}/cancel")).json()
    assert canceled["status"] == "canceled"
    assert canceled["completed_at"]
    assert (await look_up(edge.client, placed["id"]))["status"] == "canceled"
    again = await edge.client.post(f"/v1/predictions/{placed['id']}/cancel")
    assert again.json()["completed_at"] == canceled["completed_at"]

    async def is_told() -> bool:
        state = (await hub.js.stream_info(CANCELS_STREAM)).state
        return bool(state.messages)

    await wait_until(is_told)
    assert (await hub.js.get_last_msg(CANCELS_STREAM, cancel_job(placed["id"]))).subject


async def test_a_stream_sends_each_change_and_ends_with_the_job(
    edge: "LiveEdge", hub_nats: NatsServer, objects_url: str, tmp_path: Path
) -> None:
    async with hub_worker(hub_nats, objects_url, tmp_path):
        placed = await order(edge.client, size_px=1024)
        async with edge.client.stream("GET", f"/v1/predictions/{placed['id']}/stream") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            events = [line async for line in stream.aiter_lines()]
    names = [line.removeprefix("event: ") for line in events if line.startswith("event: ")]
    sent = [json.loads(line.removeprefix("data: ")) for line in events if line.startswith("data: ")]
    assert names == ["status"] * (len(names) - 1) + ["completed"]
    ids = [line for line in events if line.startswith("id: ")]
    assert len(ids) == len(set(ids)) == len(names)
    assert sent[-1]["status"] == "succeeded"
    steps = [p["progress"]["step"] for p in sent]
    assert steps == sorted(steps)
    master = await edge.client.get(sent[-1]["output"]["master"])
    assert master.headers["content-type"] == "image/png"
    assert master.headers["content-disposition"].startswith("attachment; filename=")
    assert len(master.content) == int(master.headers["content-length"])
    assert master.content.startswith(b"\x89PNG")


async def test_prefer_wait_answers_at_the_end_of_the_order_or_of_the_wait(
    edge: "LiveEdge", hub: Broker, wait_until: "WaitUntil"
) -> None:
    body = {"input": {"prompt": "gold moons on navy", "size_px": 256}}
    began_s = time.monotonic()
    early = await edge.client.post("/v1/predictions", json=body, headers={"Prefer": "wait=1"})
    assert early.json()["status"] == "starting"
    assert time.monotonic() - began_s > 0.9
    waiting = asyncio.ensure_future(
        edge.client.post("/v1/predictions", json=body, headers={"Prefer": "respond-async, wait=30"})
    )

    async def is_there() -> bool:
        return len(await jobs_at(hub)) == 2

    await wait_until(is_there)
    job = (await jobs_at(hub))[-1]
    assert not waiting.done()
    done = msgspec.structs.replace(
        accepted_status(job, pattern_key(job.spec)), state=JobState.COMPLETED, attempt=1, completed_at=time.time()
    )
    await publish(hub, done)
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")


async def test_pages_of_orders_follow_each_other(edge: "LiveEdge") -> None:
    placed = [(await order(edge.client, size_px=64 + number))["id"] for number in range(60)]
    first = (await edge.client.get("/v1/predictions")).json()
    assert len(first["results"]) == 50
    second = (await edge.client.get(first["next"])).json()
    assert second["next"] is None
    assert [p["id"] for p in first["results"] + second["results"]] == placed[::-1]


async def test_open_streams_do_not_keep_a_stopping_edge(edge: "LiveEdge") -> None:
    placed = await order(edge.client)
    async with edge.client.stream("GET", f"/v1/predictions/{placed['id']}/stream") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        assert await anext(lines) == "event: status"
        began_s = time.monotonic()
        await edge.stop()
        assert edge.process.returncode == 0
        assert time.monotonic() - began_s < 5


async def test_a_client_that_goes_away_is_no_longer_waited_on(edge: "LiveEdge", wait_until: "WaitUntil") -> None:
    placed = await order(edge.client)
    async with httpx.AsyncClient() as other, other.stream("GET", f"{placed['urls']['get']}/stream") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        assert await anext(lines) == "event: status"
        assert (await edge.client.get("/healthz")).json()["clients_waiting"] == 1

    async def is_free() -> bool:
        return bool((await edge.client.get("/healthz")).json()["clients_waiting"] == 0)

    await wait_until(is_free)


async def test_an_edge_without_its_nats_still_serves_previews_and_refuses_orders_for_now(
    edge: "LiveEdge", edge_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    placed = await order(edge.client)
    await edge_nats.kill()
    assert (await edge.client.post("/v1/previews", json={"prompt": "stars"})).status_code == 200
    body = {"input": {"prompt": "stars", "size_px": 256}}
    refused = await edge.client.post("/v1/predictions", json=body)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    await edge_nats.start()

    async def is_back() -> bool:
        return (await edge.client.post("/v1/predictions", json=body)).status_code == 201

    await wait_until(is_back, timeout_s=OUTAGE_RECOVERY_S)
    assert (await look_up(edge.client, placed["id"]))["id"] == placed["id"]


async def test_statuses_of_unknown_orders_are_kept_and_unreadable_ones_passed_over(
    edge: "LiveEdge", edge_nats: NatsServer, hub: Broker, wait_until: "WaitUntil"
) -> None:
    """An edge killed between OUTBOX and ORDERS learns of its order again from the hub."""
    placed = await order(edge.client)

    async def is_there() -> bool:
        return bool(await jobs_at(hub))

    await wait_until(is_there)
    (job,) = await jobs_at(hub)
    stray = msgspec.structs.replace(job, id=placed["id"][:-1] + ("0" if placed["id"][-1] != "0" else "1"))
    await publish(hub, accepted_status(stray, placed["pattern_key"]))

    async def is_known() -> bool:
        return (await edge.client.get(f"/v1/predictions/{stray.id}")).status_code == 200

    await wait_until(is_known)
    async with open_broker(edge_nats.url, name="test", domain=edge_domain("test")) as broker:
        bucket = await broker.js.key_value(ORDERS_BUCKET)
        await bucket.put("0" * 26, b"written by nobody")
    await edge.restart()
    listed = (await edge.client.get("/v1/predictions")).json()["results"]
    assert {found["id"] for found in listed} == {placed["id"], stray.id}
    assert (await edge.client.get(f"/v1/predictions/{'0' * 26}")).status_code == 404
