"""Batches where keys are asked for: another tenant's are not found on any route, scopes and quotas hold."""

import json
import time
from typing import TYPE_CHECKING

from halfdrop.edge.keys import Scope, Tier, create_key
from halfdrop.edge.limits import LINE_POLICIES
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.integration.conftest import StartEdge

VERBS = ("pause", "resume", "cancel")
LINE = json.dumps({"input": {"prompt": "red dots on white", "size_px": 64}}).encode() + b"\n"


async def make_headers(
    objects_url: str, tenant: str, *scopes: Scope, tier: Tier = "standard", kind: str = "application/jsonl"
) -> dict[str, str]:
    key, _ = await create_key(
        open_objects(objects_url), tenant=tenant, scopes=scopes, tier=tier, label="", now=time.time(), expires_at=None
    )
    return {"authorization": f"Bearer {key}", "content-type": kind}


async def test_anothers_batch_is_not_found_on_any_route(start_edge: "StartEdge", objects_url: str) -> None:
    mine = await make_headers(objects_url, "acme", "orders")
    theirs = await make_headers(objects_url, "other", "orders")
    cannot = await make_headers(objects_url, "acme", "previews")
    edge = await start_edge(ACCESS="keys")
    placed = await edge.client.post("/v1/batches", content=LINE, headers=mine)
    assert placed.status_code == 201, placed.text
    urls = placed.json()["urls"]
    for name in ("get", "results", "errors", "stream", "predictions"):
        assert (await edge.client.get(urls[name], headers=theirs)).status_code == 404, name
        assert (await edge.client.get(urls[name], headers=cannot)).status_code == 403, name
        assert (await edge.client.get(urls[name])).status_code == 401, name
    for verb in VERBS:
        assert (await edge.client.post(urls[verb], headers=theirs)).status_code == 404, verb
        assert (await edge.client.post(urls[verb], headers=cannot)).status_code == 403, verb
    assert (await edge.client.get("/v1/batches", headers=theirs)).json()["results"] == []
    assert len((await edge.client.get("/v1/batches", headers=mine)).json()["results"]) == 1
    assert (await edge.client.get(urls["get"], headers=mine)).json()["status"] == "running"
    stored = await open_objects(objects_url).list("batches")
    assert {path.split("/")[1] for path in stored} == {"acme"}


async def test_lines_count_against_the_tenants_quota_and_a_refused_batch_uses_none_of_it(
    start_edge: "StartEdge", objects_url: str
) -> None:
    quota = LINE_POLICIES["standard"][0].quota
    headers = await make_headers(objects_url, "acme", "orders")
    free = await make_headers(objects_url, "rich", "orders", tier="unlimited")
    edge = await start_edge(ACCESS="keys", BATCHES_OPEN_MAX=2, BATCH_LINES_MAX=2 * quota)
    too_much = await edge.client.post("/v1/batches", content=LINE * (quota + 1), headers=headers, timeout=100)
    assert too_much.status_code == 429
    assert too_much.json()["violated-policies"] == ["batch-lines"]
    assert int(too_much.headers["retry-after"]) > 0
    for asked in (headers, free):
        first, second, third = [
            await edge.client.post("/v1/batches", content=LINE * 3, headers=asked) for _ in range(3)
        ]  # fmt: skip
        assert (first.status_code, second.status_code) == (201, 201)
        assert third.status_code == 429
        assert third.json()["violated-policies"] == ["batches-open"]
