"""`halfdrop up`, the whole of it: a prompt becomes a preview and a print file; stops, kills and starts again."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from halfdrop.deploy.ports import LOOPBACK, choose_port, is_free

if TYPE_CHECKING:
    from tests.conftest import StartUp, System, WaitUntil

HALFDROP = Path(sys.executable).with_name("halfdrop")
PROMPT = "white daisies on navy, half-drop"
SIZE_PX = 1024


async def order(client: httpx.AsyncClient, *, wait_s: int = 60) -> dict[str, object]:
    answer = await client.post(
        "/v1/predictions",
        json={"input": {"prompt": PROMPT, "size_px": SIZE_PX}},
        headers={"Prefer": f"wait={wait_s}"},
        timeout=wait_s + 10,
    )
    assert answer.status_code == 201, answer.text
    prediction: dict[str, object] = answer.json()
    return prediction


@pytest.mark.timeout(240)
async def test_a_prompt_becomes_a_preview_and_files_and_outlives_stops_and_kills(
    start_up: "StartUp", wait_until: "WaitUntil"
) -> None:
    system = await start_up()
    async with httpx.AsyncClient(base_url=system.url) as client:
        preview = await client.post("/v1/previews", json={"prompt": PROMPT})
        assert preview.status_code == 200, preview.text
        assert Image.open(io.BytesIO(preview.content)).size[0] >= 256
        location = preview.headers["content-location"]
        prediction = await order(client)
        assert prediction["status"] == "succeeded", prediction
        output = prediction["output"]
        assert isinstance(output, dict)
        master = await client.get(output["master"])
        assert Image.open(io.BytesIO(master.content)).size == (SIZE_PX, SIZE_PX)
        assert (await client.get(output["svg"])).text.rstrip().endswith("</svg>")
        for separation in output["separations"]:
            assert (await client.get(separation)).status_code == 200

    assert await system.stop(signal.SIGTERM) == 0, system.output
    assert system.survivors() == []
    stopped = [line.split()[0] for line in system.output.splitlines() if " stopped " in line]
    assert set(stopped) == {"edge", "forecaster", "hub-1", "nats-hub", "nats-edge-local", "valkey"}
    assert stopped[-1] == "nats-hub"

    again = await start_up()
    await _still_knows(again, prediction, location, preview.content)
    again.process.kill()
    await again.process.wait()
    await wait_until(lambda: again.survivors() == [], timeout_s=5)

    third = await start_up()
    await _still_knows(third, prediction, location, preview.content)
    assert await third.stop(signal.SIGINT) == 0, third.output


async def _still_knows(system: "System", prediction: dict[str, object], location: str, picture: bytes) -> None:
    async with httpx.AsyncClient(base_url=system.url) as client:
        known = (await client.get(f"/v1/predictions/{prediction['id']}")).json()
        assert (known["status"], known["completed_at"]) == ("succeeded", prediction["completed_at"])
        assert (await client.get(location)).content == picture


@pytest.mark.timeout(240)
async def test_two_regions_on_one_machine_and_one_of_them_drained(start_up: "StartUp", wait_until: "WaitUntil") -> None:
    system = await start_up("--regions", "eu,us")
    data_dir = str(system.folder.root)
    async with httpx.AsyncClient(base_url=system.url) as client:

        async def hears_both() -> bool:
            return len((await client.get("/v1/pools")).json()["regions"]) == 2

        await wait_until(hears_both)  # an order goes where somebody is heard, home or not
        assert (await order(client))["status"] == "succeeded"
        told = await _halfdrop("regions", "drain", "eu", "--data-dir", data_dir)
        assert told.startswith("eu takes no new orders")
        listed = json.loads(await _halfdrop("regions", "list", "--json", "--data-dir", data_dir))
        assert {region["name"]: (region["is_up"], region["is_draining"]) for region in listed} == {
            "eu": (True, True),
            "us": (True, False),
        }
        assert (await order(client))["status"] == "succeeded"
    assert await system.stop() == 0, system.output
    logs = {region: (system.folder.logs / f"hub-{region}-1.log").read_text() for region in ("eu", "us")}
    assert {region: text.count('"event": "job_complete"') for region, text in logs.items()} == {"eu": 1, "us": 1}


async def test_an_unknown_region_is_one_line_that_names_those_there_are(tmp_path: Path) -> None:
    text = await _halfdrop("regions", "drain", "mars", "--data-dir", str(tmp_path), status=2)
    assert text.count("\n") == 1
    assert "'mars'" in text
    assert "--nats-url" in text


async def _halfdrop(*arguments: str, status: int = 0) -> str:
    run = await asyncio.create_subprocess_exec(
        HALFDROP, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    text = (await run.communicate())[0].decode()
    assert run.returncode == status, text
    return text


async def test_sigint_stops_what_a_shell_started_in_the_background(start_up: "StartUp") -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `halfdrop up &`
    try:
        system = await start_up("--hubs", "0")
    finally:
        signal.signal(signal.SIGINT, before)
    assert await system.stop(signal.SIGINT) == 0, system.output


@pytest.mark.timeout(120)
async def test_a_second_start_on_the_same_data_says_who_holds_it(start_up: "StartUp", tmp_path: Path) -> None:
    system = await start_up("--hubs", "0")
    code, text = await _fail_to_start("--data-dir", str(tmp_path / "data"))
    assert code == 1
    assert text.count("\n") == 1
    assert f"in use by another `halfdrop up` (process {system.process.pid}, {system.url})" in text


async def test_a_taken_port_is_one_line_and_starts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = await _fail_to_start("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert code == 1
    assert text == f"halfdrop up: port {port} is taken by another program; choose another with --port\n"
    assert not (tmp_path / "data" / "nats-hub").exists()


async def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = await _fail_to_start("--data-dir", str(tmp_path / "file" / "data"))
    assert code == 1
    assert text.count("\n") == 1
    assert "cannot be written (Not a directory); choose another with --data-dir" in text


async def test_an_edge_that_cannot_start_stops_the_rest_and_says_its_last_words(tmp_path: Path) -> None:
    code, text = await _fail_to_start(
        "--data-dir", str(tmp_path / "data"), HALFDROP_EDGE_BUNDLE_DIR=str(tmp_path / "no-bundle")
    )
    assert code == 1
    assert "edge ended with status 1 at its start" in text
    assert "no-bundle" in text
    assert "nats-hub         stopped" in text


async def _fail_to_start(*options: str, **environ: str) -> tuple[int, str]:
    run = await asyncio.to_thread(
        subprocess.run,
        [HALFDROP, "up", *(() if "--port" in options else ("--port", "0")), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **environ},
    )
    return run.returncode, run.stdout


@pytest.mark.timeout(240)
async def test_each_process_shows_its_metrics_on_a_port_of_its_own(start_up: "StartUp") -> None:
    port = choose_port()
    while not all(is_free(port + number) for number in range(3)):
        port = choose_port()
    # What stands in the environment would give both hubs one port.
    system = await start_up("--hubs", "2", "--metrics-port", str(port), HALFDROP_HUB_METRICS_PORT="9")
    async with httpx.AsyncClient() as prometheus:
        texts = [(await prometheus.get(f"http://{LOOPBACK}:{port + number}/metrics")).text for number in range(3)]
    assert ["halfdrop_edge_build_info{" in text for text in texts] == [True, False, False]
    assert ["halfdrop_hub_build_info{" in text for text in texts] == [False, True, True]
    assert await system.stop() == 0, system.output
