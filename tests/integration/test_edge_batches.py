"""Batches at a live edge: checked by the line, fed by the window, told of as one, whoever dies meanwhile.

Long because all of these share how a batch is sent and waited for, and modules of tests do not import each other.
"""

import asyncio
import contextlib
import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from halfdrop.contracts.jobs import JobState, accepted_status, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, job_event
from halfdrop.deploy.parts import Part
from halfdrop.deploy.processes import make_hub
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.streams import ensure_hub_streams

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge, StartReceiver

JSONL = {"content-type": "application/jsonl"}
DONE_S = 100.0


def specs(count: int, *, size_px: int = 64, colours: int = 20) -> list[dict[str, Any]]:
    """Lines of small orders, of a few different patterns: what is tested here is not drawing."""
    return [
        {"custom_id": f"spec-{n}", "input": {"prompt": "red dots on white", "seed": n % colours, "size_px": size_px}}
        for n in range(count)
    ]


def encode(lines: Iterable[object]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


async def submit(client: httpx.AsyncClient, lines: Iterable[object], query: str = "", **headers: str) -> dict[str, Any]:
    answer = await client.post(f"/v1/batches{query}", content=encode(lines), headers={**JSONL, **headers})
    assert answer.status_code == 201, answer.text
    batch: dict[str, Any] = answer.json()
    assert answer.headers["location"] == batch["urls"]["get"]
    return batch


async def look_up(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/batches/{batch_id}")
    assert answer.status_code == 200, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


async def wait_over(
    client: httpx.AsyncClient, batch_id: str, wait_until: "WaitUntil", timeout_s: float = DONE_S
) -> dict[str, Any]:
    latest: dict[str, Any] = {}

    async def is_over() -> bool:
        try:
            latest.update(await look_up(client, batch_id))
        except httpx.TransportError:  # the edge is being started again
            return False
        return latest["status"] in ("completed", "canceled")

    await wait_until(is_over, timeout_s=timeout_s, poll_s=0.1)
    return latest


async def results_of(client: httpx.AsyncClient, batch_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/batches/{batch_id}/results")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@asynccontextmanager
async def hub_worker(hub_nats: NatsServer, objects_url: str, tmp_path: Path) -> AsyncIterator[Part]:
    worker = make_hub(name="hub-1", nats_url=hub_nats.url, objects_url=objects_url, log_path=tmp_path / "hub.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFDROP_HUB_WARM", "false")  # no job here needs torch
        await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def instant_hub(nats: NatsServer) -> AsyncIterator[Counter[str]]:
    """A hub that finishes each job at once and makes no files; counts how often it was given each."""
    seen: Counter[str] = Counter()
    async with open_broker(nats.url, name="instant-hub", domain=HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        jobs = await broker.js.pull_subscribe("jobs.>", durable="instant", stream=JOBS_STREAM)

        async def work() -> None:
            while True:
                with contextlib.suppress(TimeoutError):
                    for message in await jobs.fetch(32, timeout=1):
                        job = decode_job(message.data)
                        assert job.job_class == "bulk"
                        seen[job.id] += 1
                        now = time.time()
                        done = msgspec.structs.replace(
                            accepted_status(job, pattern_key(job.spec)),
                            state=JobState.COMPLETED, attempt=1, started_at=now, completed_at=now,
                        )  # fmt: skip
                        await broker.js.publish(job_event(job.origin, job.id), encode_status(done))
                        await message.ack()

        task = asyncio.create_task(work())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def messages_in(nats: NatsServer, domain: str, stream: str) -> int:
    async with open_broker(nats.url, name="test", domain=domain) as broker:
        return (await broker.js.stream_info(stream)).state.messages


async def test_good_lines_run_and_bad_ones_are_told_by_number(
    edge: "LiveEdge", hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    lines: list[object] = [*specs(6)]
    lines[1] = b"{no json"
    lines[3] = {"custom_id": "spec-0", "input": {"prompt": "twice the same name"}}
    lines[4] = {"input": {"prompt": "blue stripes", "size_px": 5}}
    lines.insert(2, b"")
    lines.append({"input": {"prompt": "blue stripes on cream", "size_px": 64}, "colour": "blue"})
    lines.append({"input": {"prompt": "blue stripes on cream", "size_px": 64}})
    placed = await submit(edge.client, lines)
    assert placed["counts"] == {
        "total": 8, "refused": 4, "waiting": 4, "queued": 0, "processing": 0, "completed": 0, "failed": 0,
        "canceled": 0,
    }  # fmt: skip
    assert placed["status"] == "running"
    errors = [json.loads(line) for line in (await edge.client.get(placed["urls"]["errors"])).text.splitlines()]
    assert [error["line"] for error in errors] == [2, 5, 6, 8]
    assert errors[1]["field"] == "custom_id"
    assert errors[1]["got"] == "spec-0"
    assert errors[2] == {
        "line": 6, "code": "invalid-input", "field": "input.size_px", "got": "5", "allowed": "64 to 8192",
        "detail": "input.size_px: got '5'; allowed: 64 to 8192",
    }  # fmt: skip
    async with hub_worker(hub_nats, objects_url, tmp_path):
        done = await wait_over(edge.client, placed["id"], wait_until)
    assert done["status"] == "completed"
    assert done["counts"]["completed"] == 4
    assert done["progress"] == 1.0
    assert done["started_at"] <= done["finished_at"]
    results = await results_of(edge.client, placed["id"])
    assert [(found["line"], found["custom_id"]) for found in results] == [
        (1, "spec-0"), (4, "spec-2"), (7, "spec-5"), (9, None),
    ]  # fmt: skip
    for found in results:
        assert found["status"] == "succeeded"
        master = await edge.client.get(found["prediction"]["output"]["master"])
        assert master.content.startswith(b"\x89PNG")


async def test_a_batch_of_which_no_line_can_run_is_refused_and_so_is_one_that_wants_all_or_nothing(
    edge: "LiveEdge",
) -> None:
    bad, good = {"input": {"prompt": ""}}, {"input": {"prompt": "red dots"}}
    for lines, query, refused in (([bad, bad], "", 2), ([good, bad], "?on_error=refuse", 1)):
        answer = await edge.client.post(f"/v1/batches{query}", content=encode(lines), headers=JSONL)
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["type"] == "urn:halfdrop:batch-refused"
        assert len(problem["errors"]) == refused
        assert problem["errors"][-1]["line"] == 2
        assert problem["errors"][-1]["field"] == "input.prompt"
    assert (await edge.client.get("/v1/batches")).json()["results"] == []
    for content, headers, status in (
        (b"", JSONL, 400),
        (b"\n\n", JSONL, 400),
        (encode([good]), {"content-type": "application/json"}, 415),
        (encode([good]), {**JSONL, "cancel-after": "soon"}, 422),
    ):
        answer = await edge.client.post("/v1/batches", content=content, headers=headers)
        assert answer.status_code == status, answer.text
    assert (
        await edge.client.post("/v1/batches?on_error=stop", content=encode([good]), headers=JSONL)
    ).status_code == 422


async def test_a_batch_that_is_too_large_is_refused_by_its_lines_and_by_its_bytes(start_edge: "StartEdge") -> None:
    edge = await start_edge(BATCH_LINES_MAX=5, BATCH_MAX_MIB=1)
    answer = await edge.client.post("/v1/batches", content=encode(specs(6)), headers=JSONL)
    assert answer.status_code == 413
    assert "5 lines" in answer.json()["detail"]
    answer = await edge.client.post("/v1/batches", content=b" " * (2**20 + 1), headers=JSONL)
    assert answer.status_code == 413
    long = json.dumps({"input": {"prompt": "x" * 70_000}}).encode()
    placed = await submit(edge.client, [long, *specs(1)])
    errors = [json.loads(line) for line in (await edge.client.get(placed["urls"]["errors"])).text.splitlines()]
    assert [(error["line"], error["code"]) for error in errors] == [(1, "body-too-large")]


async def test_the_same_batch_sent_twice_under_one_key_is_one_batch(edge: "LiveEdge") -> None:
    key = {"idempotency-key": '"monday"'}
    first = await submit(edge.client, specs(3), **key)
    again = await submit(edge.client, specs(3), **key)
    assert again["id"] == first["id"]
    other = await edge.client.post("/v1/batches", content=encode(specs(4)), headers={**JSONL, **key})
    assert other.status_code == 422
    assert other.json()["type"] == "urn:halfdrop:idempotency-key-reused"
    listed = (await edge.client.get("/v1/batches")).json()["results"]
    assert [batch["id"] for batch in listed] == [first["id"]]


async def test_a_window_of_a_batch_is_unfinished_at_once_and_its_orders_can_be_listed_apart(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    placed = await submit(edge.client, specs(40))

    async def is_full() -> bool:
        return bool((await look_up(edge.client, placed["id"]))["counts"]["queued"] == 4)

    await wait_until(is_full, timeout_s=30)
    alone = await edge.client.post("/v1/predictions", json={"input": {"prompt": "blue waves"}, "class": "realtime"})
    assert alone.status_code == 201
    await wait_until(lambda: _has_messages(hub_nats, 5), timeout_s=30)
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        queued = await broker.js.stream_info(JOBS_STREAM, subjects_filter="jobs.>")
        subjects = queued.state.subjects or {}
    assert {subject.split(".")[1]: jobs for subject, jobs in subjects.items()} == {"bulk": 4, "realtime": 1}
    assert (await look_up(edge.client, placed["id"]))["counts"]["waiting"] == 36
    listed = (await edge.client.get("/v1/predictions")).json()["results"]
    assert len(listed) == 5
    of_batch = (await edge.client.get(placed["urls"]["predictions"])).json()["results"]
    assert len(of_batch) == 4
    assert alone.json()["id"] not in {prediction["id"] for prediction in of_batch}
    assert (await edge.client.get("/v1/predictions?batch=0kf5xk3q6v8c2m9t4r7w1y")).status_code == 404


async def _has_messages(nats: NatsServer, count: int) -> bool:
    return await messages_in(nats, HUB_DOMAIN, JOBS_STREAM) == count


async def test_a_paused_batch_starts_nothing_new_and_goes_on_where_it_stopped(
    edge: "LiveEdge", hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    async with hub_worker(hub_nats, objects_url, tmp_path):
        placed = await submit(edge.client, specs(60))

        async def has_begun() -> bool:
            return bool((await look_up(edge.client, placed["id"]))["counts"]["completed"] >= 3)

        await wait_until(has_begun, timeout_s=60, poll_s=0.02)
        paused = (await edge.client.post(placed["urls"]["pause"])).json()
        assert paused["status"] == "paused"
        assert paused["eta_seconds"] is None
        await asyncio.sleep(1)  # what a pause may take
        waiting = (await look_up(edge.client, placed["id"]))["counts"]["waiting"]
        assert waiting > 0

        async def is_quiet() -> bool:
            counts = (await look_up(edge.client, placed["id"]))["counts"]
            assert counts["waiting"] == waiting, "a line was placed after the pause"
            return bool(counts["queued"] + counts["processing"] == 0)

        await wait_until(is_quiet, timeout_s=60)
        await edge.kill()  # a pause holds across a crash
        await edge.start()
        assert (await look_up(edge.client, placed["id"]))["status_reason"] == "paused"
        assert (await look_up(edge.client, placed["id"]))["counts"]["waiting"] == waiting
        resumed = (await edge.client.post(placed["urls"]["resume"])).json()
        assert resumed["status"] == "running"
        done = await wait_over(edge.client, placed["id"], wait_until)
    assert done["counts"]["completed"] == 60


async def test_a_canceled_batch_places_nothing_more_and_stops_what_was_placed(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    placed = await submit(edge.client, specs(30))
    late = await submit(edge.client, specs(30), **{"cancel-after": "5s"})
    assert late["deadline"] is not None

    async def is_fed() -> bool:
        return bool((await look_up(edge.client, placed["id"]))["counts"]["queued"] == 4)

    await wait_until(is_fed, timeout_s=30)
    canceling = (await edge.client.post(placed["urls"]["cancel"])).json()
    assert canceling["status"] in ("canceling", "canceled")
    for batch_id in (placed["id"], late["id"]):
        done = await wait_over(edge.client, batch_id, wait_until, timeout_s=30)
        assert done["status"] == "canceled"
        assert done["counts"]["canceled"] == 30
        assert {found["status"] for found in await results_of(edge.client, batch_id)} == {"canceled"}
    assert (await edge.client.post(placed["urls"]["resume"])).json()["status"] == "canceled"
    orders = (await edge.client.get(placed["urls"]["predictions"])).json()["results"]
    assert [order["state"] for order in orders] == ["canceled"] * 4


async def test_an_edge_killed_again_and_again_while_it_feeds_gives_each_line_one_result(
    edge: "LiveEdge", hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    async with hub_worker(hub_nats, objects_url, tmp_path):
        placed = await submit(edge.client, specs(30))
        for least in (3, 10, 18):

            async def is_at(least: int = least) -> bool:
                counts = (await look_up(edge.client, placed["id"]))["counts"]
                return bool(counts["completed"] >= least)

            await wait_until(is_at, timeout_s=60, poll_s=0.01)
            await edge.kill()
            await edge.start()
        done = await wait_over(edge.client, placed["id"], wait_until)
        assert done["status"] == "completed"
        assert done["counts"]["completed"] == 30
        await wait_until(lambda: _has_messages(hub_nats, 0), timeout_s=30)
    results = await results_of(edge.client, placed["id"])
    assert [found["line"] for found in results] == list(range(1, 31))
    assert {found["status"] for found in results} == {"succeeded"}
    assert len({found["prediction"]["id"] for found in results}) == 30
    folders = (Path(urlsplit(objects_url).path) / "jobs" / "local").iterdir()
    assert len(list(folders)) == 30, "a line was made twice"


async def test_the_zip_holds_each_files_own_bytes_and_says_what_came_of_each_line(
    edge: "LiveEdge", hub_nats: NatsServer, objects_url: str, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    lines = [*specs(3), {"input": {"prompt": "blue stripes on cream", "size_px": 128}}]
    placed = await submit(edge.client, lines)
    early = await edge.client.get(f"{placed['urls']['results']}?format=zip")
    assert early.headers["halfdrop-partial"] == "true"
    with zipfile.ZipFile(io.BytesIO(early.content)) as archive:
        assert archive.namelist() == ["results.jsonl"]
    async with hub_worker(hub_nats, objects_url, tmp_path):
        await wait_over(edge.client, placed["id"], wait_until)
    answer = await edge.client.get(f"{placed['urls']['results']}?format=zip")
    assert answer.headers["content-type"] == "application/zip"
    assert "halfdrop-partial" not in answer.headers
    results = {
        found["custom_id"] or f"line-{found['line']}": found for found in await results_of(edge.client, placed["id"])
    }
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {"spec-0", "spec-1", "spec-2", "line-4", "results.jsonl"}
        for name in names:
            folder, _, file_name = name.partition("/")
            if not file_name:
                continue
            order_id = results[folder]["prediction"]["id"]
            stored = Path(urlsplit(objects_url).path) / "jobs" / "local" / order_id / file_name
            assert archive.read(name) == stored.read_bytes()
            assert "master.png" in {other.partition("/")[2] for other in names if other.startswith(folder)}
        told = [json.loads(line) for line in archive.read("results.jsonl").splitlines()]
    assert [(found["line"], found["status"]) for found in told] == [(n, "succeeded") for n in range(1, 5)]


async def test_a_thousand_lines_with_ten_bad_ones_give_nine_hundred_and_ninety_results(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    lines: list[object] = [*specs(1_000)]
    for place in range(50, 1_000, 100):
        lines[place] = {"input": {"prompt": "red dots", "seed": -place}}
    async with instant_hub(hub_nats) as seen:
        placed = await submit(edge.client, lines)
        assert placed["counts"]["refused"] == 10
        async with edge.client.stream("GET", placed["urls"]["stream"], timeout=DONE_S) as stream:
            lines_sent = [line async for line in stream.aiter_lines()]
    snapshots = [json.loads(line.removeprefix("data: ")) for line in lines_sent if line.startswith("data: ")]
    assert snapshots[-1]["status"] == "completed"
    assert snapshots[-1]["counts"]["completed"] == 990
    shares = [snapshot["progress"] for snapshot in snapshots]
    assert shares == sorted(shares)
    assert len(shares) >= 5
    assert any(snapshot["eta_seconds"] for snapshot in snapshots)
    assert len(seen) == 990
    assert set(seen.values()) == {1}
    bad = [json.loads(line)["line"] for line in (await edge.client.get(placed["urls"]["errors"])).text.splitlines()]
    assert bad == list(range(51, 1_001, 100))
    good = [found["line"] for found in await results_of(edge.client, placed["id"])]
    assert good == sorted(set(range(1, 1_001)) - set(bad))


async def test_the_end_of_a_batch_is_told_to_its_webhook_once(
    edge: "LiveEdge", start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver()
    placed = await submit(edge.client, specs(3), f"?webhook={receiver.url}")
    (await edge.client.post(placed["urls"]["cancel"])).raise_for_status()
    await wait_until(lambda: receiver.ids, timeout_s=30)
    await edge.kill()
    await edge.start()
    told = receiver.received[0].json
    assert told["type"] == "batch.completed"
    assert told["data"] == (await edge.client.get(placed["urls"]["get"])).json()
    assert told["data"]["status"] == "canceled"
    await wait_until(lambda: "halfdrop_webhooks_waiting 0.0" in httpx.get(f"{edge.url}/metrics").text)
    assert set(receiver.ids) == {f"{placed['id']}.completed"}


async def test_a_batch_waits_for_the_edges_own_nats_and_says_so(
    edge: "LiveEdge", edge_nats: NatsServer, hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    async with instant_hub(hub_nats) as seen:
        placed = await submit(edge.client, specs(2000))  # more than are placed before the kill

        async def has_begun() -> bool:
            return bool((await look_up(edge.client, placed["id"]))["counts"]["completed"] >= 5)

        await wait_until(has_begun, timeout_s=60, poll_s=0.01)
        await edge_nats.kill()

        async def says_so() -> bool:
            return "NATS" in ((await look_up(edge.client, placed["id"]))["status_reason"] or "")

        await wait_until(says_so, timeout_s=30)
        await edge_nats.start()
        done = await wait_over(edge.client, placed["id"], wait_until)
        assert done["counts"]["completed"] == 2000
        assert done["status_reason"] is None
    assert len(seen) == 2000
    assert set(seen.values()) == {1}
