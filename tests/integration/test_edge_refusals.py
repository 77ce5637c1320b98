"""What an edge refuses: bad input with a problem document and nothing enqueued, bad settings with one line."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from nats.js import JetStreamContext

from halfdrop.contracts.subjects import OUTBOX_STREAM, edge_domain
from halfdrop.deploy.servers import NatsServer, ValkeyServer
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.runtime.broker import open_broker

if TYPE_CHECKING:
    from tests.integration.conftest import LiveEdge, StartEdge

P, Q = "/v1/previews", "/v1/predictions"
JSON = "application/json"
MEGABYTE = "a" * 2**20
LONG = "a" * 1_001

BAD_BODIES: list[tuple[str, str, int, str | None]] = [
    (P, "{}", 422, "prompt"),
    (P, '{"prompt": ""}', 422, "prompt"),
    (P, '{"prompt": " .,;"}', 422, "prompt"),
    (P, '{"prompt": "half-drop"}', 422, "prompt"),
    (P, f'{{"prompt": "{LONG}"}}', 422, "prompt"),
    (P, f'{{"prompt": "{MEGABYTE}"}}', 413, None),
    (P, '{"prompt": "a\\u0000b"}', 422, "prompt"),
    (P, '{"prompt": "dots", "colour": "red"}', 422, "colour"),
    (P, '{"prompt": "dots", "size_px": 300}', 422, "size_px"),
    (P, '{"prompt": "dots", "size_px": -256}', 422, "size_px"),
    (P, '{"prompt": "dots", "seed": -1}', 422, "seed"),
    (P, '{"prompt": "dots", "seed": 4294967296}', 422, "seed"),
    (P, '{"prompt": "dots", "palette": ["red"]}', 422, "palette[0]"),
    (P, '{"prompt": "dots", "palette": ["#112233", "#11223g"]}', 422, "palette[1]"),
    (P, '{"prompt": "dots", "palette": ["#1", "#2", "#3", "#4", "#5", "#6"]}', 422, "palette"),
    (P, '{"prompt": "dots", "repeat": {"layout": "spiral"}}', 422, "repeat.layout"),
    (P, '{"prompt": "dots", "repeat": {"layout": "drop", "drop": "1/0"}}', 422, "repeat.drop"),
    (P, '{"prompt": "dots", "repeat": {"units": 0}}', 422, "repeat.units"),
    (P, '{"prompt": "dots", "repeat": {"units": 17}}', 422, "repeat.units"),
    (P, '{"prompt": "dots", "num_inference_steps": 9}', 422, "num_inference_steps"),
    (P, '{"prompt": "dots", "guidance_scale": 1e9}', 422, "guidance_scale"),
    (P, '{"prompt": "dots", "model": "other"}', 422, "model"),
    (P, '{"prompt": "dots"', 400, None),
    (P, "", 400, None),
    (P, "null", 422, "body"),
    (Q, "{}", 422, "input"),
    (Q, '{"input": {}}', 422, "input.prompt"),
    (Q, '{"input": {"prompt": "dots", "size_px": 63}}', 422, "input.size_px"),
    (Q, '{"input": {"prompt": "dots", "size_px": 8193}}', 422, "input.size_px"),
    (Q, '{"input": {"prompt": "dots", "palette": ["x"]}}', 422, "input.palette[0]"),
    (Q, '{"input": {"prompt": "dots"}, "version": "other"}', 422, "version"),
    (Q, '{"input": {"prompt": "dots"}, "webhook": 3}', 422, "webhook"),
    (Q, '{"input": {"prompt": "dots", "repeat": {"units": 99}}}', 422, "input.repeat.units"),
]  # fmt: skip


async def test_bad_bodies_name_the_member_and_enqueue_nothing(edge: "LiveEdge", edge_nats: NatsServer) -> None:
    wrong = []
    for path, body, status, field in BAD_BODIES:
        response = await edge.client.post(path, content=body, headers={"Content-Type": JSON})
        problem = read_problem(response)
        if (response.status_code, problem.get("field")) != (status, field):
            wrong.append((path, body[:60], response.status_code, problem))
        if field is not None and not (problem["allowed"] and "got" in problem):
            wrong.append((path, body[:60], "says too little", problem))
        if len(response.content) > 1_000:
            wrong.append((path, body[:60], "echoes too much", len(response.content)))
    assert not wrong
    async with open_broker(edge_nats.url, name="test", domain=edge_domain("test")) as broker:
        assert await count_messages(broker.js) == 0
    assert (await edge.client.get("/v1/predictions")).json()["results"] == []
    assert (await edge.client.get("/healthz")).json()["previews_drawn"] == 0


async def test_wrong_types_methods_and_addresses_are_problems_too(edge: "LiveEdge") -> None:
    client = edge.client
    body = b'{"prompt": "red dots"}'
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        refused = await client.post(P, content=body, headers={"Content-Type": content_type} if content_type else {})
        assert (refused.status_code, read_problem(refused)["type"]) == (415, "urn:halfdrop:unsupported-media-type")
    refused = await client.put(P, content=body)
    assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")
    assert read_problem(refused)["title"] == "Method not allowed"
    for address in ("/nothing", "/p/x.webp", f"/p/{'0' * 32}.webp", f"/p/{'0' * 32}.png", f"/v1/predictions/{'0' * 26}",
                    "/v1/predictions/..%2f..%2fetc", f"/v1/predictions/{'0' * 26}/stream",
                    f"/v1/predictions/{'0' * 26}/files/master.png", "/studio/nothing.js"):  # fmt: skip
        missing = await client.get(address)
        assert missing.status_code == 404, address
        read_problem(missing)
    for address in (f"/p/{'0' * 32}.webp?px=300", f"/p/{'0' * 32}.webp?px=x", f"/p/{'0' * 32}.webp?q=1",
                    "/v1/predictions?cursor=x"):  # fmt: skip
        invalid = await client.get(address)
        assert invalid.status_code == 422, address
        assert read_problem(invalid)["field"] in ("px", "q", "cursor")
    assert (await client.post(f"/v1/predictions/{'0' * 26}/cancel")).status_code == 404
    foreign = await client.get("/healthz", headers={"Host": "evil.example"})
    assert foreign.status_code == 421
    odd = await client.post(P, content=body, headers={"Content-Type": JSON, "Accept": "text/csv"})
    assert odd.headers["content-type"] == "image/webp"


async def test_an_edge_whose_outbox_is_full_refuses_orders_and_keeps_those_it_has(
    edge: "LiveEdge", edge_nats: NatsServer, hub_nats: NatsServer
) -> None:
    await hub_nats.kill()
    body = {"input": {"prompt": "red dots", "size_px": 256}}
    kept = (await edge.client.post(Q, json=body)).json()
    async with open_broker(edge_nats.url, name="test", domain=edge_domain("test")) as broker:
        config = (await broker.js.stream_info(OUTBOX_STREAM)).config
        config.max_bytes = 64 * 1024
        await broker.js.update_stream(config)
    answers = [await edge.client.post(Q, json=body) for _ in range(4)]
    assert answers[-1].status_code == 503
    assert read_problem(answers[-1])["type"] == "urn:halfdrop:outbox-full"
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    listed = [found["id"] for found in (await edge.client.get(Q)).json()["results"]]
    assert listed == [*reversed(accepted), kept["id"]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"HOST": "0.0.0.0"}, "no valid one in its object store; make one with `halfdrop keys create --tenant NAME"),
        ({"ACCESS": "keys"}, "no valid one in its object store; make one with `halfdrop keys create --tenant NAME"),
        ({"HOST": "0.0.0.0", "ACCESS": "open"}, "HALFDROP_EDGE_ACCESS: got 'open with HALFDROP_EDGE_HOST 0.0.0.0'"),
        ({"ACCESS": "closed"}, "HALFDROP_EDGE_ACCESS: got 'closed'"),
        ({"PORT": "web"}, "HALFDROP_EDGE_PORT"),
        ({"PORTS": "1"}, "HALFDROP_EDGE_PORTS"),
        ({"NAME": "a.b"}, "HALFDROP_EDGE_NAME"),
        ({"OBJECTS_URL": "ftp://x"}, "object store: got 'ftp://x'; allowed: file:///directory"),
        ({"NATS_URL": "nats://127.0.0.1:1"}, "NATS at nats://127.0.0.1:1 does not answer"),
        ({"BUNDLE_DIR": "nowhere"}, "model bundle nowhere: manifest.json cannot be read"),
    ],
)
async def test_wrong_settings_end_the_process_with_one_clear_line(
    settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    known = {
        "PORT": "0",
        "NATS_URL": "nats://127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:1",
        "OBJECTS_URL": (tmp_path / "objects").as_uri(),
        "DATA_DIR": str(tmp_path / "data"),
        **settings,
    }
    status, lines = await run_edge_process(known, tmp_path)
    assert status == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("halfdrop edge: ")
    assert words in lines[0]


async def test_a_model_with_one_byte_changed_is_not_served_and_its_file_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "house"
    shutil.copytree(shipped_bundle_dir(), copy)
    weights = bytearray((copy / "onnx/denoiser.onnx").read_bytes())
    weights[-1] ^= 1
    (copy / "onnx/denoiser.onnx").write_bytes(weights)
    known = {"PORT": "0", "NATS_URL": "nats://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1",
             "OBJECTS_URL": (tmp_path / "objects").as_uri(), "DATA_DIR": str(tmp_path / "data"),
             "BUNDLE_DIR": str(copy)}  # fmt: skip
    status, [line] = await run_edge_process(known, tmp_path)
    assert status == 1
    assert line.startswith(
        f"halfdrop edge: model bundle {copy}: onnx/denoiser.onnx is damaged or was changed: got sha256"
    )


async def test_a_taken_port_is_said_before_anything_is_opened(
    start_edge: "StartEdge", edge_nats: NatsServer, valkey: ValkeyServer, objects_url: str, tmp_path: Path
) -> None:
    first = await start_edge()
    port = first.url.rpartition(":")[2]
    known = {"PORT": port, "NATS_URL": edge_nats.url, "REDIS_URL": valkey.url, "OBJECTS_URL": objects_url,
             "DATA_DIR": str(tmp_path / "second")}  # fmt: skip
    status, lines = await run_edge_process(known, tmp_path)
    assert status == 1
    assert lines == [
        f"halfdrop edge: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another HALFDROP_EDGE_PORT"
    ]
    assert not (tmp_path / "second").exists()


def read_problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("urn:halfdrop:")
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"].startswith("/")
    return problem


async def count_messages(js: JetStreamContext) -> int:
    return (await js.stream_info(OUTBOX_STREAM)).state.messages


async def run_edge_process(settings: dict[str, str], directory: Path) -> tuple[int | None, list[str]]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("HALFDROP_")}
    environ.update({f"HALFDROP_EDGE_{name}": text for name, text in settings.items()})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "halfdrop.edge", env=environ, cwd=directory, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, errors.decode().splitlines()
