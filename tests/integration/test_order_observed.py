"""One order, watched from outside: its trace from the client's request to the last upload, its metrics, its log lines.

The collector is a real HTTP server that takes OTLP and keeps the spans.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from halfdrop.contracts.subjects import EVENTS_STREAM, HUB_DOMAIN, job_event
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.processes import make_hub
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

PROMPT = "white daisies with yellow centres on green, half-drop"
WORDS = re.compile("dais|yellow|centre|green", re.IGNORECASE)


class Collector:
    """Takes spans over OTLP/HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        """With the name of the service that made each."""
        keep = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    keep.extend(read_spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self.server.server_port}"

    def of(self, trace_id: str, name: str = "") -> list[Span]:
        """Return the spans of a trace that are called `name`, or all."""
        return [s for _, s in self.spans if s.trace_id.hex() == trace_id and name in ("", s.name)]

    def services(self, trace_id: str) -> set[str]:
        return {service for service, s in self.spans if s.trace_id.hex() == trace_id}


def read_spans(request: ExportTraceServiceRequest) -> Iterator[tuple[str, Span]]:
    for resource in request.resource_spans:
        named = {a.key: a.value.string_value for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield named["service.name"], span


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that processes started in this test send their spans to."""
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


class Hubs:
    """Hub workers that a test starts; they are stopped at its end."""

    def __init__(self, tmp_path: Path, nats_url: str, objects_url: str) -> None:
        self._folder = tmp_path
        self._urls = {"nats_url": nats_url, "objects_url": objects_url}
        self.started: list[Part] = []

    async def start(self, name: str, *, metrics_port: int = 0) -> Part:
        hub = make_hub(name=name, log_path=self._folder / f"{name}.log", metrics_port=metrics_port, **self._urls)
        self.started.append(hub)
        await hub.start()
        return hub


@pytest.fixture
async def hubs(
    tmp_path: Path, hub_nats: NatsServer, objects_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hubs]:
    monkeypatch.setenv("HALFDROP_HUB_REFINE", "false")
    monkeypatch.setenv("HALFDROP_HUB_WARM", "false")
    monkeypatch.setenv("HALFDROP_HUB_ACK_WAIT_S", "1")
    hubs = Hubs(tmp_path, hub_nats.url, objects_url)
    yield hubs
    for hub in hubs.started:
        await hub.stop()


async def place(edge: "LiveEdge", *, size_px: int = 256) -> tuple[str, str, httpx.Response]:
    """Order with a trace of our own; return its id, our span's and the answer."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    body = {"input": {"prompt": PROMPT, "size_px": size_px}}
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "ours=1"}
    answer = await edge.client.post("/v1/predictions", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return trace_id, span_id, answer


async def is_done(edge: "LiveEdge", order_id: str) -> bool:
    return bool((await edge.client.get(f"/v1/predictions/{order_id}")).json()["status"] == "succeeded")


def values(span: Span) -> dict[str, str]:
    return {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}


def ancestors(span: Span, spans: list[Span]) -> list[str]:
    """Return the names of the spans that `span` is inside of, the nearest first, and at last the id of one unknown."""
    by_id = {s.span_id: s for s in spans}
    names = []
    while span.parent_span_id in by_id:
        span = by_id[span.parent_span_id]
        names.append(span.name)
    return [*names, span.parent_span_id.hex()]


async def test_one_trace_leads_from_the_request_to_the_last_upload_and_back(
    collector: Collector, start_edge: "StartEdge", hubs: Hubs, wait_until: "WaitUntil"
) -> None:
    port = choose_port()
    edge, _ = await asyncio.gather(start_edge(), hubs.start("hub-1", metrics_port=port))
    trace_id, span_id, answer = await place(edge)
    assert re.fullmatch(f"00-{trace_id}-[0-9a-f]{{16}}-01", answer.headers["traceresponse"])
    order_id = answer.json()["id"]
    await wait_until(lambda: is_done(edge, order_id), timeout_s=60)
    await wait_until(lambda: collector.of(trace_id, "process JOBS"))
    await wait_until(lambda: collector.of(trace_id, "process EVENTS"))

    spans = collector.of(trace_id)
    assert collector.services(trace_id) == {"halfdrop-edge", "halfdrop-hub"}
    stages = {"wait JOBS", "master", "separations", "drawing", "proof", "upload", "draw", "publish OUTBOX"}
    assert stages <= {span.name for span in spans}
    uploads = {values(span)["file.name"]: span for span in collector.of(trace_id, "upload")}
    assert {"master.png", "pattern.svg", "proof.png"} <= uploads.keys()
    way = ["master", "process JOBS", "publish JOBS", "publish OUTBOX", "POST /v1/predictions", span_id]
    assert ancestors(uploads["master.png"], spans) == way
    finished = max(collector.of(trace_id, "process EVENTS"), key=lambda span: span.start_time_unix_nano)
    assert ancestors(finished, spans) == way[1:]
    (worked,) = collector.of(trace_id, "process JOBS")
    assert values(worked) == {
        "messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "JOBS", "messaging.message.id": order_id,
        "halfdrop.delivery.attempt": "1", "halfdrop.outcome": "complete",
    }  # fmt: skip
    (drawn,) = collector.of(trace_id, "draw")
    assert values(drawn)["gen_ai.output.type"] == "image"
    assert all(span.status.code != Status.STATUS_CODE_ERROR for span in spans)
    assert (await edge.client.get("/p/daisies.webp?prompt=daisies")).status_code == 422
    await wait_until(lambda: any(span.name == "GET /p/{name}" for _, span in collector.spans))
    assert not WORDS.search(str(collector.spans)), "a prompt's words are in a span"

    await check_hub_metrics(port)


async def check_hub_metrics(port: int) -> None:
    async with httpx.AsyncClient() as prometheus:
        text = (await prometheus.get(f"http://{LOOPBACK}:{port}/metrics")).text
    assert 'halfdrop_hub_jobs_total{outcome="complete"} 1.0' in text
    assert 'halfdrop_hub_jobs_total{outcome="bury"} 0.0' in text
    assert 'halfdrop_hub_deliveries_total{attempt="first"} 1.0' in text
    assert "halfdrop_hub_queue_wait_seconds_count 1.0" in text
    assert "halfdrop_hub_jobs_in_hand 0.0" in text
    assert 'halfdrop_hub_stage_duration_seconds_count{stage="master"} 1.0' in text
    uploads = re.search(r'halfdrop_hub_stage_duration_seconds_count\{stage="upload"\} (\d+)', text)
    assert uploads
    assert int(uploads[1]) >= 4


async def test_a_job_whose_worker_died_goes_on_in_the_same_trace(
    collector: Collector, start_edge: "StartEdge", hubs: Hubs, hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    edge, first = await asyncio.gather(start_edge(), hubs.start("hub-1"))
    trace_id, _, answer = await place(edge, size_px=8192)
    order_id = answer.json()["id"]

    async def is_begun() -> bool:
        return bool((await edge.client.get(f"/v1/predictions/{order_id}")).json()["status"] == "processing")

    await wait_until(is_begun, timeout_s=30, poll_s=0.005)
    first.process.signal(signal.SIGKILL)
    await first.process.wait()
    await hubs.start("hub-2")
    await wait_until(lambda: is_done(edge, order_id), timeout_s=90)
    await wait_until(lambda: collector.of(trace_id, "process JOBS"))
    (again,) = collector.of(trace_id, "process JOBS")
    assert values(again)["halfdrop.delivery.attempt"] == "2"
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        last = await broker.js.get_last_msg(EVENTS_STREAM, job_event("test", order_id))
    assert (last.headers or {})["traceparent"] == f"00-{trace_id}-{again.span_id.hex()}-01"


async def test_without_a_collector_a_clients_trace_still_reaches_the_hubs_log(
    start_edge: "StartEdge", hubs: Hubs, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ
    edge, _ = await asyncio.gather(start_edge(), hubs.start("hub-1"))
    trace_id, _, answer = await place(edge, size_px=64)
    assert "traceresponse" not in answer.headers
    await wait_until(lambda: is_done(edge, answer.json()["id"]), timeout_s=60)
    await wait_until(lambda: "job_complete" in (tmp_path / "hub-1.log").read_text())
    edge_lines = [json.loads(line) for line in (tmp_path / "edge.log").read_text().splitlines()]
    hub_lines = [json.loads(line) for line in (tmp_path / "hub-1.log").read_text().splitlines()]
    assert {line["event"] for line in edge_lines if line.get("trace_id") == trace_id} == {"request", "order_forwarded"}
    assert [line["event"] for line in hub_lines if line.get("trace_id") == trace_id] == ["job_complete"]
