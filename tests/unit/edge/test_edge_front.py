"""The front answers what is on its shelf from ready-made messages and hands on the rest."""

from typing import Any

import msgspec
import pytest

from halfdrop.edge.access import Door
from halfdrop.edge.front import Front, Shelf, make_etag, matches_etag

PATH = "/p/" + "ab" * 16 + ".webp"
WEBP = b"RIFF" + bytes(1_000)


async def ask(
    front: Front, path: str, *, method: str = "GET", query: bytes = b"", headers: dict[bytes, bytes] | None = None
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    given = {b"host": b"127.0.0.1:8080", **(headers or {})}
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": list(given.items())}
    await front(scope, receive, send)
    return sent


async def inner(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": [(b"x-method", scope["method"].encode())]})
    await send({"type": "http.response.body", "body": b"from inside"})


@pytest.fixture
def front() -> Front:
    shelf = Shelf(2**20)
    shelf.put(PATH, WEBP)
    return Front(shelf, inner, Door(is_open=True))


async def test_a_shelved_picture_goes_out_with_validators(front: Front) -> None:
    start, body = await ask(front, PATH)
    headers = dict(start["headers"])
    assert (start["status"], body["body"]) == (200, WEBP)
    assert headers[b"etag"] == make_etag(WEBP).encode()
    assert headers[b"cache-status"] == b"halfdrop; hit; detail=memory"
    assert headers[b"content-length"] == str(len(WEBP)).encode()


async def test_whoever_has_it_gets_a_304_without_body(front: Front) -> None:
    start, body = await ask(front, PATH, headers={b"if-none-match": make_etag(WEBP).encode()})
    assert (start["status"], body["body"]) == (304, b"")
    assert b"content-length" not in dict(start["headers"])


async def test_head_sends_the_headers_of_get_and_no_body(front: Front) -> None:
    start, body = await ask(front, PATH, method="HEAD")
    assert dict(start["headers"])[b"content-length"] == str(len(WEBP)).encode()
    assert body["body"] == b""
    start, body = await ask(front, "/elsewhere", method="HEAD")
    assert dict(start["headers"])[b"x-method"] == b"GET"
    assert body["body"] == b""


async def test_hits_are_counted_by_method_and_status_and_nothing_else_is() -> None:
    shelf = Shelf(2**20)
    shelf.put(PATH, WEBP)
    front = Front(shelf, inner, Door(is_open=True))
    has_it = {b"if-none-match": make_etag(WEBP).encode()}
    for method, headers, times in (("GET", {}, 4), ("GET", has_it, 3), ("HEAD", {}, 2), ("HEAD", has_it, 1)):
        for _ in range(times):
            await ask(front, PATH, method=method, headers=headers)
    await ask(front, "/p/other.webp")
    counts = {("GET", "200"): 4, ("GET", "304"): 3, ("HEAD", "200"): 2, ("HEAD", "304"): 1}
    assert shelf.answered() == counts


@pytest.mark.parametrize(
    ("path", "query", "method"), [("/p/other.webp", b"", "GET"), (PATH, b"px=512", "GET"), (PATH, b"", "POST")]
)
async def test_everything_else_goes_inside(front: Front, path: str, query: bytes, method: str) -> None:
    start, body = await ask(front, path, query=query, method=method)
    assert (start["status"], body["body"]) == (299, b"from inside")


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1.evil.example:80", b"", b"localhost.evil.example", b"[::1].evil.example"]
)
async def test_a_foreign_host_name_is_refused(front: Front, host: bytes) -> None:
    start, body = await ask(front, "/v1/predictions", headers={b"host": host})
    assert start["status"] == 421
    assert msgspec.json.decode(body["body"])["type"] == "urn:halfdrop:misdirected-request"


@pytest.mark.parametrize("host", [b"localhost:8080", b"LOCALHOST", b"127.0.0.1", b"[::1]:8080", b"[::1]"])
async def test_our_own_names_are_welcome(front: Front, host: bytes) -> None:
    start, _ = await ask(front, "/v1/predictions", headers={b"host": host})
    assert start["status"] == 299


async def test_the_shelf_stays_within_its_bytes() -> None:
    shelf = Shelf(100_000)
    for number in range(200):
        shelf.put(f"/p/{number}", bytes(10_000))
    kept = sum(shelf.peek(f"/p/{number}") is not None for number in range(200))
    assert 0 < kept <= 10


def test_weak_and_listed_tags_match() -> None:
    assert matches_etag(b'"a", W/"b"', b'"b"')
    assert matches_etag(b"*", b'"b"')
    assert not matches_etag(b'"a"', b'"b"')
    assert not matches_etag(b"", b'"b"')
