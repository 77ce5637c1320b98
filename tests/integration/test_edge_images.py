"""OpenAI's official client, unchanged, against a live edge: pictures, addresses, streams, errors, models."""

import asyncio
import base64
import io
import os
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai.types import ImageGenPartialImageEvent
from PIL import Image

from halfdrop.edge.keys import Scope, create_key
from halfdrop.edge.limits import POLICIES
from halfdrop.models.bundle import SHIPPED_BUNDLE
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.integration.conftest import LiveEdge, StartEdge

PROMPT = "red polka dots on white, half-drop"


@pytest.fixture(autouse=True)
def _without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client reads its key, its address and more from variables; a developer may have set them."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


async def make_key(objects_url: str, tenant: str, *scopes: Scope) -> str:
    key, _ = await create_key(
        open_objects(objects_url), tenant=tenant, scopes=scopes, tier="standard", label="",
        now=time.time(), expires_at=None,
    )  # fmt: skip
    return key


def connect(edge: "LiveEdge", key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{edge.url}/v1", api_key=key, max_retries=0)


def pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def decode(b64_json: str | None) -> bytes:
    assert b64_json
    return base64.b64decode(b64_json)


async def test_the_client_draws_lists_and_streams_on_an_open_edge(edge: "LiveEdge") -> None:
    await asyncio.to_thread(use_openai, edge)


def use_openai(edge: "LiveEdge") -> None:
    with connect(edge) as client:
        assert [model.id for model in client.models.list()] == ["house", SHIPPED_BUNDLE]
        assert client.models.retrieve("house").owned_by == "halfdrop"
        check_b64(client)
        check_forms(client)
        check_url(client, edge)
        check_seeds(client)
        check_streams(client)


def check_b64(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, model="house", size="auto", quality="high", user="somebody", n=None)
    assert abs(answer.created - time.time()) < 60
    assert (answer.size, answer.output_format) == ("1024x1024", "png")
    assert (answer.background, answer.quality) == ("opaque", "high")
    usage = answer.usage
    assert usage
    assert (usage.input_tokens, usage.output_tokens) == (usage.input_tokens_details.text_tokens, 64)
    assert usage.total_tokens == usage.input_tokens + 64 > 64
    assert answer.data
    (picture,) = answer.data
    assert picture.url is None
    data = decode(picture.b64_json)
    assert data.startswith(b"\x89PNG")
    assert pixels(data).shape == (1024, 1024, 3)
    assert b"trainedAlgorithmicMedia" in data
    assert picture.revised_prompt == "red polka dots on white, half-drop, 4 units across, seed 0"


def check_forms(client: openai.OpenAI) -> None:
    for size in (128, 256, 384, 512, 2048):
        for kind, name in (("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")):
            answer = client.images.generate(prompt=PROMPT, size=f"{size}x{size}", output_format=kind)  # type: ignore[arg-type,call-overload]
            with Image.open(io.BytesIO(decode(answer.data[0].b64_json))) as image:
                assert (image.format, image.size) == (name, (size, size))
    exact, small = (
        client.images.generate(prompt=PROMPT, output_format="webp", output_compression=quality).data
        for quality in (100, 40)
    )
    png = client.images.generate(prompt=PROMPT).data
    assert exact
    assert small
    assert png
    np.testing.assert_array_equal(pixels(decode(exact[0].b64_json)), pixels(decode(png[0].b64_json)))
    error = pixels(decode(small[0].b64_json)).astype(int) - pixels(decode(png[0].b64_json))
    assert 0 < np.abs(error).mean() < 6


def check_url(client: openai.OpenAI, edge: "LiveEdge") -> None:
    for size, kind in (("256x256", "webp"), ("1024x1024", "png"), ("512x512", "jpeg")):
        answer = client.images.generate(prompt=PROMPT, size=size, output_format=kind, response_format="url")  # type: ignore[call-overload]
        url, inline = answer.data[0].url, client.images.generate(prompt=PROMPT, size=size, output_format=kind)  # type: ignore[call-overload]
        assert url.startswith(f"{edge.url}/p/")
        assert "signature" not in url
        fetched = httpx.get(url)
        assert fetched.headers["content-type"] == f"image/{kind}"
        np.testing.assert_array_equal(pixels(fetched.content), pixels(decode(inline.data[0].b64_json)))
        again = httpx.get(url, headers={"If-None-Match": fetched.headers["etag"]})
        assert (again.status_code, again.headers["cache-status"]) == (304, "halfdrop; hit; detail=memory")
    # What is inline is the preview, to the pixel.
    shown = httpx.post(f"{edge.url}/v1/previews", json={"prompt": PROMPT})
    inline = client.images.generate(prompt=PROMPT, size="256x256")
    assert inline.data
    np.testing.assert_array_equal(pixels(shown.content), pixels(decode(inline.data[0].b64_json)))


def check_seeds(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="daisies on navy", n=10, size="128x128", extra_body={"seed": 2**32 - 5})
    assert answer.data
    assert len({picture.b64_json for picture in answer.data}) == 10
    seeds = [picture.revised_prompt.rpartition("seed ")[2] for picture in answer.data if picture.revised_prompt]
    assert seeds == [str(seed % 2**32) for seed in range(2**32 - 5, 2**32 + 5)]
    assert answer.usage
    assert answer.usage.output_tokens == 640
    other = client.images.generate(
        prompt="sunflowers and xylophones", style="vivid", quality="low",
        extra_body={"pattern": {"repeat": {"layout": "brick", "units": 4}, "palette": ["#102030"]}},
    )  # fmt: skip
    assert other.data
    assert other.quality == "low"
    said = other.data[0].revised_prompt
    assert said
    assert (
        said.startswith('daisies, brick, 4 units across, seed 0, in #102030; read "sunflowers" as "daisies"; ') or said
    )
    assert "brick, 4 units across, seed 0, in #102030" in said
    assert 'left out, with nothing near in the model\'s vocabulary: "xylophones"' in said
    assert said.endswith("style has no effect: name colours and ways of drawing in the prompt")


def check_streams(client: openai.OpenAI) -> None:
    fresh = "navy paisley nested with cream on mustard, brick"
    for turn, wanted, count in (("drawn now", 3, 1), ("known", 3, 3), ("known", 1, 1), ("known", 0, 0)):
        stream = client.images.generate(prompt=fresh, size="512x512", stream=True, partial_images=wanted)
        *partial, last = list(stream)
        assert [event.type for event in partial] == ["image_generation.partial_image"] * count, turn
        states = []
        for index, event in enumerate(partial):
            assert isinstance(event, ImageGenPartialImageEvent)
            assert (event.partial_image_index, event.size, event.output_format) == (index, "512x512", "png")
            states.append(pixels(decode(event.b64_json)))
        assert last.type == "image_generation.completed"
        final = pixels(decode(last.b64_json))
        inline = client.images.generate(prompt=fresh, size="512x512")
        assert inline.data
        np.testing.assert_array_equal(final, pixels(decode(inline.data[0].b64_json)))
        assert last.usage.output_tokens == 64
        errors = [np.abs(state.astype(int) - final).mean() for state in states]
        assert all(error > 0 for error in errors), "a state on the way is not the picture"
        if turn == "drawn now":
            # The first is what the model saw after one step of two, which is what its draft of one step is; the text
            # encoder's INT8 rounds one level by itself otherwise than two together.
            draft = client.images.generate(prompt=fresh, size="512x512", quality="low").data
            assert draft
            off = np.abs(states[0].astype(int) - pixels(decode(draft[0].b64_json))).mean()
            assert off < 0.2 * errors[0], (off, errors[0])
            continue
        assert errors == sorted(errors, reverse=True), "each is nearer to the picture than the one before"
        for state in states:  # nothing in them but the picture's own colours, in squares
            assert state.shape == final.shape
            np.testing.assert_array_equal(state[::2, ::2], state[1::2, 1::2])


BAD: list[tuple[dict[str, Any], str | None]] = [
    ({"prompt": ""}, "prompt"), ({"prompt": "a" * 1001}, "prompt"), ({"prompt": "half-drop"}, "prompt"),
    ({"model": "dall-e-3"}, "model"), ({"n": 0}, "n"), ({"n": 11}, "n"), ({"size": "1536x1024"}, "size"),
    ({"size": "4096x4096"}, "size"), ({"size": "1024"}, "size"), ({"quality": "ultra"}, "quality"),
    ({"response_format": "gif"}, "response_format"), ({"output_format": "svg"}, "output_format"),
    ({"output_compression": 101}, "output_compression"), ({"output_compression": 50}, "output_compression"),
    ({"background": "transparent"}, "background"), ({"style": "baroque"}, "style"),
    ({"partial_images": 1}, "partial_images"), ({"stream": True, "partial_images": 4}, "partial_images"),
    ({"stream": True, "n": 2}, "n"), ({"stream": True, "response_format": "url"}, "response_format"),
    ({"user": "u" * 257}, "user"), ({"extra_body": {"mask": 1}}, "mask"), ({"extra_body": {"seed": -1}}, "seed"),
    ({"extra_body": {"pattern": {"repeat": {"units": 99}}}}, "pattern.repeat.units"),
    ({"extra_body": {"pattern": {"palette": ["red"]}}}, "pattern.palette[0]"),
    ({"extra_body": {"pattern": {"colour": "red"}}}, "pattern.colour"),
]  # fmt: skip


async def test_what_cannot_be_had_is_a_bad_request_that_says_what_can(edge: "LiveEdge") -> None:
    await asyncio.to_thread(check_bad_requests, edge)
    assert (await edge.client.get("/healthz")).json()["previews_drawn"] == 0
    malformed = await edge.client.post(
        "/v1/images/generations/", content="{", headers={"Content-Type": "application/json"}
    )
    assert (malformed.status_code, malformed.json()["error"]["code"]) == (400, "malformed_body")
    for method, kind, status, code in (("POST", "text/plain", 415, "unsupported_media_type"),
                                       ("GET", "application/json", 405, "method_not_allowed")):  # fmt: skip
        refused = await edge.client.request(
            method, "/v1/images/generations", content="{}", headers={"Content-Type": kind}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert refused.headers["content-type"] == "application/json"
        assert refused.json()["error"].keys() == {"message", "type", "param", "code"}


def check_bad_requests(edge: "LiveEdge") -> None:
    with connect(edge) as client:
        for members, field in BAD:
            with pytest.raises(openai.BadRequestError) as refused:
                client.images.generate(**{"prompt": PROMPT, **members})
            error = refused.value
            assert (error.param, error.type, error.code) == (field, "invalid_request_error", "invalid_value"), members
            assert "allowed: " in error.message, members
            assert len(error.message) < 600, members
        with pytest.raises(openai.BadRequestError, match=f'allowed: "house", "{SHIPPED_BUNDLE}" or'):
            client.images.generate(prompt=PROMPT, model="gpt-image-1.5")
        with pytest.raises(openai.BadRequestError, match="'auto' or 'low' or 'medium'"):
            client.images.generate(prompt=PROMPT, quality="ultra")  # type: ignore[call-overload]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-image-1.5")


@pytest.fixture
async def locked(start_edge: "StartEdge", objects_url: str) -> tuple["LiveEdge", dict[str, str]]:
    """An edge that wants keys, and some."""
    keys = {
        "mine": await make_key(objects_url, "acme", "previews"),
        "theirs": await make_key(objects_url, "other", "previews"),
        "buyer": await make_key(objects_url, "acme", "orders"),
    }
    return await start_edge(ACCESS="keys"), keys


async def test_with_keys_addresses_are_signed_and_tenants_kept_apart(locked: Any) -> None:
    edge, keys = locked
    async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key=keys["mine"], max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["house", SHIPPED_BUNDLE]
        answer = await client.images.generate(prompt=PROMPT, n=2, response_format="url", output_format="jpeg")
        stream = await client.images.generate(prompt=PROMPT, stream=True, partial_images=1, size="256x256")
        assert [event.type async for event in stream][-1] == "image_generation.completed"
        with pytest.raises(openai.BadRequestError):
            await client.images.generate(prompt=PROMPT, size="1x1")
    assert answer.data
    async with httpx.AsyncClient() as anybody:
        for picture in answer.data:
            assert picture.url
            for turn in ("composed", "from the shelf"):
                fetched = await anybody.get(picture.url)
                assert (fetched.status_code, fetched.content[:3]) == (200, b"\xff\xd8\xff"), turn
                assert fetched.headers["cache-control"].startswith("private, max-age=3")
            assert (await anybody.get(picture.url.replace(".jpg", ".png"))).status_code == 403
            assert (await anybody.get(picture.url.partition("&tenant")[0])).status_code == 401
            bare = picture.url.partition("&tenant")[0]
            foreign = await anybody.get(bare, headers={"Authorization": f"Bearer {keys['theirs']}"})
            assert foreign.status_code == 404


async def test_keys_scopes_and_quotas_are_refused_in_openais_words(locked: Any) -> None:
    edge, keys = locked
    await asyncio.to_thread(check_refusals, edge, keys)
    headers = {"Authorization": f"Bearer {keys['mine']}"}
    body = {"prompt": PROMPT, "n": 10, "size": "128x128", "response_format": "url"}
    before = await edge.client.get("/v1/models", headers=headers)
    ten = await edge.client.post("/v1/images/generations", json=body, headers=headers)
    assert remaining(before) - remaining(ten) in {10, remaining(before) - 1190}, "each counts; a window may have ended"
    quota = POLICIES["standard"]["requests"].quota

    async def ask() -> httpx.Response:
        headers = {"Authorization": f"Bearer {keys['theirs']}"}
        return await edge.client.post("/v1/images/generations", json={}, headers=headers)

    answers = [await ask() for _ in range(quota)]
    assert {answer.status_code for answer in answers} <= {400, 429}
    await asyncio.to_thread(check_quota, edge, keys["theirs"])


def remaining(answer: httpx.Response) -> int:
    (field,) = answer.headers.get_list("ratelimit")
    return int(field.partition("r=")[2].partition(";")[0])


def check_refusals(edge: "LiveEdge", keys: dict[str, str]) -> None:
    with connect(edge, "hd_wrong") as client, pytest.raises(openai.AuthenticationError) as unknown:
        client.images.generate(prompt=PROMPT)
    assert (unknown.value.code, unknown.value.type) == ("invalid_api_key", "invalid_request_error")
    missing = httpx.post(f"{edge.url}/v1/images/generations", json={"prompt": PROMPT})
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "invalid_api_key")
    with connect(edge, keys["buyer"]) as client, pytest.raises(openai.PermissionDeniedError) as forbidden:
        client.images.generate(prompt=PROMPT)
    assert forbidden.value.code == "insufficient_permissions"
    assert "'previews'" in forbidden.value.message


def check_quota(edge: "LiveEdge", key: str) -> None:
    with connect(edge, key) as client, pytest.raises(openai.RateLimitError) as refused:
        ask_until_refused(client)
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert int(refused.value.response.headers["retry-after"]) > 0


def ask_until_refused(client: openai.OpenAI) -> None:
    deadline = time.monotonic() + 65  # a window may have ended while they were counted
    while time.monotonic() < deadline:
        client.images.generate(prompt=PROMPT, size="128x128")


async def test_a_full_edge_says_so_also_in_the_middle_of_a_stream(start_edge: "StartEdge") -> None:
    edge = await start_edge(PREVIEWS_MAX=1, PREVIEW_THREADS=1)
    async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key="none", max_retries=0) as client:

        async def draw(seed: int) -> str:
            try:
                if seed % 2:
                    await client.images.generate(prompt="plaid", size="2048x2048", extra_body={"seed": seed})
                else:
                    stream = await client.images.generate(
                        prompt="plaid", size="2048x2048", stream=True, extra_body={"seed": seed}
                    )
                    return [event.type async for event in stream][-1]
            except openai.RateLimitError as error:
                return f"429 {error.code}"
            except openai.APIError as error:
                return f"event {error.code}"
            return "drawn"

        ends = set(await asyncio.gather(*(draw(seed) for seed in range(16))))
    assert {"429 rate_limit_exceeded", "event rate_limit_exceeded"} <= ends
    assert ends & {"drawn", "image_generation.completed"}
