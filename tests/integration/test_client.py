"""The client against a whole system: real servers, a real edge, a real hub worker."""

import asyncio
import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.client import HalfdropClient

if TYPE_CHECKING:
    from tests.integration.conftest import LiveEdge

PROMPT = "red polka dots on white"


async def test_a_preview_is_a_picture_with_its_key_and_comes_from_the_cache_next_time(start_up: Any) -> None:
    system = await start_up("--hubs", "0")
    with HalfdropClient(system.url) as client:
        first = client.preview(f"{PROMPT}, half-drop", size_px=128, seed=3, palette=("#FFFFFF", "#c8202f"))
        again = client.preview(PROMPT, size_px=128, seed=3, palette=("#ffffff", "#c8202f"),
                               repeat=Repeat(layout="half-drop", units=first.spec.repeat.units))  # fmt: skip
        with Image.open(BytesIO(first.data)) as picture:
            assert (picture.format, picture.size) == ("WEBP", (128, 128))
        assert first.palette[:2] == ("#ffffff", "#c8202f")
        assert len(first.palette) == 5
        assert first.url == f"{system.url}/p/{first.key}.webp?px=128"
        assert (again.key, again.data) == (first.key, first.data)
        assert "fwd=miss" in first.cache_status
        assert "; hit" in again.cache_status
        assert (first.reuse, again.reuse) == ("none", "exact")
        variant = client.preview(f"{PROMPT}, half-drop", size_px=128, palette=("#ffffff", "#c8202f"), reuse="variant")
        assert (variant.reuse, variant.key, variant.spec.seed) == ("variant", first.key, 3)
        with pytest.raises(InvalidInput, match=r"palette\[0\]: got 'red'; allowed: a colour"):
            client.preview(PROMPT, palette=("red",))
        with pytest.raises(InvalidInput, match="size_px"):
            client.preview(PROMPT, size_px=100)


async def test_an_order_can_be_watched_listed_and_downloaded(start_up: Any, tmp_path: Path) -> None:
    system = await start_up()
    with HalfdropClient(system.url) as client:
        ordered = client.order(PROMPT, size_px=1024, seed=4)
        seen = await asyncio.to_thread(lambda: list(client.watch(ordered.id, timeout_s=60)))
        finished = seen[-1]
        assert finished.status == "succeeded", finished.error
        steps = [s.progress.step for s in seen]
        assert steps == sorted(steps)
        assert finished.progress.step == finished.progress.steps > 0
        assert {"master.png", "pattern.svg", "proof.png"} <= finished.files.keys()

        counts: list[tuple[int, int | None]] = []
        master = client.download(finished, "master.png", tmp_path / "m.png", on_progress=lambda *n: counts.append(n))
        with Image.open(master) as picture:
            assert picture.size == (1024, 1024)
        assert counts[-1] == (master.stat().st_size, master.stat().st_size)
        assert names_in(tmp_path) == ["m.png"]

        twin = client.wait(client.order(PROMPT, size_px=1024, seed=4).id, timeout_s=60)
        copy = client.download(twin, "master.png", tmp_path / "m2.png")
        assert digest(copy) == digest(master), "the same order brought another master"

        page = client.list()
        assert [p.id for p in page.results] == [twin.id, finished.id]
        assert client.get(finished.id).files == finished.files
        assert client.cancel(finished.id).status == "succeeded", "a finished order was cancelled"
        with pytest.raises(NotFound):
            client.get("0" * 26)


async def test_an_order_that_waits_for_a_hub_can_be_cancelled(start_up: Any) -> None:
    system = await start_up("--hubs", "0")
    with HalfdropClient(system.url) as client:
        ordered = client.order(PROMPT, size_px=1024)
        assert ordered.status == "starting"
        with pytest.raises(TimeoutError):
            client.wait(ordered.id, timeout_s=0.5)
        client.cancel(ordered.id)
        assert client.wait(ordered.id, timeout_s=20).status == "canceled"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


async def test_an_order_whose_answer_was_lost_is_said_again_and_placed_once(edge: "LiveEdge") -> None:
    lost: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to the edge; the first answer of all does not come through."""
        target = urlsplit(edge.url)
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)

        async def carry_requests() -> None:
            while data := await reader.read(65_536):
                far_writer.write(data)

        asking = asyncio.create_task(carry_requests())
        while data := await far_reader.read(65_536):
            if not lost:
                lost.append(data)
                break
            writer.write(data)
        asking.cancel()
        for each in (writer, far_writer):
            each.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with HalfdropClient(f"http://{host}:{port}") as client:
            ordered = await asyncio.to_thread(client.order, PROMPT, size_px=512)
            assert lost[0].startswith(b"HTTP/1.1 201 ")
            listed = await asyncio.to_thread(client.list)
            assert [each.id for each in listed.results] == [ordered.id]
