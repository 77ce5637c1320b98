"""Estimates at a live edge, from worker states that come over the leaf node."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halfdrop.contracts.pools import Lane, WorkerState, encode_state
from halfdrop.contracts.subjects import HUB_DOMAIN, worker_state
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.keys import Scope, create_key
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

KEY_BODY = {"input": {"prompt": "red dots on white", "size_px": 1024}}


def worker(**members: Any) -> WorkerState:
    lanes = (
        Lane(job_class="standard", tenant="local", jobs=1, work=1.0),
        Lane(job_class="standard", tenant="rival", jobs=5, work=5.0),
    )
    known = {"region": "local", "worker": "w1", "at": 1.0, "busy": 1, "units_per_s": 0.5, "lanes": lanes}
    return WorkerState(**{**known, "size_max_px": 2048, **members})


async def tell(nats: NatsServer, *states: WorkerState) -> None:
    async with open_broker(nats.url, name="worker", domain=HUB_DOMAIN) as broker:
        await _publish(broker, *states)


async def _publish(broker: Broker, *states: WorkerState) -> None:
    for state in states:
        await broker.nc.publish(worker_state(state.region, state.worker), encode_state(state))
    await broker.nc.flush()


async def pools_of(edge: "LiveEdge", **headers: str) -> list[dict[str, Any]]:
    answer = await edge.client.get("/v1/pools", headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["regions"]
    return found


async def test_orders_are_told_their_place_and_time_while_a_pool_is_heard(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    early = (await edge.client.post("/v1/predictions", json=KEY_BODY)).json()
    assert (early["starts_in_seconds"], early["region"], early["reason"]) == (None, None, "no pool is heard")
    await tell(hub_nats, worker(), WorkerState(region="far", worker="w9", at=1.0))

    async def hears_both() -> bool:
        return [region["name"] for region in await pools_of(edge)] == ["far", "local"]

    await wait_until(hears_both)
    (_, local) = await pools_of(edge)
    assert (local["slots"], local["busy"], local["units_per_s"]) == (1, 1, 0.5)
    assert local["classes"]["standard"] == {"weight": 3.0, "tenants": 2, "jobs": 6, "work": 6.0}
    placed = (await edge.client.post("/v1/predictions", json=KEY_BODY)).json()
    assert placed["region"] == "local"
    assert placed["queue_position"] >= 1
    assert placed["reason"] == f"behind {placed['queue_position']} orders"
    assert placed["starts_in_seconds"] > 1.0
    assert placed["eta_seconds"] == pytest.approx(placed["starts_in_seconds"] + 2.0, abs=0.2)

    async def forgot() -> bool:
        return await pools_of(edge) == []

    await wait_until(forgot)
    found = (await edge.client.get(f"/v1/predictions/{placed['id']}")).json()
    assert (found["starts_in_seconds"], found["queue_position"], found["reason"]) == (None, 1, "no pool is heard")


async def test_an_order_larger_than_any_pool_makes_is_refused_at_the_door(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    body = {"input": {"prompt": "red dots on white", "size_px": 4096}}
    assert (await edge.client.post("/v1/predictions", json=body)).status_code == 201
    await tell(hub_nats, worker())

    async def is_heard() -> bool:
        return bool(await pools_of(edge))

    await wait_until(is_heard)
    refused = await edge.client.post("/v1/predictions", json=body)
    assert refused.status_code == 422
    problem = refused.json()
    assert (problem["field"], problem["got"]) == ("input.size_px", "4096")
    assert problem["allowed"].startswith("up to 2048 px")


async def test_garbage_from_a_worker_is_told_of_once_and_harms_nobody(
    edge: "LiveEdge", hub_nats: NatsServer, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    async with open_broker(hub_nats.url, name="worker", domain=HUB_DOMAIN) as broker:
        for number in range(50):
            await broker.nc.publish(worker_state("local", f"odd-{number}"), b"\xff{" * number)
        await _publish(broker, worker())

    async def is_heard() -> bool:
        return len(await pools_of(edge)) == 1

    await wait_until(is_heard)
    lines = [json.loads(line) for line in (tmp_path / "edge.log").read_text().splitlines() if line.startswith("{")]
    assert sum(line["event"] == "worker_state_refused" for line in lines) == 1


async def test_a_tenant_sees_its_own_lanes_and_an_admin_all(
    start_edge: "StartEdge", hub_nats: NatsServer, objects_url: str
) -> None:
    objects = open_objects(objects_url)
    keys = {}
    scopes: tuple[Scope, ...] = ("orders", "admin")
    for scope in scopes:
        keys[scope], _ = await create_key(
            objects, tenant="rival", scopes=(scope,), tier="unlimited", label="", now=time.time(), expires_at=None
        )
    edge = await start_edge(ACCESS="keys")

    async def lanes(scope: str) -> list[str]:
        regions = await pools_of(edge, authorization=f"Bearer {keys[scope]}")
        return [lane["tenant"] for region in regions for lane in region["lanes"]]

    await tell(hub_nats, worker())
    async with asyncio.timeout(10):
        while not await lanes("admin"):
            await tell(hub_nats, worker())
    assert await lanes("orders") == ["rival"]
    assert await lanes("admin") == ["local", "rival"]
    assert (await edge.client.get("/v1/pools")).status_code == 401
