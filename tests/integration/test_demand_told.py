"""What an edge tells of demand gets to the hub's DEMAND: through a stop, a restart and an outage of the hub."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from halfdrop.contracts.demand import DemandReport, decode_report
from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.subjects import HUB_DOMAIN
from halfdrop.deploy.servers import NatsServer
from halfdrop.forecaster.demand_stream import open_demand_stream
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.streams import ensure_demand_stream

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge


@pytest.fixture
async def hub(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def order(edge: "LiveEdge", seed: int, job_class: str) -> None:
    body = {"input": {"prompt": "red dots on white", "size_px": 1024, "seed": seed}, "class": job_class}
    answer = await edge.client.post("/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text


async def reports_at(hub: Broker) -> list[DemandReport]:
    async with open_demand_stream(hub) as stream:
        return [decode_report(stored.data) for stored in await stream.read(1)]


async def test_orders_are_told_of_though_the_edge_stops_at_once_and_the_hub_is_away(
    edge: "LiveEdge", hub_nats: NatsServer, hub: Broker, wait_until: "WaitUntil"
) -> None:
    await ensure_demand_stream(hub.js)
    await order(edge, 1, "standard")
    await hub_nats.kill()
    await order(edge, 2, "bulk")
    await order(edge, 3, "bulk")
    await edge.stop()  # long before the minute is over
    await hub_nats.start()
    await edge.start()

    async def is_told() -> bool:
        with contextlib.suppress(Unavailable):
            return sum(row.requests or 0 for report in await reports_at(hub) for row in report.rows) >= 3
        return False

    await wait_until(is_told, timeout_s=30.0)
    counted: dict[str, int] = {}
    offered = 0.0
    for row in (row for report in await reports_at(hub) for row in report.rows):
        assert (row.region, row.model, row.tier, row.gpu_s_served) == ("local", "house", "finish", None)
        counted[row.job_class] = counted.get(row.job_class, 0) + (row.requests or 0)
        offered += row.gpu_s_offered or 0
    assert counted == {"standard": 1, "bulk": 2, "realtime": 0}
    assert offered > 0
