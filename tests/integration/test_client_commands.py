"""The real command, in a process of its own, against a whole system."""

import asyncio
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

HALFDROP = Path(sys.executable).with_name("halfdrop")
PROMPT = "navy and cream stripes"


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What a command left behind."""

    status: int
    stdout: bytes
    stderr: str


async def run(*arguments: str, url: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        HALFDROP, *arguments, "--url", url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(90):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Ended(status=process.returncode, stdout=stdout, stderr=stderr.decode())


async def test_from_a_prompt_to_files_on_the_disk(start_up: Any, tmp_path: Path) -> None:
    system = await start_up()
    url, out = system.url, tmp_path / "out"
    out.mkdir()

    drawn = await run(
        "preview", f"{PROMPT} with tartn, xylophone", "-o", str(out / "a.webp"), "--repeat", "1/3", url=url
    )
    assert drawn.status == 0, drawn.stderr
    assert "1/3 drop" in drawn.stderr
    assert "xylophone" in drawn.stderr, "a word that the model does not know was not named"
    assert "tartan for tartn" in drawn.stderr
    with Image.open(out / "a.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (256, 256))
    piped = await run("preview", PROMPT, "-o", "-", url=url)
    assert piped.stdout[8:12] == b"WEBP"

    rendered = await run("render", PROMPT, "--size", "1024", "-o", str(out / "a.png"), "--seed", "5", url=url)
    assert rendered.status == 0, rendered.stderr
    with Image.open(out / "a.png") as picture:
        assert picture.size == (1024, 1024)

    everything = await run(
        "render", PROMPT, "--size", "512", "--all", str(out / "all"), "-o", str(out / "both.png"), url=url
    )
    assert everything.status == 0, everything.stderr
    names = {path.name for path in (out / "all").iterdir()}
    assert {"master.png", "pattern.svg", "proof.png"} <= names
    assert (out / "both.png").read_bytes() == (out / "all" / "master.png").read_bytes()

    listed = await run("jobs", "list", "--json", url=url)
    orders = json.loads(listed.stdout)
    assert [order["status"] for order in orders] == ["succeeded", "succeeded"]
    shown = await run("jobs", "show", orders[1]["id"], url=url)
    assert b"1024 px" in shown.stdout
    fetched = await run("jobs", "fetch", orders[1]["id"], "pattern.svg", "--to", str(out / "one"), url=url)
    assert fetched.status == 0, fetched.stderr
    assert [path.name for path in (out / "one").iterdir()] == ["pattern.svg"]

    refused = await run("render", "x" * 1001, "-o", str(out / "no.png"), url=url)
    assert (refused.status, refused.stderr.count("\n")) == (2, 1)
    assert "up to 1000 characters" in refused.stderr
    unknown = await run("jobs", "show", "0" * 26, url=url)
    assert (unknown.status, unknown.stderr.count("\n")) == (1, 1)
    assert len(json.loads((await run("jobs", "list", "--json", url=url)).stdout)) == 2


async def test_an_order_without_waiting_prints_its_id_and_can_be_cancelled(start_up: Any) -> None:
    system = await start_up("--hubs", "0")
    ordered = await run("render", PROMPT, "--size", "1024", "--no-wait", url=system.url)
    order_id = ordered.stdout.decode().strip()
    assert len(order_id) == 26
    cancelled = await run("jobs", "cancel", order_id, url=system.url)
    assert cancelled.status == 0, cancelled.stderr
    fetched = await run("jobs", "fetch", order_id, url=system.url)
    assert fetched.status == 1
    assert "it is canceled" in fetched.stderr


async def test_the_doctor_finds_a_running_system_well(start_up: Any) -> None:
    system = await start_up("--hubs", "0")
    found = await run("doctor", "--data-dir", str(system.folder.root), url=system.url)
    assert found.status == 0, found.stdout
    assert f"{system.url} answers".encode() in found.stdout
    assert b"BAD" not in found.stdout


async def test_a_file_of_orders_becomes_a_zip(start_up: Any, tmp_path: Path) -> None:
    system = await start_up(HALFDROP_HUB_WARM="false")
    url = system.url
    lines = [
        {"custom_id": f"dots-{n}", "input": {"prompt": "red dots on white", "seed": n, "size_px": 64}} for n in (1, 2)
    ]
    file = tmp_path / "collection.jsonl"
    file.write_text(
        "\n".join([json.dumps(lines[0]), '{"input": {"prompt": "red dots", "seed": -1}}', json.dumps(lines[1])])
    )

    strict = await run("batch", "submit", str(file), "--strict", url=url)
    assert strict.status == 1
    assert "line 2: input.seed: got '-1'" in strict.stderr
    placed = await run("batch", "submit", str(file), "--wait", url=url)
    assert placed.status == 0, placed.stderr
    assert "line 2: input.seed" in placed.stderr
    assert "completed: 2 completed, 0 failed, 0 canceled" in placed.stderr
    batch_id = placed.stdout.decode().strip()

    listed = json.loads((await run("batch", "list", "--json", url=url)).stdout)
    assert [batch["id"] for batch in listed] == [batch_id]
    shown = await run("batch", "show", batch_id, url=url)
    assert b"3, of which 1 refused" in shown.stdout
    paused = await run("batch", "pause", batch_id, url=url)
    assert paused.stdout.split() == [batch_id.encode(), b"completed"]
    fetched = await run("batch", "results", batch_id, "-o", str(tmp_path / "out.zip"), url=url)
    assert fetched.status == 0, fetched.stderr
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {"dots-1/master.png", "dots-2/master.png", "results.jsonl"} <= set(archive.namelist())
    assert (await run("batch", "show", "0" * 22, url=url)).status == 1

    urgent = await run("render", PROMPT, "--size", "64", "--class", "realtime", "--no-wait", url=url)
    assert urgent.status == 0, urgent.stderr
    orders = json.loads((await run("jobs", "list", "--json", url=url)).stdout)
    assert len(orders) == 3
