"""Keys and tenants at a live edge: what each may do, and that nobody finds anything of another's."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import Artifact, JobState, accepted_status, decode_job, encode_status
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, artifact_path, job_event
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.app import API_HANDLERS
from halfdrop.edge.client import HalfdropClient
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

PROMPT = "red dots on white"
SECRETIVE = "lavender sprigs on secretivecream"


def keys(objects_url: str, *arguments: str) -> str:
    program = Path(sys.executable).with_name("halfdrop")
    environ = {**os.environ, "HALFDROP_EDGE_OBJECTS_URL": objects_url}
    ended = subprocess.run([program, "keys", *arguments], env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def make_key(objects_url: str, tenant: str, *options: str) -> str:
    return keys(objects_url, "create", "--tenant", tenant, *options)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def locked(start_edge: "StartEdge", objects_url: str) -> tuple["LiveEdge", str, str]:
    """An edge that wants keys, and those of two tenants."""
    mine, theirs = make_key(objects_url, "acme"), make_key(objects_url, "other")
    return await start_edge(ACCESS="keys"), mine, theirs


async def test_nothing_but_health_page_and_description_is_for_everybody(locked: Any) -> None:
    edge, mine, _ = locked
    for path in ("/", "/studio/api.js", "/healthz", "/schema/openapi.json"):
        assert (await edge.client.get(path)).status_code == 200, path
        assert (await edge.client.get(path, headers=bearer("hd_wrong"))).status_code == 401, path
    for handler in API_HANDLERS:
        for path in handler.paths - {"/healthz", "/schema/openapi.json"}:
            for method in handler.http_methods & {"GET", "POST"}:
                real = path.replace("{order_id:str}", "0" * 26).replace("{name:str}", "x").replace("{owner:str}", "x")
                refused = await edge.client.request(method, real.replace("{version:str}", "x"), json={})
                assert refused.status_code == 401, (method, path)
                assert refused.headers["www-authenticate"].startswith("Bearer")
                assert "unauthorized" in refused.json().get("type", "") or "api_key" in refused.json()["error"]["code"]
    assert all(set(part) == {"state", "detail"} and not part["detail"]
               for part in (await edge.client.get("/healthz")).json()["parts"].values())  # fmt: skip
    with HalfdropClient(edge.url, api_key=mine) as client:
        assert client.preview(PROMPT).data[:4] == b"RIFF"
    with HalfdropClient(edge.url, api_key="") as client, pytest.raises(PermanentError, match="halfdrop keys create"):
        client.preview(PROMPT)


async def test_a_key_does_only_what_its_scopes_say(locked: Any, objects_url: str) -> None:
    edge, _, _ = locked
    viewer = bearer(make_key(objects_url, "acme", "--scope", "previews"))
    buyer = bearer(make_key(objects_url, "acme", "--scope", "orders"))
    admin = bearer(make_key(objects_url, "acme", "--scope", "admin"))
    body = {"input": {"prompt": PROMPT, "size_px": 256}}
    await admitted(edge, admin)
    assert (await edge.client.post("/v1/previews", json={"prompt": PROMPT}, headers=viewer)).status_code == 200
    refused = await edge.client.post("/v1/predictions", json=body, headers=viewer)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:halfdrop:forbidden")
    assert (await edge.client.post("/v1/predictions", json=body, headers=buyer)).status_code == 201
    drawn = await edge.client.post("/v1/previews", json={"prompt": PROMPT}, headers=admin)
    shelved = drawn.headers["content-location"].partition("&tenant=")[0]
    assert (await edge.client.get(shelved, headers=admin)).headers["cache-control"].startswith("private")
    assert (await edge.client.get(shelved, headers=buyer)).status_code == 403, "from the front's shelf, too"
    assert (await edge.client.get("/healthz", headers=admin)).json()["parts"]["model"]["detail"]


async def admitted(edge: "LiveEdge", headers: dict[str, str]) -> None:
    """Wait until a key made while the edge runs is known there."""
    deadline = time.monotonic() + 5
    while (await edge.client.get("/v1/predictions", headers=headers)).status_code == 401:
        assert time.monotonic() < deadline, "the edge does not hear of a new key"


async def test_what_is_anothers_is_not_found_on_any_route(
    locked: Any, hub_nats: NatsServer, objects_url: str, wait_until: "WaitUntil"
) -> None:
    edge, mine, theirs = locked
    drawn = await edge.client.post("/v1/previews", json={"prompt": PROMPT}, headers=bearer(mine))
    order_id, artifact = await finish_an_order(edge, bearer(mine), hub_nats, objects_url)
    own = await edge.client.get(f"/v1/predictions/{order_id}", headers=bearer(mine))
    await wait_until_final(edge, order_id, bearer(mine), wait_until)
    key = drawn.headers["halfdrop-key"]
    places = [("GET", f"/p/{key}.webp"), ("GET", f"/p/{key}.webp?px=256"), ("GET", f"/p/{key}.webp?px=512"),
              ("GET", f"/v1/predictions/{order_id}"), ("GET", f"/v1/predictions/{order_id}/stream"),
              ("GET", f"/v1/predictions/{order_id}/files/{artifact.name}"),
              ("POST", f"/v1/predictions/{order_id}/cancel")]  # fmt: skip
    assert own.status_code == 200
    for method, path in places:
        answer = await edge.client.request(method, path, headers=bearer(theirs))
        assert answer.status_code == 404, (method, path)
        assert answer.json()["type"] == "urn:halfdrop:not-found"
    for method, path in places:
        assert (await edge.client.request(method, path, headers=bearer(mine))).status_code == 200, (method, path)
    for headers, count in ((bearer(mine), 1), (bearer(theirs), 0)):
        listed = await edge.client.get("/v1/predictions", headers=headers)
        assert len(listed.json()["results"]) == count
        cursor = await edge.client.get("/v1/predictions?cursor=" + "z" * 26, headers=headers)
        assert len(cursor.json()["results"]) == count
    # Whoever asks for the same words gets the same picture, drawn anew: it cannot be told that somebody had it.
    again = await edge.client.post("/v1/previews", json={"prompt": PROMPT}, headers=bearer(theirs))
    assert (again.headers["halfdrop-key"], again.headers["cache-status"]) == (key, "halfdrop; fwd=miss; stored")
    stored = await open_objects(objects_url).list("tenants")
    assert {path.split("/")[1] for path in stored} == {"acme", "other"}
    assert await open_objects(objects_url).list("patterns") == []


async def finish_an_order(
    edge: "LiveEdge", headers: dict[str, str], hub_nats: NatsServer, objects_url: str
) -> tuple[str, Artifact]:
    body = {"input": {"prompt": PROMPT, "size_px": 256}}
    order_id = (await edge.client.post("/v1/predictions", json=body, headers=headers)).json()["id"]
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:
        subscription = await hub.js.pull_subscribe("jobs.>", stream=JOBS_STREAM, durable="test")
        (message,) = await subscription.fetch(1, timeout=10)
        assert message.headers is not None
        assert (message.subject, message.headers["Nats-Msg-Id"]) == ("jobs.standard.acme", order_id)
        assert float(message.headers["Halfdrop-Work"]) == 256 * 256 / 2**20
        job = decode_job(message.data)
        path = artifact_path(job.tenant, job.id, "master.png")
        await open_objects(objects_url).put(path, b"PNG")
        artifact = Artifact(name="master.png", path=path, media_type="image/png", size_bytes=3, sha256="0" * 64)
        assert job.plates is not None
        done = msgspec.structs.replace(
            accepted_status(job, job.plates.pattern_key),
            state=JobState.COMPLETED, attempt=1, completed_at=time.time(), artifacts=(artifact,),
        )  # fmt: skip
        await hub.js.publish(job_event(job.origin, job.id), encode_status(done))
    return order_id, artifact


async def wait_until_final(edge: "LiveEdge", order_id: str, headers: dict[str, str], wait_until: "WaitUntil") -> None:
    async def is_final() -> bool:
        found = await edge.client.get(f"/v1/predictions/{order_id}", headers=headers)
        return bool(found.json()["status"] == "succeeded")

    await wait_until(is_final)


async def test_a_revoked_key_is_refused_at_once_with_redis_away_and_ends_its_streams(
    locked: Any, valkey: Any, objects_url: str, wait_until: "WaitUntil"
) -> None:
    edge, mine, theirs = locked
    await valkey.kill()
    assert (await edge.client.get("/v1/predictions", headers=bearer(mine))).status_code == 200
    (record,) = [r for r in json.loads(keys(objects_url, "list", "--json")) if r["tenant"] == "acme"]
    keys(objects_url, "revoke", record["id"])
    revoked_s = time.monotonic()

    async def is_refused() -> bool:
        return (await edge.client.get("/v1/predictions", headers=bearer(mine))).status_code == 401

    await wait_until(is_refused, timeout_s=5)
    assert time.monotonic() - revoked_s < 3, "one second, and a busy machine"
    assert (await edge.client.get("/v1/predictions", headers=bearer(theirs))).status_code == 200
    assert "revoked" in keys(objects_url, "list")


async def test_neither_keys_nor_prompts_are_logged(locked: Any, tmp_path: Path) -> None:
    edge, mine, _ = locked
    await edge.client.post("/v1/previews", json={"prompt": SECRETIVE}, headers=bearer(mine))
    await edge.client.post("/v1/previews", json={"prompt": SECRETIVE}, headers=bearer(mine + "x"))
    await edge.client.get("/v1/predictions", headers={"Cookie": f"halfdrop_key={mine}"})
    await edge.stop()
    logged = (tmp_path / "edge.log").read_text()
    assert "edge_ready" in logged
    assert mine.rpartition("_")[2] not in logged
    assert "secretivecream" not in logged


async def test_other_names_than_loopback_are_welcome_with_a_key(locked: Any) -> None:
    edge, mine, _ = locked
    named = {**bearer(mine), "Host": "edge.example"}
    assert (await edge.client.get("/v1/predictions", headers=named)).status_code == 200


async def test_an_edge_on_every_address_serves_those_with_keys(start_edge: "StartEdge", objects_url: str) -> None:
    key = make_key(objects_url, "acme")
    edge = await start_edge(HOST="0.0.0.0")
    assert (await edge.client.get("/v1/predictions")).status_code == 401
    async with httpx.AsyncClient(base_url=edge.url, headers=bearer(key)) as client:
        assert (await client.get("/v1/predictions")).status_code == 200
