import asyncio
from collections.abc import Awaitable, Callable

import pytest
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from halfdrop.contracts import subjects
from halfdrop.contracts.errors import Unavailable
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.streams import ensure_edge_streams, ensure_hub_streams


async def test_streams_are_made_once_and_keep_what_they_hold(hub_nats: NatsServer) -> None:
    async with open_broker(hub_nats.url, name="test", domain="hub") as broker:
        await ensure_hub_streams(broker.js)
        await broker.js.publish(subjects.queued_job("standard", "local"), b"job")
        await ensure_hub_streams(broker.js)
        assert (await broker.js.stream_info(subjects.JOBS_STREAM)).state.messages == 1


async def test_the_same_job_published_twice_is_stored_once(hub_nats: NatsServer) -> None:
    async with open_broker(hub_nats.url, name="test", domain="hub") as broker:
        await ensure_hub_streams(broker.js)
        subject = subjects.queued_job("standard", "local")
        first = await broker.js.publish(subject, b"job", headers={"Nats-Msg-Id": "a1"})
        second = await broker.js.publish(subject, b"job", headers={"Nats-Msg-Id": "a1"})
        assert (first.duplicate, second.duplicate) == (None, True)


async def test_a_job_larger_than_the_limit_is_refused_at_the_door(hub_nats: NatsServer) -> None:
    async with open_broker(hub_nats.url, name="test", domain="hub") as broker:
        await ensure_hub_streams(broker.js)
        with pytest.raises(APIError):
            await broker.js.publish(subjects.queued_job("standard", "local"), bytes(300 * 1024))


async def test_an_edge_reaches_the_hubs_streams_through_its_leaf_and_keeps_its_own(
    hub_nats: NatsServer, edge_nats: NatsServer
) -> None:
    async with (
        open_broker(hub_nats.url, name="hub", domain="hub") as hub,
        open_broker(edge_nats.url, name="edge", domain=subjects.edge_domain("test")) as edge,
    ):
        await ensure_hub_streams(hub.js)
        await ensure_edge_streams(edge.js)
        await edge.js.publish(subjects.outbox_job("a1"), b"job")
        await edge.jetstream(subjects.HUB_DOMAIN).publish(subjects.queued_job("standard", "local"), b"job")
        assert (await hub.js.stream_info(subjects.JOBS_STREAM)).state.messages == 1
        assert (await edge.js.stream_info(subjects.OUTBOX_STREAM)).state.messages == 1
        await edge.jetstream(subjects.HUB_DOMAIN).publish(subjects.cancel_job("a1"), b"")
        cancel = await hub.js.get_last_msg(subjects.CANCELS_STREAM, subjects.cancel_job("a1"), direct=True)
        assert cancel.subject == subjects.cancel_job("a1")


async def test_nothing_listening_is_said_within_the_time_limit() -> None:
    with pytest.raises(Unavailable, match=r"NATS at nats://127\.0\.0\.1:9 does not answer"):
        async with asyncio.timeout(10), open_broker("nats://127.0.0.1:9", name="test"):
            pass


async def test_a_publish_during_an_outage_fails_at_once_and_works_again_afterwards(
    hub_nats: NatsServer, wait_until: Callable[..., Awaitable[None]]
) -> None:
    async with open_broker(hub_nats.url, name="test", domain="hub") as broker:
        await ensure_hub_streams(broker.js)
        await hub_nats.kill()
        await wait_until(lambda: not broker.is_connected)
        with pytest.raises((NatsError, TimeoutError)):
            await broker.js.publish(subjects.queued_job("standard", "local"), b"job")
        await hub_nats.start()
        await wait_until(lambda: broker.is_connected)
        await broker.js.publish(subjects.queued_job("standard", "local"), b"job")
