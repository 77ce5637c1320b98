"""The low-latency path of a live edge: drawn once, then a hit, from whichever tier has it."""

import asyncio
import io
import os
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from halfdrop.contracts.plates import decode_plates
from halfdrop.contracts.subjects import plates_path, preview_path
from halfdrop.deploy.servers import NatsServer, ValkeyServer
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

JSON = {"Accept": "application/json"}


async def preview(client: httpx.AsyncClient, prompt: str, **members: object) -> httpx.Response:
    response = await client.post("/v1/previews", json={"prompt": prompt, **members})
    assert response.status_code == 200, response.text
    return response


async def describe(client: httpx.AsyncClient, prompt: str, **members: object) -> dict[str, Any]:
    response = await client.post("/v1/previews", json={"prompt": prompt, **members}, headers=JSON)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_pattern_is_drawn_once_and_then_a_hit(edge: "LiveEdge") -> None:
    first = await preview(edge.client, "red dots on white")
    assert first.headers["cache-status"] == "halfdrop; fwd=miss; stored"
    assert first.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(first.content)).size == (256, 256)
    again = await preview(edge.client, "Red  dots, on white ".replace(",", ""))
    assert again.headers["cache-status"].startswith("halfdrop; hit")
    assert again.headers["halfdrop-key"] == first.headers["halfdrop-key"]
    assert again.content == first.content


async def test_the_address_of_a_picture_answers_forever_and_to_conditions(edge: "LiveEdge") -> None:
    drawn = await preview(edge.client, "navy stripes on cream")
    address = drawn.headers["content-location"]
    found = await edge.client.get(address)
    assert found.content == drawn.content
    assert found.headers["cache-status"] == "halfdrop; hit; detail=memory"
    assert "immutable" in found.headers["cache-control"]
    assert "stale-if-error" in found.headers["cache-control"]
    assert found.headers["etag"] == drawn.headers["etag"]
    for asked in (found.headers["etag"], f'"other", W/{found.headers["etag"]}', "*"):
        unchanged = await edge.client.get(address, headers={"If-None-Match": asked})
        assert (unchanged.status_code, unchanged.content) == (304, b""), asked
        assert unchanged.headers["etag"] == found.headers["etag"]
    assert (await edge.client.get(address, headers={"If-None-Match": '"other"'})).status_code == 200
    head = await edge.client.head(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(found.content))
    bare = await edge.client.get(address.partition("?")[0])
    assert bare.content == found.content


async def test_another_size_of_a_known_key_is_drawn_on_demand(edge: "LiveEdge") -> None:
    key = (await preview(edge.client, "green leaves on beige, third drop")).headers["halfdrop-key"]
    large = await edge.client.get(f"/p/{key}.webp?px=512")
    assert large.headers["cache-status"] == "halfdrop; fwd=miss; stored"
    assert Image.open(io.BytesIO(large.content)).size == (512, 512)
    direct = await preview(edge.client, "green leaves on beige, third drop", size_px=512)
    assert direct.content == large.content
    again = await edge.client.get(f"/p/{key}.webp?px=512")
    assert again.headers["cache-status"] == "halfdrop; hit; detail=memory"


async def test_json_says_what_was_understood(edge: "LiveEdge") -> None:
    found = await describe(edge.client, "zorkmid stars, half-drop", palette=["#FF0000"], seed=3)
    assert found["spec"]["repeat"]["layout"] == "half-drop"
    assert "half" not in found["spec"]["prompt"]
    assert found["unknown_words"] == ["zorkmid"]
    assert len(found["palette"]) == 5
    assert found["palette"][0] == "#ff0000"
    assert found["url"] == f"/p/{found['key']}.webp?px=256"
    other = await describe(edge.client, "zorkmid stars, half-drop", palette=["#FF0000"], seed=4)
    assert other["key"] != found["key"]


async def test_unknown_words_are_read_as_the_nearest_and_share_the_picture_of_those(edge: "LiveEdge") -> None:
    found = await describe(edge.client, "red Polkadtos and cats on white")
    assert found["spec"]["prompt"] == "red polka dots on white"
    assert found["read_as"] == {"polkadtos": "polka dots"}
    assert found["unknown_words"] == ["cats"]
    known = await describe(edge.client, "red polka dots on white")
    assert known["key"] == found["key"]
    assert (known["read_as"], known["unknown_words"]) == ({}, [])


async def test_what_is_kept_out_is_read_too(edge: "LiveEdge") -> None:
    found = await describe(edge.client, "red hearts on white", negative_prompt="no outlins, cats", guidance_scale=2)
    assert found["spec"]["negative_prompt"] == "outlines"
    assert found["read_as"] == {"outlins": "outlines"}
    assert found["unknown_words"] == ["cats"]
    nothing = await describe(edge.client, "red hearts on white", negative_prompt="cats", guidance_scale=2)
    assert nothing["unknown_words"] == ["cats"]
    assert nothing["key"] == (await describe(edge.client, "red hearts on white"))["key"] != found["key"]


