"""Rate limits at a live edge: counted for the region in Valkey, and by the edge alone while that is away."""

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from halfdrop.deploy.servers import ValkeyServer
from halfdrop.edge.keys import create_key
from halfdrop.edge.limits import POLICIES
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.integration.conftest import LiveEdge, StartEdge

QUOTA = POLICIES["standard"]["orders"].quota
ANSWER_S = 2.0
"""Far above a Valkey's time limit of 0.25 s, far below a connection's."""


async def bearer(objects_url: str, tenant: str) -> dict[str, str]:
    key, _ = await create_key(
        open_objects(objects_url), tenant=tenant, scopes=("orders",), tier="standard", label="",
        now=time.time(), expires_at=None,
    )  # fmt: skip
    return {"Authorization": f"Bearer {key}"}


async def ask(edge: "LiveEdge", headers: dict[str, str], path: str = "/v1/predictions") -> httpx.Response:
    # An order that is refused for its body counts like any other.
    return await edge.client.post(path, json={}, headers=headers)


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/predictions/", "/v1/models/halfdrop/house/predictions"])
async def test_every_way_to_order_counts_and_says_so(start_edge: "StartEdge", objects_url: str, path: str) -> None:
    mine = await bearer(objects_url, "acme")
    edge = await start_edge(ACCESS="keys")
    answer = await ask(edge, mine, path)
    assert answer.status_code == 422
    assert answer.headers["ratelimit-policy"] == f'"requests";q=1200;w=60, "orders";q={QUOTA};w=3600'
    assert f'"orders";r={QUOTA - 1};t=' in answer.headers["ratelimit"]
    assert "orders" not in (await edge.client.get("/v1/predictions", headers=mine)).headers["ratelimit"]


async def test_a_tenant_that_used_its_quota_waits_whichever_edge_it_asks(
    start_edge: "StartEdge", objects_url: str
) -> None:
    mine, theirs = await bearer(objects_url, "acme"), await bearer(objects_url, "other")
    edge = await start_edge(ACCESS="keys")
    assert {(await ask(edge, mine)).status_code for _ in range(QUOTA)} == {422}
    await edge.restart()  # what it counted itself is gone: the region's Valkey remembers
    refused = await ask(edge, mine)
    problem = refused.json()
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["violated-policies"] == ["orders"]
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert '"orders";r=0;t=' in refused.headers["ratelimit"]
    assert (await edge.client.get("/v1/predictions", headers=mine)).status_code == 200
    assert (await ask(edge, theirs)).status_code == 422


async def test_without_valkey_an_edge_counts_on_by_itself(
    start_edge: "StartEdge", objects_url: str, valkey: ValkeyServer
) -> None:
    mine = await bearer(objects_url, "acme")
    edge = await start_edge(ACCESS="keys")
    for _ in range(3):
        await ask(edge, mine)
    await valkey.kill()
    began_s = time.monotonic()
    answer = await ask(edge, mine)
    assert time.monotonic() - began_s < ANSWER_S
    assert f'"orders";r={QUOTA - 4};t=' in answer.headers["ratelimit"]
    assert {(await ask(edge, mine)).status_code for _ in range(QUOTA - 4)} == {422}
    assert (await ask(edge, mine)).status_code == 429


async def test_an_open_edge_limits_nobody(edge: "LiveEdge") -> None:
    assert "ratelimit" not in (await edge.client.get("/v1/predictions")).headers
