"""Idempotency-Key at a live edge: sent twice, placed once."""

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halfdrop.contracts.subjects import ORDERS_BUCKET, OUTBOX_STREAM, edge_domain
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge

PATH = "/v1/predictions"
BODY: dict[str, Any] = {"input": {"prompt": "red dots on white", "size_px": 256}}


async def order(edge: "LiveEdge", key: str, body: dict[str, Any] = BODY, **headers: str) -> httpx.Response:
    return await edge.client.post(PATH, json=body, headers={"Idempotency-Key": key, **headers})


async def ids(edge: "LiveEdge") -> list[str]:
    return [found["id"] for found in (await edge.client.get(PATH)).json()["results"]]


async def test_the_same_key_and_body_get_the_first_answer_again(edge: "LiveEdge") -> None:
    first = await order(edge, '"a b-1"')
    assert first.status_code == 201
    await edge.client.post(f"{PATH}/{first.json()['id']}/cancel")
    await edge.restart()
    again = await order(edge, "a b-1")
    assert (again.status_code, again.content) == (201, first.content), "the quotes are not part of a key"
    assert again.headers["location"] == first.headers["location"]
    another = await order(edge, "a b-2")
    assert await ids(edge) == [another.json()["id"], first.json()["id"]]


async def test_the_same_key_with_another_body_is_refused(edge: "LiveEdge") -> None:
    first = await order(edge, "k")
    refused = await order(edge, "k", {"input": {**BODY["input"], "seed": 2}})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:halfdrop:idempotency-key-reused")
    assert await ids(edge) == [first.json()["id"]]


async def test_while_the_first_is_being_answered_the_second_waits(edge: "LiveEdge", wait_until: "WaitUntil") -> None:
    first = asyncio.ensure_future(order(edge, "k", Prefer="wait=3"))
    await wait_until(lambda: ids(edge))
    second = await order(edge, "k")
    assert (second.status_code, second.json()["type"]) == (409, "urn:halfdrop:request-in-flight")
    assert int(second.headers["retry-after"]) > 0
    assert (await first).status_code == 201
    assert (await order(edge, "k")).content == (await first).content


async def test_a_wrong_order_does_not_use_its_key_up(edge: "LiveEdge") -> None:
    assert (await order(edge, "k", {"input": {**BODY["input"], "size_px": 1}})).status_code == 422
    assert (await order(edge, "k")).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_what_is_no_key_is_said(edge: "LiveEdge", key: str) -> None:
    refused = await order(edge, key)
    assert (refused.status_code, refused.json()["field"]) == (422, "Idempotency-Key")
    assert await ids(edge) == []


@pytest.mark.parametrize("was_visible", [True, False])
async def test_an_order_accepted_before_a_crash_is_found_by_its_key(
    edge: "LiveEdge", edge_nats: NatsServer, hub_nats: NatsServer, wait_until: "WaitUntil", was_visible: bool
) -> None:
    await hub_nats.kill()  # so that OUTBOX keeps what it gets
    waiting = asyncio.ensure_future(order(edge, "k", Prefer="wait=30"))
    await wait_until(lambda: ids(edge))
    (accepted,) = await ids(edge)
    await edge.kill()  # durable, and its client was never told
    with pytest.raises(httpx.TransportError):
        await waiting
    async with open_broker(edge_nats.url, name="test", domain=edge_domain("test")) as broker:
        if not was_visible:  # it died between the two: in OUTBOX, not yet in ORDERS
            await (await broker.js.key_value(ORDERS_BUCKET)).purge(accepted)
        await edge.start()
        assert (await order(edge, "k")).json()["id"] == accepted
        assert (await broker.js.stream_info(OUTBOX_STREAM)).state.messages == 1
    assert await ids(edge) == [accepted]
