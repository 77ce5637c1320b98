"""Two live edges of a region: what is asked for at one is in the other's memory before anybody asks for it there."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.servers import NatsServer, run_nats_server
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.edge.hot_set import ROUND_S
from halfdrop.runtime.objects import BlockingObjectStore, open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

HITS = 3
IN_MEMORY = "halfdrop; hit; detail=memory"


@pytest.fixture
async def second_nats(tmp_path: Path, hub_nats: NatsServer) -> AsyncIterator[NatsServer]:
    """Another edge's own NATS, a leaf of the same hub's."""
    name = edge_domain("second")
    async with run_nats_server(
        name=name, data_dir=tmp_path / "nats-second", domain=name, leaf_remote=hub_nats.leaf_url
    ) as server:
        await wait_until_linked(server.url, domain=HUB_DOMAIN)
        yield server


async def make_hot(edge: "LiveEdge", seed: int, headers: dict[str, str] | None = None) -> str:
    """Have an edge draw a picture and be asked for it; return its address."""
    body = {"prompt": "red dots on white", "seed": seed}
    drawn = await edge.client.post("/v1/previews", json=body, headers=headers)
    assert drawn.status_code == 200, drawn.text
    address = drawn.headers["content-location"]
    for _ in range(HITS):
        assert (await edge.client.get(address, headers=headers)).status_code == 200
    return str(address)


async def stats(edge: "LiveEdge") -> dict[str, Any]:
    found: dict[str, Any] = (await edge.client.get("/healthz")).json()["hot_set"]
    return found


async def ask(edge: "LiveEdge", address: str, **headers: str) -> httpx.Response:
    return await edge.client.get(address, headers=headers)


async def test_what_is_hot_at_one_edge_is_in_the_others_memory_before_it_is_asked_for_and_again_after_its_restart(
    edge: "LiveEdge", start_edge: "StartEdge", second_nats: NatsServer, wait_until: "WaitUntil", tmp_path: Path
) -> None:
    second = await start_edge(NAME="second", NATS_URL=second_nats.url, DATA_DIR=tmp_path / "second")
    hot = [await make_hot(edge, seed) for seed in range(3)]
    once = await edge.client.post("/v1/previews", json={"prompt": "navy stripes on cream"})

    async def has_fetched() -> bool:
        return bool((await stats(second))["prefetched"] >= len(hot))

    await wait_until(has_fetched)
    for address in hot:
        found = await ask(second, address)
        assert found.headers["cache-status"] == IN_MEMORY
        assert found.content == (await ask(edge, address)).content
    cold = await ask(second, once.headers["content-location"])
    assert cold.headers["cache-status"] == "halfdrop; hit; detail=redis", "nobody asked for it twice"
    after = await stats(second)
    assert (after["prefetched"], after["used"]) == (3, 3)
    assert (await second.client.get("/healthz")).json()["previews_drawn"] == 0
    await second.stop()
    rmtree(tmp_path / "second")
    await second.start()
    await wait_until(has_fetched)
    assert {(await ask(second, address)).headers["cache-status"] for address in hot} == {IN_MEMORY}


async def test_prefetching_keeps_to_its_bandwidth_and_can_be_switched_off(
    edge: "LiveEdge", start_edge: "StartEdge", second_nats: NatsServer, wait_until: "WaitUntil", tmp_path: Path
) -> None:
    kib_s = 2
    second = await start_edge(
        NAME="second", NATS_URL=second_nats.url, DATA_DIR=tmp_path / "second", PREFETCH_KIB_S=kib_s
    )
    hot = [await make_hot(edge, seed) for seed in range(8)]
    sizes = [len((await ask(edge, address)).content) for address in hot]

    async def has_begun() -> bool:
        return bool((await stats(second))["prefetched"])

    await wait_until(has_begun)
    began_s, first_bytes = time.monotonic(), (await stats(second))["prefetched_bytes"]

    async def has_ended() -> bool:
        return bool((await stats(second))["prefetched"] == len(sizes))

    await wait_until(has_ended, timeout_s=60, poll_s=0.1)
    took_s = time.monotonic() - began_s
    fetched_bytes = (await stats(second))["prefetched_bytes"]
    assert fetched_bytes == sum(sizes)
    # The last picture is counted when it is there, and paid for afterwards.
    assert fetched_bytes - first_bytes - max(sizes) <= kib_s * 1024 * took_s
    await second.stop()
    off = await start_edge(NAME="second", NATS_URL=second_nats.url, DATA_DIR=tmp_path / "off", PREFETCH_KIB_S=0)

    async def has_heard() -> bool:
        return bool((await stats(off))["hot"] == len(hot))

    await wait_until(has_heard)
    await asyncio.sleep(2 * ROUND_S)
    assert {(await ask(off, address)).headers["cache-status"] for address in hot} == {"halfdrop; hit; detail=redis"}
    assert (await stats(off))["prefetched"] == 0


async def test_a_tenants_hot_pictures_are_fetched_for_that_tenant_alone(
    start_edge: "StartEdge", second_nats: NatsServer, objects_url: str, wait_until: "WaitUntil", tmp_path: Path
) -> None:
    from halfdrop.edge.keys import create_key

    store, now, mine, theirs = open_objects(objects_url, kind=BlockingObjectStore), time.time(), {}, {}
    for tenant, headers in (("acme", mine), ("other", theirs)):
        key, _ = await create_key(
            store, tenant=tenant, scopes=("previews",), tier="unlimited", label="", now=now, expires_at=None
        )
        headers["Authorization"] = f"Bearer {key}"
    first = await start_edge(ACCESS="keys")
    second = await start_edge(NAME="second", NATS_URL=second_nats.url, DATA_DIR=tmp_path / "second", ACCESS="keys")
    address = await make_hot(first, 1, mine)

    async def has_fetched() -> bool:
        return bool((await stats(second))["prefetched"])

    await wait_until(has_fetched)
    unsigned = address.partition("&tenant=")[0]  # a signed one is good for whoever has it
    assert (await ask(second, unsigned, **mine)).status_code == 200
    assert (await ask(second, unsigned, **theirs)).status_code == 404
    assert (await ask(second, unsigned)).status_code == 401
    found = await ask(second, address, **mine)
    assert (found.status_code, found.headers["cache-status"]) == (200, IN_MEMORY)
    assert found.headers["cache-control"].startswith("private")
