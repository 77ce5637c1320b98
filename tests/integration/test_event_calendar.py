"""The calendar in a real bucket: entered, changed, listed, removed, and what others left in it."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import structlog

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.contracts.errors import InvalidInput, NotFound, Unavailable
from halfdrop.contracts.plans import DEMAND_EVENTS_BUCKET, AnnouncedDemand, encode_announced
from halfdrop.contracts.subjects import HUB_DOMAIN
from halfdrop.deploy.servers import NatsServer
from halfdrop.forecaster.calendar import open_calendar
from halfdrop.runtime.broker import Broker, open_broker

START = 1_790_000_000.0


def event(name: str, start: float = START, **members: object) -> DemandEvent:
    return msgspec.convert(
        {"type": "demand-event.v1", "id": name, "name": name, "start": start, "end": start + 3600, "uplift": 2.0}
        | members,
        DemandEvent,
    )


@pytest.fixture
async def broker(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def test_events_are_kept_listed_by_start_changed_and_removed(broker: Broker, hub_nats: NatsServer) -> None:
    calendar = await open_calendar(broker)
    assert await calendar.list() == []
    await calendar.put(event("second", START + 60))
    await calendar.put(event("first"))
    await calendar.put(event("second", START + 60, uplift=5.0))
    async with open_broker(hub_nats.url, name="other", domain=HUB_DOMAIN) as other:
        listed = await (await open_calendar(other)).list()
    assert [(one.id, one.uplift) for one in listed] == [("first", 2.0), ("second", 5.0)]
    await calendar.delete("first")
    assert [one.id for one in await calendar.list()] == ["second"]
    for missing in ("first", "no key"):
        with pytest.raises(NotFound, match="events list"):
            await calendar.delete(missing)


async def test_the_operators_events_are_listed_and_removed_in_kubernetes_only(broker: Broker) -> None:
    calendar = await open_calendar(broker)
    bucket = await broker.js.key_value(DEMAND_EVENTS_BUCKET)
    announced = AnnouncedDemand(name="sale", starts_at=START, ends_at=START + 60, uplift=2.0, regions=("eu",))
    await bucket.put("shop.sale", encode_announced(announced))
    assert [(one.id, one.region) for one in await calendar.list()] == [("shop.sale.eu", "eu")]
    for name in ("shop.sale", "shop.sale.eu"):
        with pytest.raises(InvalidInput, match="kubectl"):
            await calendar.delete(name)


async def test_what_is_no_event_is_logged_and_left_out(broker: Broker) -> None:
    calendar = await open_calendar(broker)
    bucket = await broker.js.key_value(DEMAND_EVENTS_BUCKET)
    await bucket.put("nonsense", b"\xff{")
    await bucket.put("long", msgspec.json.encode(event("long", end=START + 400 * 86_400)))
    await bucket.put("good", msgspec.json.encode(event("good")))
    with structlog.testing.capture_logs() as logs:
        assert [one.id for one in await calendar.list()] == ["good"]
    assert sorted(line["key"] for line in logs) == ["long", "nonsense"]
    with pytest.raises(InvalidInput, match="31 days"):
        await calendar.put(event("long", end=START + 400 * 86_400))
    await calendar.delete("long")


async def test_without_a_server_it_says_that_a_retry_helps(broker: Broker, hub_nats: NatsServer) -> None:
    calendar = await open_calendar(broker)
    await hub_nats.stop()
    with pytest.raises(Unavailable):
        await calendar.list()
    with pytest.raises(Unavailable):
        await calendar.put(event("one"))