async def test_exact_colours_in_a_prompt_are_drawn_exactly_in_their_roles(edge: "LiveEdge") -> None:
    found = await describe(edge.client, "#FF8800 dots on #141E5A, half-drop")
    assert found["spec"]["prompt"] == "#ff8800 dots on #141e5a"
    assert found["unknown_words"] == []
    assert found["palette"][:2] == ["#141e5a", "#ff8800"]
    picture = Image.open(io.BytesIO((await edge.client.get(found["url"])).content)).convert("RGB")
    inks = sorted(picture.getcolors(256 * 256) or [], reverse=True)
    assert {colour for _, colour in inks[:2]} == {(0x14, 0x1E, 0x5A), (0xFF, 0x88, 0x00)}
    short = await describe(edge.client, "#f80 dots on #141e5a, half-drop")
    assert short["key"] == found["key"]
    other = await describe(edge.client, "#ff8801 dots on #141e5a, half-drop")
    assert other["key"] != found["key"]
    assert other["palette"][:2] == ["#141e5a", "#ff8801"]
    override = await describe(edge.client, "#ff8800 dots on #141e5a, half-drop", palette=["#00ff00"])
    assert override["palette"][:2] == ["#00ff00", "#ff8800"]


async def test_one_render_serves_a_hundred_who_ask_at_once(edge: "LiveEdge") -> None:
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=edge.url, timeout=30, limits=limits) as client:
        answers = await asyncio.gather(*(preview(client, "gold stars on navy") for _ in range(100)))
    assert len({answer.content for answer in answers}) == 1
    health = (await edge.client.get("/healthz")).json()
    assert health["previews_drawn"] == 1


async def test_a_full_queue_answers_429_and_says_when_to_come_back(start_edge: "StartEdge") -> None:
    edge = await start_edge(PREVIEWS_MAX=1, PREVIEW_THREADS=1)
    body = [{"prompt": "red hearts on pink", "seed": seed, "num_inference_steps": 8} for seed in range(20)]
    answers = await asyncio.gather(*(edge.client.post("/v1/previews", json=each) for each in body))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = answers[statuses.index(429)]
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:halfdrop:overloaded"
    later = await edge.client.post("/v1/previews", json=body[statuses.index(429)])
    assert later.status_code == 200


async def test_plates_and_spec_are_stored_before_the_answer_and_the_picture_soon_after(
    edge: "LiveEdge", objects_url: str, wait_until: "WaitUntil"
) -> None:
    drawn = await preview(edge.client, "teal waves on white")
    key = drawn.headers["halfdrop-key"]
    objects = open_objects(objects_url)
    stored = await objects.get(plates_path(key))
    assert stored is not None
    assert decode_plates(stored).pattern_key == key

    async def is_stored() -> bool:
        return await objects.get(preview_path(key, 256)) is not None

    await wait_until(is_stored)
    picture = await objects.get(preview_path(key, 256))
    assert picture is not None
    assert picture.startswith(drawn.content)  # and a seal, which no decoder minds
    assert Image.open(io.BytesIO(picture)).tobytes() == Image.open(io.BytesIO(drawn.content)).tobytes()


async def test_a_lost_cache_costs_time_and_nothing_else(
    start_edge: "StartEdge", valkey: ValkeyServer, wait_until: "WaitUntil"
) -> None:
    edge = await start_edge()
    drawn = await preview(edge.client, "purple diamonds on grey")
    key = drawn.headers["halfdrop-key"]
    await edge.stop()
    await valkey.kill()
    other = await start_edge(DATA_DIR=edge.process.log_path.parent / "empty")
    found = await other.client.get(f"/p/{key}.webp")
    assert found.content == drawn.content
    assert found.headers["cache-status"] == "halfdrop; hit; detail=objects"
    large = await other.client.get(f"/p/{key}.webp?px=384")
    assert large.status_code == 200
    assert (await preview(other.client, "something new")).status_code == 200
    health = (await other.client.get("/healthz")).json()
    assert health["status"] == "degraded"
    assert health["parts"]["redis"]["state"] == "away"


@pytest.mark.parametrize("outage", [signal.SIGKILL, signal.SIGSTOP])
async def test_previews_are_served_while_the_hub_is_gone_or_frozen(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil", outage: signal.Signals
) -> None:
    os.kill(hub_nats.process.pid, outage)
    assert (await preview(edge.client, "pink clouds on blue")).status_code == 200

    async def is_noticed() -> bool:
        health = await edge.client.get("/healthz")
        assert health.status_code == 200
        return bool(health.json()["parts"]["hub"]["state"] == "away")

    await wait_until(is_noticed)
    await hub_nats.kill()  # a frozen server would not hear a polite stop


async def test_the_studio_page_is_served_with_a_policy_and_validators(edge: "LiveEdge") -> None:
    page = await edge.client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert (await edge.client.get("/", headers={"If-None-Match": page.headers["etag"]})).status_code == 304
    script = await edge.client.get("/studio/studio.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert (await edge.client.get("/studio/../settings.py")).status_code == 404
    assert (await edge.client.get("/studio/%2e%2e/settings.py")).status_code == 404
