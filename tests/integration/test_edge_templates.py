"""Templates at a live edge and through a whole system: listed, previewed with, ordered by, refused at the door."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from halfdrop.contracts.jobs import Job, decode_job
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM
from halfdrop.deploy.servers import NatsServer
from halfdrop.models.template_shelf import SHIPPED_DIR, open_shelf
from halfdrop.runtime.broker import open_broker

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge

HALFDROP = Path(sys.executable).with_name("halfdrop")


async def test_templates_are_listed_previewed_with_and_refused_at_the_door(
    edge: "LiveEdge", hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    client = edge.client
    listed = (await client.get("/v1/templates")).json()["templates"]
    assert [one["reference"] for one in listed] == [template.reference for template in open_shelf().newest()]
    rotary = (await client.get("/v1/templates/rotary-screen")).json()
    assert rotary["versions"] == [1]
    assert {"size_px": 4535, "repeat_mm": 319.97} in rotary["sizes"]
    assert rotary["template"]["press"]["repeat_lengths_mm"] == [640, 320, 213.33, 160]
    missing = await client.get("/v1/templates/carpet")
    assert missing.status_code == 404
    assert "block-print@1" in missing.json()["detail"]

    asked = {"prompt": "red hearts on pink", "template": "block-print"}
    preview = await client.post("/v1/previews", json=asked, headers={"accept": "application/json"})
    assert preview.status_code == 200, preview.text
    spec = preview.json()["spec"]
    assert spec["palette"] == ["#f3ead7", "#27406b", "#f3ead7", "#27406b", "#f3ead7"]
    assert spec["repeat"]["layout"] == "half-drop"

    for wrong, field in (
        ({"template": "carpet"}, "input.template"),
        ({"size_px": 4096, "template": "rotary-screen"}, "input.size_px"),
        ({"formats": ["pdf"]}, "input.formats"),
        ({"repeat": {"layout": "mirror", "units": 2}}, "input.repeat.layout"),
    ):
        refused = await client.post("/v1/predictions", json={"input": asked | wrong})
        assert refused.status_code == 422, refused.text
        assert refused.json()["field"] == field
        assert refused.json()["allowed"]

    ordered = await client.post("/v1/predictions", json={"input": asked})
    assert ordered.status_code == 201, ordered.text
    assert ordered.json()["template"] == "block-print@1"
    assert ordered.json()["gates"] is None
    assert ordered.json()["pattern_key"] == preview.json()["key"], "what was previewed is what is ordered"
    jobs: list[Job] = []
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as hub:

        async def is_forwarded() -> bool:
            info = await hub.js.stream_info(JOBS_STREAM)
            if not info.state.messages:
                return False
            message = await hub.js.get_msg(JOBS_STREAM, seq=info.state.first_seq)
            assert message.data is not None
            jobs.append(decode_job(message.data))
            return True

        await wait_until(is_forwarded, timeout_s=20)
    job = jobs[0]
    assert not isinstance(job.finishing, type(None))
    assert job.finishing.template == "block-print@1"  # type: ignore[union-attr]
    assert job.finishing.outputs == ("plates", "svg", "svg-knockout", "ai", "proof")  # type: ignore[union-attr]
    assert (job.size_px, job.formats) == (1772, ("ai", "svg-knockout"))


async def run(*arguments: str, url: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        HALFDROP, *arguments, "--url", url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(90):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_a_template_of_ones_own_makes_files_or_says_which_gate_it_failed_at(
    start_up: Any, tmp_path: Path
) -> None:
    own = tmp_path / "templates"
    own.mkdir()
    text = (SHIPPED_DIR / "web-tile.toml").read_text()
    strict = text.replace('name = "web-tile"', 'name = "one-colour"') + "\n[gates.colours]\nmax = 1\n"
    (own / "one-colour.toml").write_text(strict)
    system = await start_up(HALFDROP_EDGE_TEMPLATES_DIR=str(own))

    _, listed, _ = await run("templates", "list", url=system.url)
    assert "one-colour@1" in listed
    _, shown, _ = await run("templates", "show", "one-colour", url=system.url)
    assert "gate      colours at most 1; if not: fail" in shown

    good, bad = tmp_path / "good", tmp_path / "bad"
    order = ("render", "navy dots on cream", "--size", "256", "--template")
    made, _, words = await run(*order, "web-tile", "--all", str(good), url=system.url)
    assert made == 0, words
    assert {path.name for path in good.iterdir()} == {
        "master.png", "master.webp", "pattern.svg", "manifest.json", "gates.json"
    }  # fmt: skip
    with Image.open(good / "master.png") as picture:
        assert picture.size == (256, 256)
        assert round(picture.info["dpi"][0]) == 96

    failed, _, words = await run(*order, "one-colour", "--all", str(bad), url=system.url)
    assert failed == 1
    assert "gate colours of template one-colour@1: 2 colours" in words
    assert {path.name for path in bad.iterdir()} == {"gates.json", "gate-colours.png"}
    assert json.loads((bad / "gates.json").read_text())["verdict"] == "fail"
