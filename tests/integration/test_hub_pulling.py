"""One round of pulls over several lanes, against a real NATS server."""

import asyncio

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, queued_job
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.pulling import Nothing, Puller, Wish
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.streams import ensure_hub_streams

TENANTS = ("ann", "bob", "cid")


async def test_a_round_brings_what_each_lane_has_and_says_why_there_is_no_more(hub_nats: NatsServer) -> None:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js, region="local")
        for tenant in TENANTS:
            config = ConsumerConfig(
                name=tenant,
                durable_name=tenant,
                filter_subject=queued_job("standard", tenant),
                ack_policy=AckPolicy.EXPLICIT,
                max_ack_pending=1 if tenant == "cid" else -1,
            )
            await broker.js.add_consumer(JOBS_STREAM, config)
        for tenant, count in (("ann", 3), ("bob", 5), ("cid", 4)):
            for number in range(count):
                await broker.js.publish(queued_job("standard", tenant), f"{tenant} {number}".encode())
        ann, bob = Wish(consumer="ann", count=4), Wish(consumer="bob", count=4)
        cid, gone = Wish(consumer="cid", count=4, is_capped=True), Wish(consumer="dan", count=4)
        puller = Puller(broker)
        await puller.pull([ann, bob, cid, gone])
        assert [message.data for message in ann.found] == [b"ann 0", b"ann 1", b"ann 2"]
        assert [message.data for message in bob.found] == [b"bob 0", b"bob 1", b"bob 2", b"bob 3"]
        assert [message.data for message in cid.found] == [b"cid 0"]
        assert gone.found == []
        assert [wish.nothing for wish in (ann, bob, cid, gone)] == [Nothing.EMPTY, None, Nothing.CAPPED, Nothing.GONE]
        again = Wish(consumer="bob", count=1)
        await puller.pull([again])
        assert [message.data for message in again.found] == [b"bob 4"]
        await puller.close()


async def test_a_round_without_a_server_is_an_outage(hub_nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfdrop.hub.pulling.ANSWER_S", 0.3)
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        puller = Puller(broker)
        await hub_nats.kill()
        with pytest.raises(Unavailable, match="no server answers the pull"):
            await asyncio.wait_for(puller.pull([Wish(consumer="ann", count=2)]), 5)
