"""Addresses that a live edge with keys hands out: whoever has one can fetch it for a while, and nothing beside it."""

import asyncio
import base64
import hashlib
import hmac
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from halfdrop.contracts.jobs import Artifact, JobState, accepted_status, decode_job, encode_status
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, artifact_path, job_event
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.client import HalfdropClient
from halfdrop.edge.keys import create_key, read_keys, revoke_key
from halfdrop.edge.signing_keys import read_signing_keys, rotate_signing_key
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.objects import open_objects
from halfdrop.runtime.streams import ensure_hub_streams

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

PROMPT = "red dots on white"
PNG = b"\x89PNG of nothing"


async def make_key(objects_url: str, tenant: str) -> str:
    key, _ = await create_key(
        open_objects(objects_url), tenant=tenant, scopes=("previews", "orders"), tier="standard", label="",
        now=time.time(), expires_at=None,
    )  # fmt: skip
    return key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def locked(start_edge: "StartEdge", objects_url: str) -> tuple["LiveEdge", str, str]:
    """An edge that wants keys, and those of two tenants."""
    mine, theirs = await make_key(objects_url, "acme"), await make_key(objects_url, "other")
    return await start_edge(ACCESS="keys"), mine, theirs


@pytest.fixture
async def anybody() -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient() as client:
        yield client


async def draw(edge: "LiveEdge", key: str, size_px: int = 256) -> str:
    """Return the whole address of a preview."""
    headers = {**bearer(key), "Accept": "application/json"}
    drawn = await edge.client.post("/v1/previews", json={"prompt": PROMPT, "size_px": size_px}, headers=headers)
    assert drawn.headers["content-location"] == drawn.json()["url"]
    return edge.url + str(drawn.json()["url"])


async def test_a_picture_is_fetched_without_a_key_from_the_shelf_and_anew(
    locked: Any, anybody: httpx.AsyncClient
) -> None:
    edge, mine, theirs = locked
    address = await draw(edge, mine)
    for turn in ("from the shelf", "after a restart, with the same secret"):
        for headers in ({}, bearer(theirs), bearer("hd_unknown")):
            picture = await anybody.get(address, headers=headers)
            assert (picture.status_code, picture.content[:4]) == (200, b"RIFF"), turn
            cache = picture.headers["cache-control"]
            assert cache.startswith("private, max-age=")
            assert 3500 < int(cache.rpartition("=")[2]) <= 3600
        assert (await anybody.head(address)).status_code == 200
        unchanged = await anybody.get(address, headers={"If-None-Match": picture.headers["etag"]})
        assert (unchanged.status_code, unchanged.headers["cache-control"][:8]) == (304, "private,")
        await edge.restart()
    plain = await edge.client.get(address.partition("&tenant")[0], headers=bearer(mine))
    assert plain.headers["cache-control"].startswith("private, max-age=31536000"), "with a key: as ever"


async def test_what_was_altered_is_refused_alike(locked: Any, anybody: httpx.AsyncClient) -> None:
    edge, mine, theirs = locked
    await draw(edge, theirs)  # the other tenant has this very picture
    address = await draw(edge, mine)
    for old, new in (
        ("px=256", "px=512"), ("tenant=acme", "tenant=other"), ("/p/", "/p//"), ("signature=", "signature=x"),
        ("/p/", "/v1/predictions/"),
    ):  # fmt: skip
        altered = address.replace(old, new, 1)
        refused = await anybody.get(altered)
        problem = refused.json()
        assert (refused.status_code, problem["type"]) == (403, "urn:halfdrop:bad-signature"), altered
        assert "as the edge gave it" in problem["detail"]
        assert refused.headers["content-type"] == "application/problem+json"
        assert "cache-control" not in refused.headers
    # With a right key a signature that is not right does not matter.
    assert (await anybody.get(address.replace("signature=", "signature=x"), headers=bearer(mine))).status_code == 200


