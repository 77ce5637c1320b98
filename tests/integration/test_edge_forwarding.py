"""What the forwarder takes out of OUTBOX and what it leaves there: real servers, the hub's killed and started again."""

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from halfdrop.contracts.jobs import Job, JobState, JobStatus, accepted_status, decode_job, decode_status, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import (
    CANCELS_STREAM,
    HUB_DOMAIN,
    JOBS_STREAM,
    ORDERS_BUCKET,
    edge_domain,
    job_event,
)
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.forwarder import ACK_WAIT_S
from halfdrop.runtime.broker import Broker, open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge

OUTAGE_RECOVERY_S = 30.0
"""A leaf node reconnects within a second or two of its hub's return; a busy machine takes longer."""


@pytest.fixture
async def hub(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def order(edge: "LiveEdge", seed: int) -> str:
    body = {"input": {"prompt": "red dots on white", "size_px": 256, "seed": seed}}
    answer = await edge.client.post("/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def jobs_at(hub: Broker) -> list[Job]:
    """Return every job in the hub's queue, oldest first, without taking any."""
    state = (await hub.js.stream_info(JOBS_STREAM)).state
    found = [await hub.js.get_msg(JOBS_STREAM, seq=seq) for seq in range(max(1, state.first_seq), state.last_seq + 1)]
    return [decode_job(message.data or b"") for message in found]


async def test_what_was_canceled_while_the_hub_was_away_never_gets_there(
    edge: "LiveEdge", hub_nats: NatsServer, hub: Broker, wait_until: "WaitUntil"
) -> None:
    await hub_nats.kill()
    placed = [await order(edge, seed) for seed in range(6)]
    for order_id in placed[::2]:
        assert (await edge.client.post(f"/v1/predictions/{order_id}/cancel")).json()["status"] == "canceled"
    await edge.kill()  # what the forwarder has in hand is forgotten, what the book says is not
    await edge.start()
    await hub_nats.start()
    wanted = placed[1::2]

    async def has_the_wanted() -> bool:
        return len(await jobs_at(hub)) >= len(wanted)

    async def knows_the_cancels() -> bool:
        return bool((await hub.js.stream_info(CANCELS_STREAM)).state.messages == len(placed[::2]))

    await wait_until(has_the_wanted, timeout_s=OUTAGE_RECOVERY_S)
    await wait_until(knows_the_cancels)  # they are behind the orders: nothing is on its way any more
    assert [job.id for job in await jobs_at(hub)] == wanted
    for order_id in placed[::2]:
        assert (await edge.client.get(f"/v1/predictions/{order_id}")).json()["status"] == "canceled"


async def test_an_order_is_told_as_queued_once_the_hub_has_it(
    edge: "LiveEdge", edge_nats: NatsServer, hub: Broker, wait_until: "WaitUntil"
) -> None:
    placed = await order(edge, 1)
    async with open_broker(edge_nats.url, name="test", domain=edge_domain("test")) as broker:
        bucket = await broker.js.key_value(ORDERS_BUCKET)

        async def status() -> JobStatus:
            return decode_status((await bucket.get(placed)).value or b"")

        async def is_queued() -> bool:
            return (await status()).queued_at is not None

        await wait_until(is_queued)
        assert len(await jobs_at(hub)) == 1
        assert (await status()).region == "local"
        (job,) = await jobs_at(hub)
        running = accepted_status(job, pattern_key(job.spec))  # a hub that does not know its region's name
        running = msgspec.structs.replace(running, state=JobState.PROCESSING, attempt=1)
        await hub.js.publish(job_event(running.origin, running.id), encode_status(running))

        async def is_running() -> bool:
            return (await status()).state is JobState.PROCESSING

        await wait_until(is_running)
        assert (await status()).region == "local"


async def test_what_a_killed_edge_had_in_hand_goes_out_at_once_after_its_restart(
    edge: "LiveEdge", hub_nats: NatsServer, hub: Broker, wait_until: "WaitUntil"
) -> None:
    await hub_nats.kill()
    placed = [await order(edge, seed) for seed in range(3)]
    await edge.kill()
    await hub_nats.start()
    await edge.start()
    began_s = time.monotonic()

    async def has_all() -> bool:
        return len(await jobs_at(hub)) >= len(placed)

    await wait_until(has_all, timeout_s=OUTAGE_RECOVERY_S)
    assert time.monotonic() - began_s < ACK_WAIT_S / 3  # far from what a lost delivery would wait for
    assert [job.id for job in await jobs_at(hub)] == placed
