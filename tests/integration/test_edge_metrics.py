"""The metrics of a live edge: what they count, who may read them, and that the documents name them all."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families as parse

from halfdrop.contracts.subjects import HUB_DOMAIN, job_event
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.metrics import FAMILIES
from halfdrop.runtime.broker import open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

PROMPT = {"prompt": "red dots on white"}


class Scrape:
    """One look at the metrics."""

    def __init__(self, text: str) -> None:
        self.names = {family.name for family in parse(text)}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's value; 0 if there is none."""
        return self._samples.get((name, frozenset(labels.items())), 0)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, its), value in self._samples.items() if found == name and wanted <= its)


async def scrape(edge: "LiveEdge") -> Scrape:
    answer = await edge.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.text)


async def test_answers_are_counted_by_route_and_cache_and_never_by_path(edge: "LiveEdge") -> None:
    drawn = await edge.client.post("/v1/previews", json=PROMPT)
    place = drawn.headers["content-location"]
    for _ in range(3):
        assert (await edge.client.get(place)).status_code == 200
    unchanged = await edge.client.get(place, headers={"If-None-Match": drawn.headers["etag"]})
    assert unchanged.status_code == 304
    await edge.client.head(place)
    await edge.client.post("/v1/previews", json=PROMPT)
    await edge.client.post("/v1/previews", json={"prompt": ""})
    await edge.client.get("/no/such/place")
    await edge.client.request("BREW", "/v1/previews")
    found = await scrape(edge)
    requests = "halfdrop_http_requests_total"
    assert found.value(requests, route="/v1/previews", method="POST", status="200", cache="miss") == 1
    assert found.value(requests, route="/v1/previews", method="POST", status="200", cache="hit") == 1
    assert found.value(requests, route="/v1/previews", method="POST", status="422", cache="none") == 1
    assert found.value(requests, route="/p/{name}", method="GET", status="200", cache="shelf") == 3
    assert found.value(requests, route="/p/{name}", method="GET", status="304", cache="shelf") == 1
    assert found.value(requests, route="/p/{name}", method="HEAD", status="200", cache="shelf") == 1
    assert found.value(requests, route="unmatched", method="GET", status="404", cache="none") == 1
    assert found.total(requests, method="_OTHER") == 1
    assert found.value("halfdrop_http_problems_total", route="/v1/previews", code="invalid-input") == 1
    assert found.value("halfdrop_previews_sent_total", reuse="none") == 1
    assert found.value("halfdrop_previews_sent_total", reuse="exact") == 6
    timed = {"route": "/v1/previews", "method": "POST"}
    assert found.value("halfdrop_http_request_duration_seconds_count", **timed) == 3
    assert found.value("halfdrop_http_request_duration_seconds_bucket", le="60", **timed) == 3
    assert found.value("halfdrop_previews_drawn_total") == 1
    assert found.value("halfdrop_preview_drawing_duration_seconds_count") == 1
    assert 0 < found.value("halfdrop_preview_drawing_duration_seconds_sum") < 60
    assert found.value("halfdrop_cache_fills_total") >= 1
    assert found.value("halfdrop_cache_hits_total", tier="memory") >= 1
    assert found.value("process_resident_memory_bytes") > 0


async def test_exactly_the_families_that_are_named_are_shown(edge: "LiveEdge") -> None:
    await edge.client.post("/v1/previews", json={"prompt": ""})
    named = {family.name.removesuffix("_total") for family in FAMILIES}
    shown = (await scrape(edge)).names
    assert {name for name in shown if name.startswith("halfdrop_")} == named
    reader = await edge.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reader.headers["content-type"].startswith("application/openmetrics-text")
    assert reader.text.endswith("# EOF\n")


async def test_orders_that_wait_here_are_counted_and_aged_until_a_hub_has_them(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    await wait_until(lambda: link_is(edge, "up"))
    await hub_nats.stop()
    placed = await edge.client.post("/v1/predictions", json={"input": {**PROMPT, "size_px": 64}})
    assert placed.status_code == 201
    await wait_until(lambda: link_is(edge, "down"))
    found = await scrape(edge)
    assert found.value("halfdrop_orders_accepted_total") == 1
    assert found.value("halfdrop_orders_open", state="queued") == 1
    assert found.value("halfdrop_orders_unforwarded") == 1
    assert 0 < found.value("halfdrop_orders_unforwarded_oldest_age_seconds") < 60
    assert found.value("halfdrop_hub_failures_total") >= 1
    await hub_nats.start()

    async def is_forwarded() -> bool:
        now = await scrape(edge)
        return now.value("halfdrop_orders_unforwarded") == 0 and now.value("halfdrop_orders_forwarded_total") == 1

    await wait_until(is_forwarded, timeout_s=30)
    found = await scrape(edge)
    assert found.value("halfdrop_region_orders_total", region="local") == 1
    assert found.value("halfdrop_region_up", region="local") == 1
    assert found.value("halfdrop_hub_events_followed_total") == 0
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:
        await hub.js.publish(job_event("test", placed.json()["id"]), b"what a hub tells")

    async def is_followed() -> bool:
        return (await scrape(edge)).value("halfdrop_hub_events_followed_total") == 1

    await wait_until(is_followed)


async def link_is(edge: "LiveEdge", state: str) -> bool:
    return (await scrape(edge)).value("halfdrop_hub_link", state=state) == 1


async def test_with_keys_metrics_are_for_admins_or_on_a_port_of_their_own(
    start_edge: "StartEdge", objects_url: str
) -> None:
    key, admin = make_key(objects_url, "previews"), make_key(objects_url, "admin")
    port = choose_port()
    edge = await start_edge(ACCESS="keys", METRICS_PORT=port)
    assert (await edge.client.get("/metrics")).status_code == 401
    assert (await edge.client.get("/metrics", headers=bearer(key))).status_code == 403
    assert (await edge.client.get("/metrics", headers=bearer(admin))).status_code == 200
    await edge.client.post("/v1/previews", json=PROMPT, headers=bearer(key))
    async with httpx.AsyncClient() as prometheus:
        answer = await prometheus.get(f"http://{LOOPBACK}:{port}/metrics")
    found = Scrape(answer.text)
    assert found.value("halfdrop_http_problems_total", route="/metrics", code="forbidden") == 1
    assert found.total("halfdrop_http_requests_total", route="/v1/previews", status="200") == 1
    assert "acme" not in answer.text


async def test_refusals_for_too_much_say_of_what(start_edge: "StartEdge") -> None:
    edge = await start_edge(PREVIEWS_MAX=1, PREVIEW_THREADS=1)
    asked = [edge.client.post("/v1/previews", json={**PROMPT, "seed": seed}) for seed in range(8)]
    statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    refused = statuses.count(429)
    assert refused
    found = await scrape(edge)
    assert found.value("halfdrop_http_problems_total", route="/v1/previews", code="overloaded") == refused
    assert found.value("halfdrop_previews_waiting") == 0


def make_key(objects_url: str, scope: str) -> str:
    program = [Path(sys.executable).with_name("halfdrop"), "keys", "create", "--tenant", "acme", "--scope", scope]
    environ = {**os.environ, "HALFDROP_EDGE_OBJECTS_URL": objects_url}
    return subprocess.run(program, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