async def test_an_expired_address_says_so_and_so_does_one_of_an_unknown_tenant(
    locked: Any, anybody: httpx.AsyncClient, objects_url: str
) -> None:
    edge, mine, _ = locked
    path = (await draw(edge, mine)).removeprefix(edge.url).partition("?")[0]
    (key,) = await read_signing_keys(open_objects(objects_url))

    def sign(tenant: str, expires: int) -> str:
        # The form that is promised, without the code that makes it.
        signed = f"halfdrop.address.v1\n{tenant}\n{expires}\n\n{path}".encode()
        digest = hmac.new(key.secret, signed, hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return f"{edge.url}{path}?tenant={tenant}&expires={expires}&signature={signature}"

    now = int(time.time())
    assert (await anybody.get(sign("acme", now + 60))).status_code == 200
    expired = await anybody.get(sign("acme", now - 1))
    assert (expired.status_code, expired.json()["type"]) == (403, "urn:halfdrop:address-expired")
    assert (await anybody.get(sign("acme", now - 1), headers=bearer(mine))).status_code == 200
    assert (await anybody.get(sign("nobody", now + 60))).status_code == 403
    assert (await anybody.get(sign("other", now + 60))).status_code == 404, "signed, but the other tenant has no such"


async def test_nothing_but_fetching_is_let_in(locked: Any, anybody: httpx.AsyncClient) -> None:
    edge, mine, _ = locked
    address = await draw(edge, mine)
    signature = address.partition("?")[2]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await anybody.request(method, address)).status_code in (401, 405), method
    posted = await anybody.post(f"{edge.url}/v1/previews?{signature}", json={"prompt": PROMPT})
    assert posted.status_code == 401
    assert (await anybody.get(f"{edge.url}/v1/predictions?{signature}")).status_code == 403


async def order(edge: "LiveEdge", key: str, **headers: str) -> httpx.Response:
    body = {"input": {"prompt": PROMPT, "size_px": 256}}
    return await edge.client.post("/v1/predictions", json=body, headers={**bearer(key), **headers})


async def finish_next_order(hub_nats: NatsServer, objects_url: str) -> None:
    """Do a hub's part of the next order: files into the store, and word that it is done."""
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:
        await ensure_hub_streams(hub.js)  # the edge may not have come to it yet
        subscription = await hub.js.pull_subscribe("jobs.>", stream=JOBS_STREAM, durable="test")
        (message,) = await subscription.fetch(1, timeout=10)
        job, artifacts = decode_job(message.data), []
        for name, media_type in (("master.png", "image/png"), ("plate-1-ff0000.png", "image/png"),
                                 ("pattern.svg", "image/svg+xml"), ("proof.png", "image/png")):  # fmt: skip
            path = artifact_path(job.tenant, job.id, name)
            await open_objects(objects_url).put(path, PNG)
            size_bytes, sha256 = len(PNG), "0" * 64
            artifacts.append(
                Artifact(name=name, path=path, media_type=media_type, size_bytes=size_bytes, sha256=sha256)
            )
        assert job.plates is not None
        done = msgspec.structs.replace(
            accepted_status(job, job.plates.pattern_key),
            state=JobState.COMPLETED, attempt=1, completed_at=time.time(), artifacts=tuple(artifacts),
        )  # fmt: skip
        await hub.js.publish(job_event(job.origin, job.id), encode_status(done))


async def test_every_file_of_an_order_is_fetched_without_a_key_wherever_its_address_came_from(
    locked: Any, anybody: httpx.AsyncClient, hub_nats: NatsServer, objects_url: str, tmp_path: Path
) -> None:
    edge, mine, _ = locked
    placed, _ = await asyncio.gather(order(edge, mine, prefer="wait=20"), finish_next_order(hub_nats, objects_url))
    order_id = placed.json()["id"]
    got = (await edge.client.get(f"/v1/predictions/{order_id}", headers=bearer(mine))).json()
    listed = (await edge.client.get("/v1/predictions", headers=bearer(mine))).json()["results"][0]
    streamed = (await edge.client.get(f"/v1/predictions/{order_id}/stream", headers=bearer(mine))).text
    canceled = (await edge.client.post(f"/v1/predictions/{order_id}/cancel", headers=bearer(mine))).json()
    for found in (placed.json(), got, listed, msgspec.json.decode(streamed.split("data: ")[-1].strip()), canceled):
        output = found["output"]
        for address in (output["master"], *output["separations"], output["svg"], output["proof"]):
            file = await anybody.get(address)
            assert (file.status_code, file.content) == (200, PNG)
            assert file.headers["cache-control"].startswith("private, max-age=3")
            assert (await anybody.get(address.partition("?")[0])).status_code == 401
    assert "?" not in got["urls"]["get"], "an order itself is for its owner"
    other = got["output"]["svg"].partition("?")[0] + "?" + got["output"]["master"].partition("?")[2]
    assert (await anybody.get(other)).status_code == 403, "one file's signature opens no other"
    with HalfdropClient(edge.url, api_key=mine) as client:
        client.download(client.get(order_id), "master.png", tmp_path / "m.png")
        assert client.preview(PROMPT).data[:4] == b"RIFF"
    assert (tmp_path / "m.png").read_bytes() == PNG


