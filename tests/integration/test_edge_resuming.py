"""Streams that go on where they broke, across restarts of the edge, and polling that costs nothing without news."""

import time
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from halfdrop.contracts.jobs import (
    Artifact,
    JobState,
    JobStatus,
    ProgressPicture,
    accepted_status,
    decode_job,
    encode_status,
)
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, artifact_path, job_event
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.event_stream import ServerEvent, read_events
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge

BODY = {"input": {"prompt": "red dots on white", "size_px": 256}}


async def start_job(edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil") -> JobStatus:
    """Place an order and return the status of its job as a worker would begin it."""
    placed = (await edge.client.post("/v1/predictions", json=BODY)).json()
    async with open_broker(hub_nats.url, name="worker", domain=HUB_DOMAIN) as broker:

        async def is_there() -> bool:
            return (await broker.js.stream_info(JOBS_STREAM)).state.messages == 1

        await wait_until(is_there)
        message = await broker.js.get_msg(JOBS_STREAM, seq=(await broker.js.stream_info(JOBS_STREAM)).state.last_seq)
    job = decode_job(message.data or b"")
    assert job.id == placed["id"]
    return msgspec.structs.replace(
        accepted_status(job, placed["pattern_key"]),
        state=JobState.PROCESSING, attempt=1, started_at=time.time(), step=2, steps=12, log=("sampling: 0.1 s",),
    )  # fmt: skip


async def publish(hub_nats: NatsServer, status: JobStatus) -> None:
    async with open_broker(hub_nats.url, name="worker", domain=HUB_DOMAIN) as broker:
        await broker.js.publish(job_event(status.origin, status.id), encode_status(status))


def finished(status: JobStatus) -> JobStatus:
    names = ("master.png", "pattern.svg", "proof.png")
    files = tuple(
        Artifact(
            name=name, path=f"jobs/local/{status.id}/{name}", media_type="image/png", size_bytes=1, sha256="0" * 64
        )
        for name in names
    )
    return msgspec.structs.replace(
        status, state=JobState.COMPLETED, step=12, completed_at=time.time(), artifacts=files,
        log=(*status.log, "master: 0.2 s"),
    )  # fmt: skip


async def read_some(edge: "LiveEdge", path: str, count: int | None = None, seen: str = "") -> list[ServerEvent]:
    """Return the first `count` events of a stream, or all."""
    events: list[ServerEvent] = []
    lines: list[str] = []
    headers = {"Last-Event-ID": seen} if seen else {}
    async with edge.client.stream("GET", path, headers=headers) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            lines.append(line)
            if not line:
                events = list(read_events(lines))
                if count is not None and len(events) >= count:
                    break
    return events


async def known_step(edge: "LiveEdge", order_id: str) -> Any:
    return (await edge.client.get(f"/v1/predictions/{order_id}")).json()["progress"]["step"]


async def test_replicates_events_go_on_after_a_restart_with_nothing_twice(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    running = await start_job(edge, hub_nats, wait_until)
    path = f"/v1/predictions/{running.id}/stream?events=replicate"
    await publish(hub_nats, running)
    (first,) = await read_some(edge, path, 1)
    assert (first.kind, first.data) == ("logs", "sampling: 0.1 s")
    await edge.kill()
    await publish(hub_nats, finished(running))
    await edge.start()
    rest = await read_some(edge, path, seen=first.id)
    assert [event.kind for event in rest] == ["logs", "output", "output", "output", "done"]
    assert rest[0].data == "master: 0.2 s"
    assert [event.kind for event in await read_some(edge, path, seen=rest[2].id)] == ["output", "done"]
    ended = await edge.client.get(path, headers={"Last-Event-ID": rest[-1].id})
    assert (ended.status_code, ended.content) == (204, b"")


async def test_snapshots_go_on_with_the_newest_unless_it_was_seen(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    running = await start_job(edge, hub_nats, wait_until)
    path = f"/v1/predictions/{running.id}/stream"
    await publish(hub_nats, running)

    async def is_running() -> bool:
        return bool(await known_step(edge, running.id) == 2)

    await wait_until(is_running)
    (first,) = await read_some(edge, path, 1)
    await edge.restart()
    async with edge.client.stream("GET", path, headers={"Last-Event-ID": first.id}) as stream:
        await publish(hub_nats, msgspec.structs.replace(running, step=5))
        lines: list[str] = []
        async for line in stream.aiter_lines():
            lines.append(line)
            if not line:
                break
    (second,) = read_events(lines)
    assert '"step":5' in second.data  # the one that was seen did not come again before it
    await publish(hub_nats, finished(running))
    rest = await read_some(edge, path, seen=second.id)
    assert [event.kind for event in rest] == ["completed"]
    ended = await edge.client.get(path, headers={"Last-Event-ID": rest[-1].id})
    assert ended.status_code == 204
    again = await read_some(edge, path, seen="what nobody sent")
    assert [event.kind for event in again] == ["completed"]


async def test_polling_without_news_is_answered_304(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    running = await start_job(edge, hub_nats, wait_until)
    await publish(hub_nats, running)

    async def is_running() -> bool:
        return bool(await known_step(edge, running.id) == 2)

    await wait_until(is_running)
    path = f"/v1/predictions/{running.id}"
    await publish(hub_nats, finished(running))

    async def is_done() -> bool:
        return bool((await edge.client.get(path)).json()["status"] == "succeeded")

    await wait_until(is_done)
    first = await edge.client.get(path)

    async def poll(tag: str) -> httpx.Response:
        return await edge.client.get(path, headers={"If-None-Match": tag})

    same = await poll(first.headers["etag"])
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    other = await poll('W/"other"')
    assert (other.status_code, other.json()) == (200, first.json())


async def test_an_order_that_is_sampled_shows_a_picture_until_it_is_done(
    edge: "LiveEdge", hub_nats: NatsServer, objects_url: str, wait_until: "WaitUntil"
) -> None:
    running = await start_job(edge, hub_nats, wait_until)
    path = artifact_path("local", running.id, "progress.webp")
    await open_objects(objects_url).put(path, b"RIFF a picture", media_type="image/webp")
    await publish(
        hub_nats, msgspec.structs.replace(running, step=3, progress_picture=ProgressPicture(path=path, step=3))
    )

    async def is_shown() -> bool:
        return bool(await known_step(edge, running.id) == 3)

    await wait_until(is_shown)
    address = (await edge.client.get(f"/v1/predictions/{running.id}")).json()["progress"]["picture"]
    assert address.endswith(f"/v1/predictions/{running.id}/progress/3.webp")
    shown = await edge.client.get(address)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert shown.content == b"RIFF a picture"
    for other in ("x.webp", "3.png", ".webp"):
        assert (await edge.client.get(f"/v1/predictions/{running.id}/progress/{other}")).status_code == 404
    await publish(hub_nats, finished(running))

    async def is_done() -> bool:
        return (await edge.client.get(f"/v1/predictions/{running.id}")).json()["progress"]["picture"] is None

    await wait_until(is_done)
    assert (await edge.client.get(address)).status_code == 404
