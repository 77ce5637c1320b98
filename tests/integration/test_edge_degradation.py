"""Redis, the object store, the hub's NATS and the edge's own die in turn under load: every answer is right, or a clear
refusal, and each state is seen in /healthz and in the header, and goes again. docs/degradation.md names these tests."""

import asyncio
import contextlib
import io
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from halfdrop.contracts.subjects import OUTBOX_STREAM, edge_domain, plates_path
from halfdrop.deploy.ports import LOOPBACK
from halfdrop.deploy.servers import NatsServer, ValkeyServer
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

BUCKET = "patterns"
LOGIN = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
JSON = {"Accept": "application/json"}
PROBLEM = "application/problem+json"
HEADER = "halfdrop-degraded"

NOTICED_S = 20.0
"""A second or two on a machine that has nothing else to do."""

PROMPTS = ("red dots on white", "navy stripes on cream", "gold stars on navy, half-drop")


class Gate:
    """A way to a server that can be cut and joined again, while the server keeps what it has."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._pass, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(LOOPBACK, self._target)
            self._writers |= {writer, back}
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
def moto_port() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    httpx.put(f"http://{LOOPBACK}:{port}/{BUCKET}", headers=LOGIN).raise_for_status()
    yield port
    server.stop()


@pytest.fixture
async def gate(moto_port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    """The way to an S3 with one empty bucket, for edges that are started from here on."""
    gate = Gate(moto_port)
    await gate.join()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{gate.port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    yield gate
    await gate.cut()


class Load:
    """Clients that never stop asking, and check every answer."""

    def __init__(self, edge: "LiveEdge") -> None:
        self._client = edge.client
        self._numbers = itertools.count(1)
        self.pictures: dict[str, bytes] = {}
        """What each address showed first: it must never show anything else."""
        self.orders: list[str] = []
        self.statuses: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            clients = [tasks.create_task(self._ask(work)) for work in (self.draw, self.fetch, self.miss, self.order)]
            yield
            for client in clients:
                client.cancel()

    async def _ask(self, work: Callable[[], Awaitable[httpx.Response]]) -> None:
        while True:
            answer = await work()
            self.statuses[f"{work.__name__} {answer.status_code}"] += 1
            await asyncio.sleep(0.05)

    async def draw(self) -> httpx.Response:
        number = next(self._numbers)
        body = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number // 2}  # every second one is new
        return self._check(await self._client.post("/v1/previews", json=body), {200, 503})

    async def fetch(self) -> httpx.Response:
        number = next(self._numbers)
        address = list(self.pictures)[number % len(self.pictures)]
        return self._check(await self._client.get(address), {200, 503})

    async def miss(self) -> httpx.Response:
        return self._check(await self._client.get(f"/p/{next(self._numbers):032x}.webp"), {404, 503})

    async def order(self) -> httpx.Response:
        body = {"input": {"prompt": PROMPTS[0], "seed": next(self._numbers) % 5, "size_px": 64}}
        answer = self._check(await self._client.post("/v1/predictions", json=body), {201, 503})
        if answer.status_code == 201:
            self.orders.append(answer.json()["id"])
        return answer

    def _check(self, answer: httpx.Response, allowed: set[int]) -> httpx.Response:
        assert answer.status_code in allowed, (answer.request.url, answer.status_code, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == PROBLEM
            assert answer.json()["detail"]
            assert (answer.status_code == 404) or int(answer.headers["retry-after"]) >= 1
        elif answer.headers["content-type"] == "image/webp":
            address = answer.headers.get("content-location") or answer.request.url.raw_path.decode()
            assert Image.open(io.BytesIO(answer.content)).size == (256, 256)
            assert self.pictures.setdefault(address, answer.content) == answer.content
        return answer


async def states(edge: "LiveEdge") -> dict[str, str]:
    health = (await edge.client.get("/healthz")).json()
    assert (health["status"] == "ok") == all(part["state"] == "ok" for part in health["parts"].values())
    return {name: part["state"] for name, part in health["parts"].items()}


async def said_by(answer: httpx.Response) -> set[str]:
    return set(filter(None, answer.headers.get(HEADER, "").split(", ")))


@asynccontextmanager
async def outage(  # noqa: PLR0917
    edge: "LiveEdge",
    wait_until: "WaitUntil",
    part: str,
    ask: Callable[[], Awaitable[httpx.Response]],
    cut: Callable[[], Awaitable[None]],
    join: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """Run the block while `part` is away; the state comes and goes in /healthz and in the header of what `ask` gets."""

    async def is_shown(expected: str) -> bool:
        shown = (await states(edge))[part] == expected
        return shown and (part in await said_by(await ask())) == (expected != "ok")

    assert await is_shown("ok")
    await cut()
    await wait_until(lambda: is_shown("away"), timeout_s=NOTICED_S)
    yield
    await join()
    await wait_until(lambda: is_shown("ok"), timeout_s=NOTICED_S)


async def test_whatever_dies_under_load_every_answer_is_right_or_a_clear_refusal(  # noqa: PLR0917
    start_edge: "StartEdge",
    hub_nats: NatsServer,
    edge_nats: NatsServer,
    valkey: ValkeyServer,
    gate: Gate,
    wait_until: "WaitUntil",
) -> None:
    edge = await start_edge(OBJECTS_URL=f"s3://{BUCKET}/edge")
    load = Load(edge)
    await wait_until(lambda: all_ok(edge), timeout_s=NOTICED_S)
    for _ in range(4):
        await load.draw()
    async with load.running():
        async with outage(edge, wait_until, "redis", load.draw, valkey.kill, valkey.start):
            assert (await load.miss()).status_code == 404  # the store says so: Redis is not needed for that
        async with outage(edge, wait_until, "objects", load.draw, gate.cut, gate.join):
            assert (await load.miss()).status_code == 503  # nobody can tell
            drawn = await load.draw()
            assert (await edge.client.get(drawn.headers["content-location"])).content == drawn.content
        async with outage(edge, wait_until, "hub", load.order, hub_nats.kill, hub_nats.start):
            placed = (await load.order()).json()
            assert (placed["status"], placed["eta_seconds"]) == ("starting", None)
            assert "the hub is away since" in placed["logs"]
        async with outage(edge, wait_until, "nats", load.order, edge_nats.kill, edge_nats.start):
            refused = await load.order()
            assert refused.status_code == 503
            assert "NATS" in refused.json()["detail"]
            assert (await load.draw()).status_code == 200
    await wait_until(lambda: all_ok(edge), timeout_s=NOTICED_S)
    assert load.statuses["miss 503"] > 0
    assert load.statuses["miss 404"] > 0
    # What was drawn while the store was away is there now, and every order that was accepted is known.
    objects = open_objects(f"s3://{BUCKET}/edge")
    for address in load.pictures:
        key = address.removeprefix("/p/")[:32]
        await wait_until(lambda key=key: objects.get(plates_path(key)), timeout_s=NOTICED_S)
    for order_id in load.orders:
        known = (await edge.client.get(f"/v1/predictions/{order_id}")).json()
        assert known["id"] == order_id
        assert "the hub is away" not in known["logs"]


async def all_ok(edge: "LiveEdge") -> bool:
    return set((await states(edge)).values()) == {"ok"}


async def test_a_full_queue_answers_smaller_pictures_first_and_then_refuses(start_edge: "StartEdge") -> None:
    edge = await start_edge(PREVIEWS_MAX=6, PREVIEW_THREADS=1)

    async def draw(seed: int) -> httpx.Response:
        body = {"prompt": "red hearts on pink", "seed": seed, "size_px": 512, "num_inference_steps": 8}
        return await edge.client.post("/v1/previews", json=body, headers=JSON)

    answers = await asyncio.gather(*(draw(seed) for seed in range(24)))
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        reduced = "previews" in await said_by(answer)
        if answer.status_code == 429:
            assert (answer.headers["retry-after"], reduced) == ("1", True)
            continue
        found: dict[str, Any] = answer.json()
        assert found["size_px"] == (128 if reduced else 512)
        assert answer.headers.get("cache-control", "no-store") == "no-store"
        assert found["url"].endswith(f"?px={found['size_px']}")
        picture = await edge.client.get(found["url"])
        assert Image.open(io.BytesIO(picture.content)).size == (found["size_px"],) * 2
    small = [answer.json() for answer in answers if answer.status_code == 200 and answer.json()["size_px"] == 128]
    whole = [answer.json() for answer in answers if answer.status_code == 200 and answer.json()["size_px"] == 512]
    assert small
    assert whole
    # With nothing to do it is answered in full, and was never kept under the larger one's address.
    again = await edge.client.get(f"/p/{small[0]['key']}.webp?px=512")
    assert Image.open(io.BytesIO(again.content)).size == (512, 512)
    assert HEADER not in again.headers
    assert (await states(edge))["previews"] == "ok"


async def test_a_picture_asked_for_by_its_address_is_answered_smaller_and_kept_by_nobody(
    start_edge: "StartEdge",
) -> None:
    edge = await start_edge(PREVIEWS_MAX=4, PREVIEW_THREADS=1)
    known = await edge.client.post("/v1/previews", json={"prompt": "red dots on white"})
    key = known.headers["halfdrop-key"]
    body = {"prompt": "red hearts on pink", "num_inference_steps": 8}
    busy = [asyncio.create_task(edge.client.post("/v1/previews", json={**body, "seed": seed})) for seed in range(12)]
    await asyncio.sleep(0.05)
    answer = await edge.client.get(f"/p/{key}.webp?px=384", headers={"If-None-Match": "*"})
    await asyncio.gather(*busy)
    # Composing known plates has room where drawing has none any more.
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).size == (128, 128)
    assert answer.headers["cache-control"] == "no-store"
    assert "previews" in await said_by(answer)
    assert answer.headers["content-location"] == f"/p/{key}.webp?px=128"
    whole = await edge.client.get(f"/p/{key}.webp?px=384")
    assert Image.open(io.BytesIO(whole.content)).size == (384, 384)


async def test_a_disk_that_is_nearly_full_takes_nothing_in_and_everything_is_served(start_edge: "StartEdge") -> None:
    edge = await start_edge(DISK_FREE_MIN_MIB=2**30)
    assert (await states(edge))["disk"] == "full"
    drawn = await edge.client.post("/v1/previews", json={"prompt": "teal waves on white"})
    assert drawn.status_code == 200
    assert "disk" in await said_by(drawn)
    found = await edge.client.get(drawn.headers["content-location"])
    assert found.content == drawn.content
    # Made now, and not from the shelf: a year in somebody's cache is no place for the state of a disk.
    other = await edge.client.get(f"/p/{drawn.headers['halfdrop-key']}.webp?px=128")
    assert other.headers["cache-status"].startswith("halfdrop; fwd=miss")
    assert "max-age" in other.headers["cache-control"]
    assert HEADER not in other.headers


async def test_a_full_outbox_refuses_orders_clearly_loses_none_and_recovers(
    edge: "LiveEdge", hub_nats: NatsServer, edge_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    async def order(seed: int) -> httpx.Response:
        body = {"input": {"prompt": "red dots on white", "seed": seed, "size_px": 64}}
        return await edge.client.post("/v1/predictions", json=body)

    async def is_full() -> bool:
        return (await states(edge))["outbox"] == "full"

    async def has_room() -> bool:
        return not await is_full()

    await hub_nats.kill()
    async with open_broker(edge_nats.url, name="test", domain=edge_domain("test")) as broker:
        info = await broker.js.stream_info(OUTBOX_STREAM)
        info.config.max_bytes = 200_000
        await broker.js.update_stream(info.config)
        accepted, refused = [], None
        for seed in range(20):
            answer = await order(seed)
            if answer.status_code != 201:
                refused = answer
                break
            accepted.append(answer.json()["id"])
        assert accepted
        assert refused is not None
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:halfdrop:outbox-full")
        assert refused.headers["retry-after"] == "30"
        assert "outbox" in await said_by(refused)
        assert "not taken" in refused.json()["detail"]
        await wait_until(is_full, timeout_s=NOTICED_S)
        assert (await broker.js.stream_info(OUTBOX_STREAM)).state.messages == len(accepted)
        assert (await edge.client.post("/v1/previews", json={"prompt": "gold stars on navy"})).status_code == 200
        await hub_nats.start()
        await wait_until(has_room, timeout_s=2 * NOTICED_S)
        assert (await order(99)).status_code == 201
        listed = (await edge.client.get("/v1/predictions")).json()["results"]
        assert set(accepted) <= {each["id"] for each in listed}