def expiry(answer: httpx.Response) -> int:
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")
    return int(answer.json()["output"]["master"].partition("expires=")[2].partition("&")[0])


async def test_an_order_repeated_by_its_key_has_fresh_addresses(
    locked: Any, hub_nats: NatsServer, objects_url: str, wait_until: "WaitUntil"
) -> None:
    """Prefer: wait can answer with a finished order; what is remembered of it must not carry old signatures."""
    edge, mine, _ = locked
    headers = {"Prefer": "wait=20", "Idempotency-Key": "a"}
    first, _ = await asyncio.gather(order(edge, mine, **headers), finish_next_order(hub_nats, objects_url))
    began = expiry(first)
    await wait_until(lambda: int(time.time()) + 3600 > began)
    again = await order(edge, mine, **headers)
    assert again.json()["id"] == first.json()["id"]
    assert expiry(again) > began


def rotate_at_once(objects_url: str) -> None:
    program = Path(sys.executable).with_name("halfdrop")
    subprocess.run([program, "keys", "rotate-signing", "--at-once", "--objects-url", objects_url], check=True)


async def test_two_edges_of_a_region_open_each_others_addresses_also_after_a_rotation(
    start_edge: "StartEdge", anybody: httpx.AsyncClient, objects_url: str, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    mine = await make_key(objects_url, "acme")
    one = await start_edge(ACCESS="keys")
    two = await start_edge(ACCESS="keys", DATA_DIR=tmp_path / "second")
    address = await draw(one, mine)
    there = address.replace(one.url, two.url)
    assert (await anybody.get(there)).status_code == 200
    objects = open_objects(objects_url)
    await rotate_signing_key(objects, now=time.time())
    fresh = await draw(one, mine)
    for known in (there, fresh.replace(one.url, two.url)):
        assert (await anybody.get(known)).status_code == 200
    rotate_at_once(objects_url)
    assert len(await read_signing_keys(objects)) == 1

    async def is_refused() -> bool:
        return (await anybody.get(there)).status_code == 403

    await wait_until(is_refused)
    assert (await anybody.get(await draw(two, mine))).status_code == 200


async def test_a_tenants_addresses_end_with_its_last_key(
    locked: Any, anybody: httpx.AsyncClient, objects_url: str, wait_until: "WaitUntil"
) -> None:
    edge, mine, _ = locked
    address, objects = await draw(edge, mine), open_objects(objects_url)
    for record in await read_keys(objects):
        if record.tenant == "acme":
            await revoke_key(objects, record.id, now=time.time())

    async def is_refused() -> bool:
        return (await anybody.get(address)).status_code == 403

    await wait_until(is_refused)


async def test_fetching_by_address_has_a_count_of_its_own(
    locked: Any, anybody: httpx.AsyncClient, objects_url: str
) -> None:
    edge, mine, _ = locked
    name = (await draw(edge, mine)).removeprefix(edge.url)
    await edge.restart()  # nothing on the shelf: a hit does not count
    fetched = await anybody.get(edge.url + name)
    assert '"requests";r=1199;' in fetched.headers["ratelimit"]
    listed = await edge.client.get("/v1/predictions", headers=bearer(mine))
    assert '"requests";r=1198;' in listed.headers["ratelimit"], "the preview and this"


async def test_on_an_open_edge_addresses_stay_as_they_are(edge: "LiveEdge", anybody: httpx.AsyncClient) -> None:
    drawn = await edge.client.post("/v1/previews", json={"prompt": PROMPT}, headers={"Accept": "application/json"})
    key = drawn.json()["key"]
    assert drawn.json()["url"] == drawn.headers["content-location"] == f"/p/{key}.webp?px=256"
    signed = f"{edge.url}/p/{key}.webp?px=256&tenant=acme&expires=1&signature=x"
    assert (await anybody.get(signed)).status_code == 200, "an address from days with keys"
