"""Clients that hang up on a live edge: their order stands, unless they asked that it be canceled then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import Broker, open_broker

if TYPE_CHECKING:
    from tests.integration.conftest import LiveEdge

WaitUntil = Callable[..., Awaitable[None]]


@pytest.fixture
async def hub(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def orders(edge: "LiveEdge") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await edge.client.get("/v1/predictions")).json()["results"]
    return found


async def place_and_hang_up(edge: "LiveEdge", prefer: str, wait_until: WaitUntil) -> str:
    """Order with `prefer`, close the connection once the order is accepted, and return its id."""
    body = {"input": {"prompt": "red dots on white", "size_px": 256}}
    known = {order["id"] for order in await orders(edge)}

    async def new() -> list[str]:
        return [order["id"] for order in await orders(edge) if order["id"] not in known]

    async with httpx.AsyncClient(base_url=edge.url, timeout=60) as client:
        asking = asyncio.create_task(client.post("/v1/predictions", json=body, headers={"Prefer": prefer}))
        await wait_until(new)
        [order_id] = await new()

        async def is_waited_for() -> bool:
            return bool((await edge.client.get("/healthz")).json()["clients_waiting"] == 1)

        await wait_until(is_waited_for)
        asking.cancel()
        await asyncio.wait([asking])
    return order_id


async def status_of(edge: "LiveEdge", order_id: str) -> str:
    return str((await edge.client.get(f"/v1/predictions/{order_id}")).json()["status"])


async def nobody_waits(edge: "LiveEdge") -> bool:
    return bool((await edge.client.get("/healthz")).json()["clients_waiting"] == 0)


async def test_who_hangs_up_on_a_wait_cancels_only_if_the_preference_says_so(
    edge: "LiveEdge", hub: Broker, wait_until: WaitUntil
) -> None:
    stands = await place_and_hang_up(edge, "wait=30", wait_until)
    await wait_until(lambda: nobody_waits(edge))
    goes = await place_and_hang_up(edge, "wait=30, cancel-on-disconnect", wait_until)

    async def is_canceled() -> bool:
        return await status_of(edge, goes) == "canceled"

    await wait_until(is_canceled)
    assert await status_of(edge, stands) == "starting"


async def test_a_wait_that_is_over_cancels_nothing(edge: "LiveEdge", hub: Broker, wait_until: WaitUntil) -> None:
    body = {"input": {"prompt": "red dots on white", "size_px": 256}}
    async with httpx.AsyncClient(base_url=edge.url, timeout=60) as client:
        answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait=1, cancel-on-disconnect"})
    await wait_until(lambda: nobody_waits(edge))
    assert answer.status_code == 201
    assert await status_of(edge, answer.json()["id"]) == "starting"
    assert (await hub.js.stream_info(JOBS_STREAM)).state.messages == 1


@pytest.mark.parametrize("form", ["snapshots", "replicate"])
async def test_who_closes_a_stream_cancels_only_if_its_address_says_so(
    edge: "LiveEdge", wait_until: WaitUntil, form: str
) -> None:
    body = {"input": {"prompt": "red dots on white", "size_px": 256}}
    stands, goes = [(await edge.client.post("/v1/predictions", json=body)).json()["id"] for _ in range(2)]
    for order_id, query in ((stands, ""), (goes, "&cancel_on_disconnect=1")):
        async with (
            httpx.AsyncClient(base_url=edge.url) as client,
            client.stream("GET", f"/v1/predictions/{order_id}/stream?events={form}{query}") as stream,
        ):
            assert stream.status_code == 200

            async def is_listened_to() -> bool:
                return not await nobody_waits(edge)

            await wait_until(is_listened_to)
        await wait_until(lambda: nobody_waits(edge))

    async def is_canceled() -> bool:
        return await status_of(edge, goes) == "canceled"

    await wait_until(is_canceled)
    assert await status_of(edge, stands) == "starting"


async def test_an_edge_that_stops_cancels_nothing(edge: "LiveEdge", hub: Broker, wait_until: WaitUntil) -> None:
    body = {"input": {"prompt": "red dots on white", "size_px": 256}}
    order_id = (await edge.client.post("/v1/predictions", json=body)).json()["id"]
    address = f"/v1/predictions/{order_id}/stream?cancel_on_disconnect=true"
    async with edge.client.stream("GET", address) as stream:
        lines = stream.aiter_lines()
        assert "event: status" in [await anext(lines) for _ in range(3)]  # behind the pause before another try
        await edge.stop()
    await edge.start()
    assert await status_of(edge, order_id) == "starting"


async def test_anything_but_yes_and_no_is_refused(edge: "LiveEdge") -> None:
    body = {"input": {"prompt": "red dots on white", "size_px": 256}}
    order_id = (await edge.client.post("/v1/predictions", json=body)).json()["id"]
    refused = await edge.client.get(f"/v1/predictions/{order_id}/stream?cancel_on_disconnect=perhaps")
    assert refused.status_code == 422
    assert "cancel_on_disconnect" in refused.text
