"""The server: hits go out before the framework is asked, everything else reaches it as ASGI says. Real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from litestar.response import Stream

from halfdrop.deploy.ports import choose_port
from halfdrop.edge.access import Door
from halfdrop.edge.front import Front
from halfdrop.edge.keys import KeyRecord, create_key, digest_key, read_keys
from halfdrop.edge.rsgi_bridge import UNREADABLE
from halfdrop.edge.server import serve
from halfdrop.edge.shelf import Shelf, make_etag
from halfdrop.edge.signing_keys import ensure_signing_keys
from halfdrop.runtime.objects import open_objects

PATH = "/p/" + "ab" * 16 + ".webp"
WEBP = b"RIFF" + bytes(range(256)) * 40
KEY = "hd_key"

App = Callable[[Any, Any, Any], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with what came, as JSON."""
    body, parts = b"", 0
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        parts += 1
        if not message["more_body"]:
            break
    said = {name: scope[name] for name in ("method", "path", "scheme", "http_version")}
    said["query"] = scope["query_string"].decode()
    said["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    said["body_bytes"] = len(body)
    headers = [(b"content-type", b"application/json"), (b"x-twice", b"1"), (b"x-twice", b"2")]
    await send({"type": "http.response.start", "status": 299, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(said)})


@asynccontextmanager
async def serving(
    app: App, *, door: Door | None = None, prefix: str = "", shelf: Shelf | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    door = door or Door(is_open=True)
    shelf = shelf or Shelf(2**20, is_private=not door.is_open)
    shelf.put(prefix + PATH, WEBP)
    port = choose_port()
    async with (
        serve(Front(shelf, app, door), host="127.0.0.1", port=port, grace_s=1),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serving(echo) as client:
        yield client


async def test_a_shelved_picture_goes_out_with_validators(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH)
    assert (answer.status_code, answer.content) == (200, WEBP)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-length"] == str(len(WEBP))
    assert answer.headers["etag"] == make_etag(WEBP)
    assert answer.headers["cache-status"] == "halfdrop; hit; detail=memory"
    assert answer.headers["cache-control"].startswith("public, max-age=")


async def test_head_sends_the_headers_of_get_and_no_body(client: httpx.AsyncClient) -> None:
    head, got = await client.head(PATH), await client.get(PATH)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize("tags", [make_etag(WEBP), f'"other", W/{make_etag(WEBP)}', "*"])
async def test_whoever_has_it_gets_a_304_without_body(client: httpx.AsyncClient, tags: str) -> None:
    answer = await client.get(PATH, headers={"If-None-Match": tags})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == make_etag(WEBP)
    assert (await client.get(PATH, headers={"If-None-Match": '"other"'})).content == WEBP


async def test_hits_are_counted_by_status_and_nothing_else_is() -> None:
    shelf = Shelf(2**20)
    async with serving(echo, shelf=shelf) as client:
        for _ in range(3):
            await client.get(PATH)
        await client.get(PATH, headers={"If-None-Match": make_etag(WEBP)})
        await client.get("/p/other.webp")
        for _ in range(2):
            await client.head(PATH)
        await client.head(PATH, headers={"If-None-Match": make_etag(WEBP)})
    counts = {("GET", "200"): 3, ("GET", "304"): 1, ("HEAD", "200"): 2, ("HEAD", "304"): 1}
    assert shelf.answered() == counts


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/p/other.webp"), ("GET", f"{PATH}?px=512"), ("POST", PATH), ("HEAD", "/p/other.webp")],
)
async def test_everything_else_reaches_the_application(client: httpx.AsyncClient, method: str, target: str) -> None:
    assert (await client.request(method, target)).status_code == 299


async def test_a_picture_of_a_tenant_goes_to_its_keys_alone() -> None:
    door = Door(is_open=False)
    record = KeyRecord(
        id="k1",
        tenant="acme",
        sha256=digest_key(KEY.encode()).hex(),
        scopes=("previews",),
        tier="standard",
        created_at=0,
    )
    door.replace([record], now=1.0)
    async with serving(echo, door=door, prefix="acme:") as client:
        answer = await client.get(PATH, headers={"Authorization": f"Bearer {KEY}"})
        assert (answer.status_code, answer.content) == (200, WEBP)
        assert answer.headers["cache-control"].startswith("private, ")
        assert (await client.get(PATH, headers={"Cookie": f"a=b; halfdrop_key={KEY}"})).content == WEBP
        assert (await client.get(PATH, headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await client.get(PATH)).status_code == 299  # nobody: the framework's guards refuse it


async def test_a_signed_picture_goes_out_for_as_long_as_its_address() -> None:
    door = Door(is_open=False, address_ttl_s=3600)
    objects = open_objects("memory://")
    await create_key(objects, tenant="acme", scopes=("orders",), tier="plus", label="", now=100.0, expires_at=None)
    door.replace(await read_keys(objects), time.time())
    door.signer.replace(await ensure_signing_keys(objects, now=time.time()))
    address = door.sign(f"{PATH}?px=256", "acme")
    shelf = Shelf(2**20, is_private=True)
    shelf.put(f"acme:{PATH}?px=256", WEBP)
    async with serving(echo, door=door, shelf=shelf) as client:
        for headers in ({}, {"Authorization": "Bearer hd_gone"}, {"If-None-Match": make_etag(WEBP)}):
            answer = await client.get(address, headers=headers)
            assert (answer.status_code, answer.content) in ((200, WEBP), (304, b""))
            assert answer.headers.get_list("cache-control") in (["private, max-age=3600"], ["private, max-age=3599"])
        head = await client.head(address)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(WEBP)))
        assert shelf.answered()["GET", "200"] == 2
        assert (await client.get(address.replace("acme", "other"))).status_code == 403


async def test_the_application_sees_the_request_as_it_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("/a%20b/%C3%A9?q=%20z&q=2", content=b"x" * 300_000, headers=[("X-A", "1"), ("X-A", "2")])
    said = answer.json()
    assert (said["method"], said["path"], said["query"]) == ("POST", "/a b/é", "q=%20z&q=2")
    assert (said["scheme"], said["http_version"], said["body_bytes"]) == ("http", "1.1", 300_000)
    assert [value for name, value in said["headers"] if name == "x-a"] == ["1", "2"]
    assert answer.headers.get_list("x-twice") == ["1", "2"]


async def test_a_field_that_is_not_ascii_is_there_and_unreadable(client: httpx.AsyncClient) -> None:
    said = (await client.get("/", headers=[(b"X-Odd", b"\xff\xe9"), (b"X-Even", b"fine")])).json()
    assert ["x-odd", UNREADABLE.decode()] in said["headers"]
    assert ["x-even", "fine"] in said["headers"]


async def test_a_body_that_is_cut_short_ends_in_a_disconnect_and_not_as_if_it_were_whole() -> None:
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def listen(_scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            heard.put_nowait(message)
            if message["type"] == "http.disconnect":
                return

    async with serving(listen) as client:
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert (await heard.get())["body"] == b"abc"
            assert (await heard.get())["type"] == "http.disconnect"
        writer.close()


async def test_a_bug_in_the_short_cut_costs_nobody_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise ValueError("broken")

    monkeypatch.setattr(Front, "try_hit", fail)
    async with serving(echo) as client:
        for _ in range(3):
            assert (await client.get(PATH)).status_code == 299


async def test_an_answer_is_streamed_part_by_part_as_it_comes() -> None:
    go_on = asyncio.Event()

    async def stream(_scope: Any, receive: Any, send: Any) -> None:
        first = await receive()
        assert first["body"] == b"one"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"done"})

    async with serving(stream) as client, client.stream("POST", "/", content=b"one") as answer:
        heard = answer.aiter_bytes()
        assert await anext(heard) == b"begun "
        go_on.set()
        assert b"".join([part async for part in heard]) == b"done"


async def test_a_stream_of_the_frameworks_ends_for_a_client_that_keeps_its_connection() -> None:
    async def count() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d " % number

    @get("/count")
    async def answer() -> Stream:
        return Stream(count())

    async with serving(Litestar([answer], openapi_config=None, logging_config=None)) as client:
        for _ in range(2):
            assert (await client.get("/count")).text == "0 1 2 "
        assert (await client.get(PATH)).content == WEBP


async def test_the_application_hears_that_the_client_has_gone() -> None:
    gone = asyncio.Event()

    async def hang(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"still ", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"here", "more_body": True})  # leads nowhere, harms nobody
        gone.set()

    async with serving(hang) as client:
        async with client.stream("GET", "/"):
            assert not gone.is_set()
        async with asyncio.timeout(5):
            await gone.wait()


async def test_an_application_that_fails_is_a_500_and_the_server_goes_on() -> None:
    async def fail(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/bad":
            raise ValueError("broken")
        await echo(scope, receive, send)

    async with serving(fail) as client:
        assert (await client.get("/bad")).status_code == 500
        assert (await client.get("/good")).status_code == 299
        assert (await client.get(PATH)).content == WEBP
