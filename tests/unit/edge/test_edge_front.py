"""The front's rules for what goes on to the framework, and its shelf. Hits: test_edge_server.py, through the server."""

import time
from typing import Any

import msgspec
import pytest

from halfdrop.edge.access import Access, Door
from halfdrop.edge.front import Front
from halfdrop.edge.keys import create_key, read_keys
from halfdrop.edge.limits import Limit, RateLimits
from halfdrop.edge.shelf import Shelf
from halfdrop.edge.signing_keys import ensure_signing_keys
from halfdrop.runtime.entity_tags import matches_tag
from halfdrop.runtime.objects import ObjectStore, open_objects

PATH = "/p/" + "ab" * 16 + ".webp"


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
    assert matches_tag('"a", W/"b"', '"b"')
    assert matches_tag("*", '"b"')
    assert not matches_tag('"a"', '"b"')
    assert not matches_tag("", '"b"')


@pytest.fixture
async def objects() -> ObjectStore:
    return open_objects("memory://")


def split(address: str) -> tuple[str, bytes]:
    path, _, query = address.partition("?")
    return path, query.encode()


async def open_door(objects: ObjectStore) -> Door:
    door = Door(is_open=False, address_ttl_s=3600)
    await create_key(
        objects, tenant="acme", scopes=("orders",), tier="plus", label="", now=100.0, expires_at=None
    )  # fmt: skip
    door.replace(await read_keys(objects), time.time())
    door.signer.replace(await ensure_signing_keys(objects, now=time.time()))
    return door


class NoQuota(RateLimits):
    """Counts nothing, and remembers who was to be counted."""

    def __init__(self) -> None:
        self.counted: list[Access] = []

    async def count(self, access: Access, *, is_order: bool) -> list[Limit]:
        self.counted.append(access)
        return []


async def test_what_is_not_on_the_shelf_goes_inside_in_the_name_of_its_tenant(objects: ObjectStore) -> None:
    door, limits = await open_door(objects), NoQuota()
    front = Front(Shelf(2**20), inner, door, limits)
    path, query = split(door.sign("/v1/predictions/x/files/master.png", "acme"))
    start, _ = await ask(front, path, query=query)
    assert start["status"] == 299
    (access,) = limits.counted
    assert (access.tenant, access.tier, access.counted_as) == ("acme", "plus", "acme/signed")
    assert not access.may("admin")


async def test_a_signature_opens_nothing_but_fetching_and_nothing_for_a_tenant_without_keys(
    objects: ObjectStore,
) -> None:
    door = await open_door(objects)
    front = Front(Shelf(2**20), inner, door, NoQuota())
    path, query = split(door.sign(PATH, "acme"))
    let_in: list[object] = []

    async def remember(scope: dict[str, object], receive: object, send: object) -> None:
        let_in.append(scope["halfdrop.access"])
        await inner(scope, receive, send)

    for method in ("POST", "PUT", "DELETE"):
        await ask(Front(Shelf(2**20), remember, door, NoQuota()), path, query=query, method=method)
    assert let_in == [None, None, None], "the guards inside refuse whom nobody let in"
    for wrong in (query.replace(b"acme", b"other"), query + b"x", b"signature=", b"px=1&signature=x"):
        start, body = await ask(front, path, query=wrong)
        problem = msgspec.json.decode(body["body"])
        assert (start["status"], problem["type"]) == (403, "urn:halfdrop:bad-signature")
        assert "acme" not in str(problem)
    door.replace([], time.time())
    start, _ = await ask(front, path, query=query)
    assert start["status"] == 403
