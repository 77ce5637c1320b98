"""The front's rules for what goes on to the framework, and its shelf. Hits: test_edge_server.py, through the server."""

from typing import Any

import msgspec
import pytest

from halfdrop.edge.access import Door
from halfdrop.edge.front import Front, Shelf, matches_etag


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
    return Front(Shelf(2**20), inner, Door(is_open=True))


async def test_a_head_is_a_get_without_its_body(front: Front) -> None:
    start, body = await ask(front, "/elsewhere", method="HEAD")
    assert dict(start["headers"])[b"x-method"] == b"GET"
    assert body["body"] == b""


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
    assert matches_etag('"a", W/"b"', '"b"')
    assert matches_etag("*", '"b"')
    assert not matches_etag('"a"', '"b"')
    assert not matches_etag("", '"b"')
