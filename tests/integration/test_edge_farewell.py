"""An edge that is scaled away: it hands over what it owes, or leaves it on its volume for the next edge of its name."""

import signal
import time
from typing import TYPE_CHECKING

import msgspec
from nats.js.errors import NotFoundError

from halfdrop.contracts.jobs import Job, JobState, accepted_status, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import CANCELS_STREAM, HUB_DOMAIN, JOBS_STREAM, cancel_job, job_event
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import Broker, open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

RECOVERY_S = 30.0
"""A leaf node reconnects within a second or two of its hub's return; a busy machine takes longer."""


async def order(edge: "LiveEdge", seed: int) -> str:
    body = {"input": {"prompt": "red dots on white", "size_px": 256, "seed": seed}}
    answer = await edge.client.post("/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def jobs_at(hub: Broker) -> list[Job]:
    """Return every job in the hub's queue, without taking any."""
    state = (await hub.js.stream_info(JOBS_STREAM)).state
    found = [await hub.js.get_msg(JOBS_STREAM, seq=seq) for seq in range(max(1, state.first_seq), state.last_seq + 1)]
    return [decode_job(message.data or b"") for message in found]


def events(edge: "LiveEdge", name: str) -> list[dict[str, object]]:
    lines = edge.process.log_path.read_bytes().splitlines()
    found = [msgspec.json.decode(line, type=dict[str, object]) for line in lines if line.startswith(b"{")]
    return [line for line in found if line["event"] == name]


async def test_it_stays_until_its_orders_are_with_a_hub_and_finished(
    start_edge: "StartEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    edge = await start_edge(SETTLE_S=60, GRACE_S=1)
    await hub_nats.kill()
    placed = {await order(edge, seed) for seed in range(3)}
    edge.process.signal(signal.SIGTERM)
    await wait_until(lambda: bool(events(edge, "edge_settling")))
    assert events(edge, "edge_settling")[0]["unforwarded"] == 3
    await hub_nats.start()
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:

        async def are_there() -> bool:
            return {job.id for job in await jobs_at(hub)} == placed

        await wait_until(are_there, timeout_s=RECOVERY_S)
        assert edge.process.is_running, "it has not heard yet how they ended"
        for job in await jobs_at(hub):
            status = accepted_status(job, pattern_key(job.spec))
            done = msgspec.structs.replace(status, state=JobState.COMPLETED, attempt=1, completed_at=time.time())
            await hub.js.publish(job_event(done.origin, done.id), encode_status(done))
        await wait_until(lambda: not edge.process.is_running, timeout_s=RECOVERY_S)
    assert edge.process.returncode == 0
    assert len(events(edge, "edge_owes_nothing")) == 1


async def test_what_it_cannot_hand_over_lies_on_its_volume_and_goes_out_once_when_its_pod_is_back(
    start_edge: "StartEdge", edge_nats: NatsServer, hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    edge = await start_edge(SETTLE_S=0.2, GRACE_S=1)
    await hub_nats.kill()
    placed = [await order(edge, seed) for seed in range(2)]
    edge.process.signal(signal.SIGTERM)
    await wait_until(lambda: not edge.process.is_running, timeout_s=RECOVERY_S)
    assert edge.process.returncode == 0
    [left] = events(edge, "edge_left_owing")
    assert (left["orders"], left["unforwarded"]) == (2, 2), "who scales down can read that there is something to fetch"
    await edge_nats.stop()  # the pod is gone, its volume is kept
    await hub_nats.start()
    await edge_nats.start()
    await edge.start()
    for order_id in placed:
        assert (await edge.client.get(f"/v1/predictions/{order_id}")).json()["status"] == "starting"
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:

        async def are_there() -> bool:
            return sorted(job.id for job in await jobs_at(hub)) == sorted(placed)

        await wait_until(are_there, timeout_s=RECOVERY_S)


async def test_the_edges_that_remain_answer_for_its_orders_once_a_worker_began(
    start_edge: "StartEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    edge = await start_edge()
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:
        await order(edge, 1)
        await wait_until(lambda: _has_jobs(hub), timeout_s=RECOVERY_S)
        [own] = await jobs_at(hub)
        theirs = msgspec.structs.replace(own, id=own.id[:-1] + ("0" if own.id[-1] != "0" else "1"), origin="gone")
        path = f"/v1/predictions/{theirs.id}"
        assert (await edge.client.get(path)).status_code == 404, "no hub was told of it"

        status = msgspec.structs.replace(
            accepted_status(theirs, pattern_key(theirs.spec)), state=JobState.PROCESSING, attempt=1, steps=4, step=1
        )
        await hub.js.publish(job_event("gone", theirs.id), encode_status(status))
        found = await edge.client.get(path)
        assert found.status_code == 200, found.text
        assert found.json()["status"] == "processing"
        assert theirs.id not in (await edge.client.get("/v1/predictions")).text
        assert (await edge.client.post(f"{path}/cancel")).json()["status"] == "processing"

        async def is_canceled() -> bool:
            try:
                await hub.js.get_last_msg(CANCELS_STREAM, cancel_job(theirs.id))
            except NotFoundError:
                return False
            return True

        await wait_until(is_canceled, timeout_s=RECOVERY_S)
        over = msgspec.structs.replace(status, state=JobState.CANCELED, completed_at=time.time())
        await hub.js.publish(job_event("gone", theirs.id), encode_status(over))
        assert (await edge.client.get(path)).json()["status"] == "canceled"
        async with edge.client.stream("GET", f"{path}/stream") as events_of:
            assert b"canceled" in await events_of.aread()

        others = msgspec.structs.replace(over, id=theirs.id[:-2] + "zz", tenant="mill")
        await hub.js.publish(job_event("gone", others.id), encode_status(others))
        assert (await edge.client.get(f"/v1/predictions/{others.id}")).status_code == 404, "another tenant's"


async def _has_jobs(hub: Broker) -> bool:
    return bool(await jobs_at(hub))
