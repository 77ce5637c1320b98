"""What is logged of a run: an access line for what matters, and nowhere a prompt's words or a key.

At level debug, so that whatever can be written is.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halfdrop.deploy.parts import Part
from halfdrop.deploy.processes import make_hub
from halfdrop.deploy.servers import NatsServer

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import StartEdge

WORD = "zanzibarlilac"
"""In no log: it stands in prompts, in bodies that are wrong in every way, in paths, queries and headers."""

KNOWN_WORDS = ("crimson", "paisley", "mustard")
"""Neither are these, which the model draws and so go further."""


@pytest.fixture
def secret(objects_url: str) -> str:
    """A key of the tenant "acme"."""
    program = [Path(sys.executable).with_name("halfdrop"), "keys", "create", "--tenant", "acme"]
    environ = {**os.environ, "HALFDROP_EDGE_OBJECTS_URL": objects_url}
    return subprocess.run(program, env=environ, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
async def hub(
    hub_nats: NatsServer, objects_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Part]:
    """A hub worker; it and what starts after it log everything."""
    monkeypatch.setenv("HALFDROP_LOG_LEVEL", "debug")
    monkeypatch.setenv("HALFDROP_HUB_WARM", "false")
    hub = make_hub(name="hub-1", nats_url=hub_nats.url, objects_url=objects_url, log_path=tmp_path / "hub-1.log")
    await hub.start()
    yield hub
    await hub.stop()


def read_logs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*.log")}


async def test_no_log_of_a_run_holds_a_prompt_or_a_key(
    start_edge: "StartEdge", hub: Part, secret: str, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    edge = await start_edge(ACCESS="keys")
    client, key = edge.client, {"Authorization": f"Bearer {secret}"}
    prompt = f"crimson paisley on mustard, {WORD}"
    assert (await client.post("/v1/previews", json={"prompt": prompt}, headers=key)).status_code == 200
    placed = await client.post("/v1/predictions", json={"input": {"prompt": prompt, "size_px": 64}}, headers=key)
    assert placed.status_code == 201

    wrong: list[Any] = [
        {"prompt": WORD * 200}, {"prompt": prompt, WORD: 1}, {"prompt": prompt, "palette": [WORD]},
        {"prompt": prompt, "negative_prompt": [WORD]}, {"prompt": prompt, "model": WORD}, WORD,
    ]  # fmt: skip
    for body in wrong:
        assert (await client.post("/v1/previews", json=body, headers=key)).status_code == 422, body
    json_type = {**key, "Content-Type": "application/json"}
    assert (await client.post("/v1/previews", content=f'{{"prompt": "{WORD}', headers=json_type)).status_code == 400
    assert (await client.post("/v1/previews", content=WORD, headers=key)).status_code == 415
    for path in (f"/p/{WORD}.webp", f"/{WORD}?prompt={WORD}", f"/v1/predictions/{WORD}"):
        assert (await client.get(path, headers=key)).status_code == 404
    for header in (f"Bearer {secret}x", f"Bearer hd_{WORD}", f"Basic {WORD}"):
        assert (await client.get("/v1/predictions", headers={"Authorization": header})).status_code == 401
    cookie = {"Cookie": f"halfdrop_key={secret}{WORD}"}
    assert (await client.get("/v1/predictions", headers=cookie)).status_code == 401
    retried = {**key, "Idempotency-Key": WORD}
    for size_px in (64, 128):
        body = {"input": {"prompt": prompt, "size_px": size_px}}
        await client.post("/v1/predictions", json=body, headers=retried)

    await wait_until(lambda: "job_complete" in (tmp_path / "hub-1.log").read_text(), timeout_s=60)
    await hub.stop()
    await edge.stop()
    logs = read_logs(tmp_path)
    assert {"edge.log", "hub-1.log"} <= logs.keys()
    for name, text in logs.items():
        for word in (WORD, *KNOWN_WORDS):
            assert word not in text.lower(), (name, word)
        for part in secret.split("_")[1:]:
            assert part not in text, name

    lines = [json.loads(line) for line in logs["edge.log"].splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    (ordered,) = [line for line in requests if line["status"] == 201 and line["level"] == "info"][:1]
    assert (ordered["route"], ordered["method"], ordered["tenant"]) == ("/v1/predictions", "POST", "acme")
    assert ordered["elapsed_ms"] > 0
    assert {line["level"] for line in requests if line["status"] == 200} == {"debug"}
    unknown = [line for line in requests if line["status"] == 401]
    assert len(unknown) == 4
    assert all(line["problem"] == "unauthorized" and "tenant" not in line for line in unknown)
