"""The planner on a real history and a real hub: plans lie where the operator reads them, events in the calendar."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

if TYPE_CHECKING:
    from tests.conftest import WaitUntil

from halfdrop.contracts.plans import DEMAND_EVENTS_BUCKET, PLANS_BUCKET, DemandPlan, decode_plan, find_absurdity
from halfdrop.contracts.subjects import HUB_DOMAIN
from halfdrop.deploy.ports import choose_port
from halfdrop.deploy.servers import NatsServer
from halfdrop.forecaster.demand_parts import SCHEMA, encode_part, live_path
from halfdrop.forecaster.service.process import run_planner
from halfdrop.forecaster.service.settings import PlannerSettings
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.exposition import encode_metrics, make_registry
from halfdrop.runtime.objects import ObjectStore, open_objects

GPUS = 8.0
MINUTES = 600


async def write_history(objects: ObjectStore) -> None:
    """Write some hours of one series, up to the newest minute that is settled, as the compactor does."""
    end = int(time.time()) // 60 - 2
    dice = np.random.default_rng(1)
    by_day: dict[object, list[dict[str, object]]] = {}
    for minute in range(end - MINUTES, end):
        at = datetime.fromtimestamp(minute * 60, UTC)
        work = float(max(0.0, dice.normal(GPUS, 0.6)) * 60)
        names = {"region": "local", "class": "standard", "model": "house", "tier": "finish"}
        counts = {"requests": round(work / 20), "late": 0, "cold_starts": 0, "wait_s_sum": 0.0, "boot_s_sum": 0.0}
        seen = {"gpu_s_offered": work, "gpu_s_served": work, "replicas": 10.0}
        by_day.setdefault(at.date(), []).append({"minute": at, **names, **counts, **seen})
    for number, (day, rows) in enumerate(by_day.items()):
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        await objects.put(live_path(day, "local.1", number * 10 + 1, number * 10 + 9), encode_part(table))


@pytest.fixture
def registry() -> CollectorRegistry:
    """What the process's metrics port serves, beside what the planner adds to it."""
    return make_registry(list)


@pytest.fixture
async def planner_url(
    hub_nats: NatsServer, objects_url: str, registry: CollectorRegistry, wait_until: "WaitUntil"
) -> AsyncIterator[str]:
    objects = open_objects(objects_url)
    await write_history(objects)
    settings = PlannerSettings(port=choose_port(), shards=1, learn_days=1)
    stop = asyncio.Event()
    running = asyncio.ensure_future(
        run_planner(settings, objects=objects, hubs={"local": hub_nats.url}, registry=registry, stop=stop)
    )
    url = f"http://127.0.0.1:{settings.port}"

    async def is_ready() -> bool:
        if running.done():
            running.result()
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient() as client:
                found = (await client.get(f"{url}/healthz")).json()
                return bool(found["series"] and found["learnt_share"] == 1)
        return False

    await wait_until(is_ready, timeout_s=60, poll_s=0.1)
    yield url
    stop.set()
    await running


async def test_plans_and_events_reach_the_hub_and_policies_the_store(
    planner_url: str,
    hub_nats: NatsServer,
    objects_url: str,
    registry: CollectorRegistry,
    wait_until: "WaitUntil",
) -> None:
    async with (
        open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker,
        httpx.AsyncClient(base_url=planner_url, timeout=30) as client,
    ):
        newest: list[DemandPlan] = []

        async def is_published(least: float) -> bool:
            with contextlib.suppress(Exception):  # neither bucket nor key need be there yet
                entry = await (await broker.js.key_value(PLANS_BUCKET)).get("local.all")
                newest[:] = [decode_plan(entry.value or b"")]
                return newest[0].series[0].busy[5][2] > least
            return False

        await wait_until(lambda: is_published(0.8 * GPUS), timeout_s=20)
        plan = newest[0]
        assert find_absurdity(plan, now=time.time()) == ""
        assert (plan.region, plan.pool, plan.step_s, len(plan.series[0].busy)) == ("local", "all", 60.0, 60)
        assert plan.series[0].busy[5][2] < 2 * GPUS
        assert time.time() - plan.made_at < 300
        (view,) = (await client.get("/v1/plans")).json()
        assert view["published"] == "Published as local.all."
        assert not view["is_stale"]
        scraped, _ = await asyncio.to_thread(encode_metrics, registry, "")
        assert b'halfdrop_planner_plan_stale{pool="all",region="local"} 0.0' in scraped

        event = {"name": "Autumn drop", "start": plan.made_at + 60, "end": plan.made_at + 7200, "uplift": 5.0}
        made = (await client.post("/v1/events", json=event)).json()
        calendar = await broker.js.key_value(DEMAND_EVENTS_BUCKET)
        assert b"Autumn drop" in ((await calendar.get(made["id"])).value or b"")
        await wait_until(lambda: is_published(3 * GPUS), timeout_s=20)
        await client.delete(f"/v1/events/{made['id']}")
        assert (await client.get("/v1/events")).json() == []

        answer = await client.put("/v1/policies/local/all", json={"wishes": {"replicas_min": 61}})
        assert answer.json()["terms"]["policy"]["replicas_min"] == 61
        stored = await open_objects(objects_url).get("capacity/policies/local.all.yaml")
        assert b"minReplicas: 61" in (stored or b"")
        assert (await client.get("/v1/plans")).json()[0]["planned"]["replicas"] == 61
