"""Batches at a live edge: checked by the line, fed by the window, told of as one, whoever dies meanwhile."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halfdrop.deploy.parts import Part
from halfdrop.deploy.processes import make_hub
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge

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
