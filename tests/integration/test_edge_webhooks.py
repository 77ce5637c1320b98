"""Webhooks of a live edge: told of its own orders, signed for their tenants, never lost, never under a second id."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import replicate
import replicate.webhook
from replicate.prediction import Prediction as ReplicatePrediction
from standardwebhooks.webhooks import Webhook as Verifier

from halfdrop.contracts.jobs import JobState, JobStatus, accepted_status, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, job_event
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.keys import create_key
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, Received, StartEdge, StartReceiver

ROOT = Path(__file__).parents[2]
SMALL = {"prompt": "black houndstooth on cream", "size_px": 256}
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def hub(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def order(edge: "LiveEdge", url: str, **members: object) -> dict[str, Any]:
    response = await edge.client.post("/v1/predictions", json={"input": SMALL, "webhook": url, **members})
    assert response.status_code == 201, response.text
    return response.json()  # type: ignore[no-any-return]


async def statuses_of(hub: Broker, order_id: str, wait_until: "WaitUntil") -> tuple[JobStatus, JobStatus]:
    """Return what a worker would tell of the order: that it began, and that it ended well."""
    found: list[JobStatus] = []

    async def is_there() -> bool:
        state = (await hub.js.stream_info(JOBS_STREAM)).state
        for number in range(max(1, state.first_seq), state.last_seq + 1):
            job = decode_job((await hub.js.get_msg(JOBS_STREAM, seq=number)).data or b"")
            if job.id == order_id:
                found.append(accepted_status(job, pattern_key(job.spec)))
        return bool(found)

    await wait_until(is_there)
    now = time.time()
    working = msgspec.structs.replace(found[0], state=JobState.PROCESSING, attempt=1, started_at=now, step=1, steps=2)
    done = msgspec.structs.replace(
        working, state=JobState.COMPLETED, step=2, completed_at=now + 1, log=("master 1.0 s",)
    )
    return working, done


async def publish(hub: Broker, *statuses: JobStatus) -> None:
    for status in statuses:
        await hub.js.publish(job_event(status.origin, status.id), encode_status(status))


def run_cli(edge: "LiveEdge", *words: str, code: int = 0) -> str:
    program = [Path(sys.executable).with_name("halfdrop"), "webhooks", *words, "--url", edge.url]
    environ = {**os.environ, "HALFDROP_API_KEY": ""}
    ended = subprocess.run(program, capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == code, ended.stderr
    return ended.stdout + ended.stderr


async def test_an_order_is_told_in_replicates_shape_as_get_answers_it(
    edge: "LiveEdge", hub: Broker, start_receiver: "StartReceiver", wait_until: "WaitUntil", tmp_path: Path
) -> None:
    receiver = await start_receiver()
    placed = await order(edge, receiver.url, webhook_events_filter=["start", "completed"])
    await publish(hub, *await statuses_of(hub, placed["id"], wait_until))
    await wait_until(lambda: len(receiver.ids) == 2)
    secret = (await edge.client.get("/v1/webhooks/default/secret")).json()["key"]
    client = replicate.Client(api_token="none", base_url=edge.url)
    shared = await client.webhooks.default.async_secret()
    assert shared.key == secret
    for one in receiver.received:  # Replicate's own client verifies what an edge sends, too
        replicate.webhook.Webhooks.validate(headers=one.headers, body=one.body.decode(), secret=shared, tolerance=60)
    await client._async_client.aclose()
    told = [Verifier(secret).verify(one.body, one.headers) for one in receiver.received]
    assert [body["type"] for body in told] == ["prediction.start", "prediction.completed"]
    got = (await edge.client.get(f"/v1/predictions/{placed['id']}")).json()
    assert told[1]["data"] == got
    assert ReplicatePrediction(**told[1]["data"]).status == "succeeded"
    assert (told[0]["data"]["status"], told[0]["data"]["output"]) == ("processing", None)
    figures = (await edge.client.get("/metrics")).text
    assert "halfdrop_webhooks_delivered_total 2.0" in figures
    assert "halfdrop_webhooks_waiting 0.0" in figures
    await edge.stop()
    log = (tmp_path / "edge.log").read_text()
    assert "webhook_delivered" in log
    assert "s3cret" not in log
    assert secret.removeprefix("whsec_") not in log


async def test_kills_of_the_edge_lose_no_event_and_make_no_second_id(
    edge: "LiveEdge", hub: Broker, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    """Twelve orders and four kills while their events are stored and sent: each is told at least once, under one id."""

    async def dawdle(writer: asyncio.StreamWriter, one: "Received") -> None:
        await asyncio.sleep(0.15)
        writer.write(OK)

    receiver = await start_receiver(dawdle)
    placed = [(await order(edge, receiver.url, webhook_events_filter=["start", "completed"]))["id"] for _ in range(12)]
    courses = [await statuses_of(hub, order_id, wait_until) for order_id in placed]
    for number, course in enumerate(courses):
        await publish(hub, *course)
        if number % 3 == 2:
            await asyncio.sleep(0.1)
            await edge.kill()
            await edge.start()
    wanted = {f"{order_id}.{event}" for order_id in placed for event in ("start", "completed")}
    await wait_until(lambda: wanted <= set(receiver.ids), timeout_s=60)
    assert set(receiver.ids) == wanted
    for order_id in placed:
        firsts = list(dict.fromkeys(webhook_id for webhook_id in receiver.ids if webhook_id.startswith(order_id)))
        assert firsts == [f"{order_id}.start", f"{order_id}.completed"]


async def test_private_addresses_are_refused_at_the_door_and_behind_names_at_delivery(
    start_edge: "StartEdge", objects_url: str, hub: Broker, wait_until: "WaitUntil"
) -> None:
    key, _ = await create_key(
        open_objects(objects_url), tenant="acme", scopes=("orders",), tier="standard", label="", now=time.time(),
        expires_at=None,
    )  # fmt: skip
    edge = await start_edge(ACCESS="keys")
    edge.client.headers["Authorization"] = f"Bearer {key}"
    for host in ("127.0.0.1", "[::1]", "localhost", "a.localhost", "10.0.0.7", "192.168.1.1", "169.254.169.254",
                 "100.64.0.1", "0.0.0.0", "2130706433", "127.1", "0x7f.1", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]",
                 "[fd00::1]", "[fe80::1]", "224.0.0.1", "printer.local"):  # fmt: skip
        refused = await edge.client.post("/v1/predictions", json={"input": SMALL, "webhook": f"https://{host}/"})
        assert (refused.status_code, refused.json()["field"]) == (422, "webhook"), host
    for url in ("http://example.com/", "https://example.com:22/", "https://example.com:6/"):
        assert (await edge.client.post("/v1/predictions", json={"input": SMALL, "webhook": url})).status_code == 422
    name = socket.gethostname()
    placed = await order(edge, f"https://{name}:{choose_port()}/", webhook_events_filter=["completed"])
    await edge.client.post(f"/v1/predictions/{placed['id']}/cancel")

    async def dead() -> Any:
        return (await edge.client.get("/v1/webhooks/dead")).json()["results"]

    await wait_until(dead)
    (found,) = await dead()
    assert (found["id"], found["code"], found["attempts"]) == (f"{placed['id']}.completed", "private", 1)


async def test_a_tenant_sees_and_touches_its_own_webhooks_only(
    start_edge: "StartEdge", objects_url: str, wait_until: "WaitUntil", start_receiver: "StartReceiver"
) -> None:
    receiver = await start_receiver(GONE)
    objects = open_objects(objects_url)
    keys = {}
    for tenant in ("acme", "bolt"):
        keys[tenant], _ = await create_key(
            objects, tenant=tenant, scopes=("orders",), tier="standard", label="", now=time.time(), expires_at=None
        )
    edge = await start_edge(ACCESS="keys", WEBHOOK_PRIVATE="true", WEBHOOK_HTTP="true")
    acme, bolt = (
        httpx.AsyncClient(base_url=edge.url, headers={"Authorization": f"Bearer {keys[tenant]}"}) for tenant in keys
    )
    async with acme, bolt:
        secrets = [(await one.get("/v1/webhooks/default/secret")).json()["key"] for one in (acme, bolt)]
        assert len(set(secrets)) == 2
        placed = await acme.post("/v1/predictions", json={"input": SMALL, "webhook": receiver.url})
        await acme.post(f"/v1/predictions/{placed.json()['id']}/cancel")

        async def is_dead() -> Any:
            return (await acme.get("/v1/webhooks/dead")).json()["results"]

        await wait_until(is_dead)
        told = Verifier(secrets[0]).verify(receiver.received[0].body, receiver.received[0].headers)
        assert told["data"]["urls"]["get"] == f"{edge.url}/v1/predictions/{placed.json()['id']}"
        dead_id = (await is_dead())[0]["id"]
        assert (await bolt.get("/v1/webhooks/dead")).json()["results"] == []
        assert (await bolt.get("/v1/webhooks/endpoints")).json()["results"] == []
        for method, path in (
            ("POST", f"/v1/webhooks/dead/{dead_id}/replay"),
            ("DELETE", f"/v1/webhooks/dead/{dead_id}"),
        ):
            assert (await bolt.request(method, path)).status_code == 404
        body = {"url": receiver.url}
        assert (await bolt.post("/v1/webhooks/endpoints/enable", json=body)).status_code == 404
        (known,) = (await acme.get("/v1/webhooks/endpoints")).json()["results"]
        assert known["disabled"] == [receiver.url]
        assert (await acme.post("/v1/webhooks/endpoints/enable", json=body)).json()["results"][0]["disabled"] == []
        receiver.answer = OK
        assert (await acme.post(f"/v1/webhooks/dead/{dead_id}/replay")).status_code == 200
        await wait_until(lambda: receiver.ids == [dead_id, dead_id])
        assert (await acme.delete(f"/v1/webhooks/dead/{dead_id}")).status_code == 404


async def test_the_commands_do_what_they_say(
    edge: "LiveEdge", start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver(GONE)
    cli = lambda *words, code=0: asyncio.to_thread(run_cli, edge, *words, code=code)  # noqa: E731
    secret = (await cli("secret")).strip()
    assert secret.startswith("whsec_")
    assert "gone: answered 410" in await cli("test", receiver.url, code=1)
    placed = await order(edge, receiver.url)
    await edge.client.post(f"/v1/predictions/{placed['id']}/cancel")
    webhook_id = f"{placed['id']}.completed"

    async def is_dead() -> bool:
        return bool((await edge.client.get("/v1/webhooks/dead")).json()["results"])

    await wait_until(is_dead)
    assert webhook_id in await cli("dead")
    listed = await cli("list")
    assert f"http://{LOOPBACK}:{receiver.port}" in listed
    assert f"disabled  {receiver.url}" in listed
    receiver.answer = OK
    assert "delivered" in await cli("test", receiver.url)
    assert Verifier(secret).verify(receiver.received[-1].body, receiver.received[-1].headers)["type"] == "webhook.test"
    await cli("enable", receiver.url)
    assert "replayed" in await cli("replay", "--all")
    await wait_until(lambda: receiver.ids[-1] == webhook_id)
    assert (await cli("rotate")).strip() != secret
    assert "no dead delivery" in await cli("drop", webhook_id, code=1)


async def test_the_receiver_of_the_page_on_webhooks_takes_what_an_edge_sends_and_nothing_else(
    edge: "LiveEdge", tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/webhooks.md").read_text(), flags=re.DOTALL)
    secret, port = (await asyncio.to_thread(run_cli, edge, "secret")).strip(), choose_port()
    url = f"http://{LOOPBACK}:{port}/hook"
    printed = (tmp_path / "receiver.txt").open("w+")
    environ = {**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)}
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environ, stdout=printed, stderr=subprocess.DEVNULL
    )
    try:

        async def is_taken() -> bool:
            return bool((await edge.client.post("/v1/webhooks/test", json={"url": url})).json()["delivered"])

        await wait_until(is_taken)
        placed = await order(edge, url, webhook_events_filter=["completed"])
        await edge.client.post(f"/v1/predictions/{placed['id']}/cancel")
        await wait_until(lambda: "prediction.completed canceled" in (tmp_path / "receiver.txt").read_text())
        async with httpx.AsyncClient() as forger:
            headers = {"webhook-id": "x.1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
            assert (await forger.post(url, json={"type": "forged"}, headers=headers)).status_code == 401
    finally:
        receiver.kill()
        await receiver.wait()
        printed.close()
