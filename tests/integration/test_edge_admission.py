"""What an edge lets in at once, and for how long, over real connections: tenants, streams, slow bodies and answers."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halfdrop.deploy.ports import LOOPBACK
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.admission import AT_ONCE
from halfdrop.edge.keys import create_key
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

QUOTA = AT_ONCE["standard"]
ORDER = {"input": {"prompt": "red dots", "size_px": 64}}
ORDERS, PREVIEWS = "/v1/predictions", "/v1/previews"
TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"

MakeHeaders = Callable[[str], Awaitable[dict[str, str]]]


@pytest.fixture
def bearer(objects_url: str) -> MakeHeaders:
    """`headers = await bearer("acme")`: a key of that tenant."""

    async def make(tenant: str) -> dict[str, str]:
        key, _ = await create_key(
            open_objects(objects_url), tenant=tenant, scopes=("orders", "previews"), tier="standard", label="",
            now=time.time(), expires_at=None,
        )  # fmt: skip
        return {"Authorization": f"Bearer {key}"}

    return make


@pytest.fixture
async def many(start_edge: "StartEdge") -> AsyncIterator[httpx.AsyncClient]:
    """A client with more connections than any tenant may use."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=90, limits=limits) as client:
        yield client


async def test_a_tenant_waits_for_so_many_orders_at_once_and_others_are_not_held_up(
    start_edge: "StartEdge", bearer: MakeHeaders, many: httpx.AsyncClient, wait_until: "WaitUntil"
) -> None:
    mine, theirs = await bearer("acme"), await bearer("other")
    edge = await start_edge(ACCESS="keys")
    picture = await edge.client.post(PREVIEWS, json={"prompt": "red dots"}, headers=mine)
    url = edge.url + picture.headers["content-location"]

    async def order_and_wait() -> httpx.Response:
        return await many.post(edge.url + ORDERS, json=ORDER, headers={**mine, "Prefer": "wait=60"})

    # No hub runs here: who waits, waits.
    waiting = [asyncio.create_task(order_and_wait()) for _ in range(QUOTA["requests"])]
    await wait_until(lambda: _waits(edge, QUOTA["requests"]), timeout_s=60)
    refused = await edge.client.get(ORDERS, headers=mine)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (refused.json()["type"], refused.json()["violated-policies"]) == (TYPE, ["requests-at-once"])
    assert f"your tier allows {QUOTA['requests']} requests in flight at once" in refused.json()["detail"]
    assert (await edge.client.get(url, headers=mine)).status_code == 200, "a hit on the shelf counts for nothing"
    assert (await edge.client.get("/healthz", headers=mine)).status_code == 200
    listed = await edge.client.get(ORDERS, headers=theirs)
    assert (listed.status_code, listed.json()["results"]) == (200, [])
    waiting.pop().cancel()  # its client hangs up: its place is free again

    async def is_let_in() -> bool:
        return (await edge.client.get(ORDERS, headers=mine)).status_code == 200

    await wait_until(is_let_in)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_open_streams_are_counted_apart_from_requests(
    start_edge: "StartEdge", bearer: MakeHeaders, many: httpx.AsyncClient, wait_until: "WaitUntil"
) -> None:
    mine = await bearer("acme")
    edge = await start_edge(ACCESS="keys")
    placed = (await edge.client.post(ORDERS, json=ORDER, headers=mine)).json()
    async with contextlib.AsyncExitStack() as streams:
        for _ in range(QUOTA["streams"]):
            stream = await streams.enter_async_context(many.stream("GET", placed["urls"]["stream"], headers=mine))
            assert stream.status_code == 200
        refused = await edge.client.get(placed["urls"]["stream"], headers=mine)
        assert (refused.status_code, refused.json()["violated-policies"]) == (429, ["streams-at-once"])
        assert (await edge.client.get(placed["urls"]["get"], headers=mine)).status_code == 200

    async def is_free() -> bool:
        async with many.stream("GET", placed["urls"]["stream"], headers=mine) as stream:
            return stream.status_code == 200

    await wait_until(is_free)


async def test_an_open_edge_has_room_for_more_than_any_tier(edge: "LiveEdge", many: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(many.get(edge.url + ORDERS) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_ended_with_408_and_the_connection_closed(
    start_edge: "StartEdge", framing: str
) -> None:
    edge = await start_edge(BODY_S=1)
    reader, writer = await asyncio.open_connection(LOOPBACK, int(edge.url.rpartition(":")[2]))
    head = f"POST {PREVIEWS} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    writer.write(head.encode())
    began_s = time.monotonic()

    async def drip() -> None:
        with contextlib.suppress(OSError):
            while True:  # a byte now and then must not buy more time
                writer.write(b"1\r\n \r\n" if "chunked" in framing else b" ")
                await writer.drain()
                await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(30):
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65536):  # to the end: the edge hangs up
                answer += data
    dripping.cancel()
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"type":"urn:halfdrop:body-too-slow"' in answer
    assert b"connection: close" in answer.lower()
    assert 0.9 < time.monotonic() - began_s < 20
    writer.close()


async def test_a_body_that_is_cut_short_is_the_senders_mistake(edge: "LiveEdge") -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, int(edge.url.rpartition(":")[2]))
    head = (
        f"POST {PREVIEWS} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    writer.write(head.encode() + b'{"prompt"')
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    writer.close()


async def test_an_answer_that_takes_too_long_is_given_up_unless_its_client_wants_to_wait(
    start_edge: "StartEdge", edge_nats: NatsServer
) -> None:
    edge = await start_edge(ANSWER_S=2)
    waited = await edge.client.post(ORDERS, json=ORDER, headers={"Prefer": "wait=4"})
    assert (waited.status_code, waited.json()["status"]) == (201, "starting")
    os.kill(edge_nats.process.pid, signal.SIGSTOP)  # it neither answers nor refuses
    try:
        began_s = time.monotonic()
        refused = await edge.client.post(ORDERS, json=ORDER)
        took_s = time.monotonic() - began_s
    finally:
        os.kill(edge_nats.process.pid, signal.SIGCONT)
    problem: dict[str, Any] = refused.json()
    assert (refused.status_code, problem["type"]) == (503, "urn:halfdrop:answer-too-slow"), problem
    assert refused.headers["retry-after"] == "1"
    assert 1.9 < took_s < 15
    assert (await edge.client.get("/healthz")).status_code == 200


async def _waits(edge: "LiveEdge", count: int) -> bool:
    return bool((await edge.client.get("/healthz")).json()["clients_waiting"] == count)
