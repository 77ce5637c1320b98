"""A user's checkpoint from its import to a reproduced master: real NATS, object store, edge and worker."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import pyvips
import torch
from hub_bench import running_hub
from safetensors.torch import save_file
from tiny_checkpoints import sd_dir

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.repeats import Repeat
from halfdrop.deploy.servers import NatsServer
from halfdrop.hub.checkpoints.importing import import_checkpoint
from halfdrop.hub.checkpoints.lora_importing import import_lora
from halfdrop.hub.printing.manifest import read_manifest
from halfdrop.hub.printing.reproducing import reproduce
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Painted, Sampler
from halfdrop.hub.saved_work import SAVED_NAME, decode_saved
from halfdrop.hub.settings import HubSettings
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.pixel_seams import border_step_ratio
from halfdrop.models.store import ModelStore
from halfdrop.runtime.objects import ObjectStore, open_objects

__all__ = ["sd_dir"]

WaitUntil = Callable[..., Awaitable[None]]
Work = Callable[..., "AbstractAsyncContextManager[Worker]"]
StartEdge = Callable[..., Awaitable[Any]]

HALF_DROP = Repeat(layout="half-drop").normalise()
UNIT_PX = 128
"""The smallest unit of SD 1.5's layout on a half-drop."""

ASKED = {
    "prompt": "red peonies",
    "repeat": {"layout": "half-drop"},
    "model": "mine",
    "loras": [{"name": "chintz", "weight": 0.7}],
    "num_inference_steps": 3,
    "guidance_scale": 2.5,
    "negative_prompt": "blue",
    "seed": 11,
    "size_px": 2 * UNIT_PX,
    "formats": ["tiff", "webp", "tiff-separated"],
    "palette": ["#f4efe6", "#1d3557"],
}


SCREENS = """
name = "screens"
version = 1
title = "Screens"
description = "Three screens of 30 mm."
[order]
size_px = { min = 200, max = 600, default = 300 }
layouts = ["half-drop"]
units = { min = 2, max = 2, default = 2 }
[press]
kind = "screen"
dpi = 254
colours_max = 3
repeat_lengths_mm = [30]
[finishing]
steps = ["separate", "trap", "trace"]
outputs = ["png", "plates", "svg", "tiff-trapped", "inks"]
[gates.seams]
max = 1.2
[gates.size]
max = 0.1
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """As workers have it; torch's own threads spin while they wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models_dir(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the checkpoint "mine" and the LoRA "chintz"."""
    folder = tmp_path_factory.mktemp("models")
    store = ModelStore(folder)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v"
    lora = folder / "chintz.safetensors"
    torch.manual_seed(3)
    save_file({f"{layer}.lora_A.weight": torch.randn(2, 16), f"{layer}.lora_B.weight": torch.randn(16, 2)}, lora)
    brought = ((import_checkpoint, sd_dir, "mine"), (import_lora, lora, "chintz"))
    for bring, source, name in brought:
        with store.incoming() as room:
            bring(source, room, name=name, version="1", licence="ours", on_progress=lambda *_: None)
            store.adopt(room)
    return folder


class PausedSampler(Sampler):
    """Counts the steps of paintings, and waits in its thread after step `pause_at` until released."""

    pause_at = 0

    def __init__(self, models_dir: Path) -> None:
        super().__init__(shipped_bundle_dir(), device="cpu", threads=1, models_dir=models_dir)
        self.released = threading.Event()
        self.counted = 0

    async def paint(
        self, spec: PatternSpec, unit_px: int, *, on_step: Callable[[], None] = lambda: None, **given: Any
    ) -> Painted:
        def end_step() -> None:
            on_step()
            self.counted += 1
            if self.counted == self.pause_at:
                self.released.wait(30)

        return await super().paint(spec, unit_px, on_step=end_step, **given)


class Worker(NamedTuple):
    objects: ObjectStore
    sampler: PausedSampler
    stop: asyncio.Event


@asynccontextmanager
async def working(
    hub_nats: NatsServer, objects_url: str, models_dir: Path, *, pause_at: int = 0
) -> AsyncIterator[Worker]:
    """A worker with the store's models, until the block ends; told to stop, it waits for nothing."""
    settings = HubSettings(nats_url=hub_nats.url, objects_url=objects_url, warm=False, max_deliver=1, grace_s=0)
    nothing = models_dir / "nothing"
    with (
        PausedSampler(models_dir) as sampler,
        PlateRefiner(nothing, nothing, device="cpu", enabled=False) as refiner,
    ):
        objects = open_objects(objects_url)
        sampler.pause_at = pause_at
        async with running_hub(settings, objects, sampler=sampler, refiner=refiner) as stop:
            try:
                yield Worker(objects, sampler, stop)
            finally:
                stop.set()
                sampler.released.set()


@pytest.fixture
def work(hub_nats: NatsServer, objects_url: str, models_dir: Path) -> Work:
    """`async with work() as worker`: a worker with the store's models."""
    return partial(working, hub_nats, objects_url, models_dir)


async def list_models(edge: Any, wait_until: WaitUntil) -> dict[str, Any]:
    """Return what the edge lists, by name, once it has heard of the worker's models."""
    listed: dict[str, Any] = {}

    async def is_listed() -> bool:
        listed.update({one["id"]: one for one in (await edge.client.get("/v1/models")).json()["data"]})
        return {"mine", "chintz"} <= listed.keys()

    await wait_until(is_listed, timeout_s=30)
    return listed


async def finish(edge: Any, body: dict[str, Any], wait_until: WaitUntil) -> dict[str, Any]:
    """Order, and return the prediction once it is final."""
    answer = await edge.client.post("/v1/predictions", json={"input": body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = {}

    async def is_over() -> bool:
        found.update((await edge.client.get(f"/v1/predictions/{answer.json()['id']}")).json())
        return found["status"] in ("succeeded", "failed", "canceled")

    await wait_until(is_over, timeout_s=60)
    return found


async def files_of(objects: ObjectStore, prediction: dict[str, Any]) -> dict[str, bytes]:
    """Return a finished order's files by name."""
    paths = await objects.list(f"jobs/local/{prediction['id']}")
    return {path.rpartition("/")[2]: await objects.get(path) or b"" for path in paths}


def pixels_of(data: bytes) -> np.ndarray:
    picture: np.ndarray = pyvips.Image.new_from_buffer(data, "").numpy()
    return picture


async def test_an_imported_checkpoint_is_listed_ordered_finished_and_reproduced(
    start_edge: StartEdge, work: Work, models_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    (tmp_path / "screens.toml").write_text(SCREENS)
    edge = await start_edge(TEMPLATES_DIR=tmp_path)
    async with work() as worker:
        objects = worker.objects
        listed = await list_models(edge, wait_until)
        about = {name: listed["mine"][name] for name in ("kind", "family", "has_previews", "native_px")}
        assert about == {"kind": "checkpoint", "family": "sd", "has_previews": False, "native_px": 64}
        assert listed["house"]["has_previews"]

        for changed, words in (
            ({"model": "nobodys"}, ("input.model", "nobodys", "mine")),
            ({"size_px": 300}, ("input.size_px", "a multiple of 256", "such as 256")),
            ({"size_px": 8192}, ("input.size_px", "to 4096", "never enlarged")),
            ({"num_inference_steps": 201}, ("num_inference_steps", "1 to 200")),
            ({"loras": [{"name": "toile"}]}, ("loras[0].name", "chintz")),
        ):
            refused = await edge.client.post("/v1/predictions", json={"input": ASKED | changed})
            assert refused.status_code == 422, (changed, refused.text)
            assert all(word in refused.text for word in words), refused.text
        preview = await edge.client.post("/v1/previews", json={"prompt": "red peonies", "model": "mine"})
        assert preview.status_code == 422
        assert "order it: POST /v1/predictions" in preview.text

        done = await finish(edge, ASKED, wait_until)
        assert done["status"] == "succeeded", done
        assert done["model"].endswith("mine")
        files = await files_of(objects, done)
        picture = await edge.client.get(f"/p/{done['pattern_key']}.webp?px=256")
        assert picture.status_code == 200, "painted once, a pattern has its picture under its key"
        inked = await finish(edge, {"prompt": "red peonies", "model": "mine", "template": "screens"}, wait_until)
        assert inked["status"] == "succeeded", inked
        check_inked(await files_of(objects, inked))

    check_painted(files)
    (manifest, plates) = read_manifest(files["manifest.json"])
    assert plates is None
    assert manifest.painting is not None
    assert manifest.painting.family == "sd"
    assert manifest.spec.model_digest == listed["mine"]["digest"]
    assert [lora.digest for lora in manifest.painting.loras] == [listed["chintz"]["digest"]]
    made = await asyncio.to_thread(
        reproduce, files["manifest.json"], refiner_dir=tmp_path, into=tmp_path, models_dir=models_dir
    )
    assert (made.different, made.missing, made.elsewhere) == ([], [], [])
    assert "master.png" in made.equal


async def test_a_painting_that_is_interrupted_goes_on_from_its_step_and_is_the_same(
    start_edge: StartEdge, work: Work, wait_until: WaitUntil
) -> None:
    edge = await start_edge()
    body = ASKED | {"num_inference_steps": 6, "seed": 12, "formats": []}
    async with work() as worker:
        await list_models(edge, wait_until)
        whole = await files_of(worker.objects, await finish(edge, body, wait_until))
        for path in await worker.objects.list("patterns"):
            await worker.objects.delete(path)

    async with work(pause_at=3) as worker:
        interrupted = asyncio.create_task(finish(edge, body, wait_until))
        await wait_until(lambda: worker.sampler.counted == 3, timeout_s=30)
        worker.stop.set()
        await asyncio.sleep(0)  # what it came to is saved while its thread waits
        saved: list[str] = []

        async def is_saved() -> bool:
            saved[:] = [path for path in await worker.objects.list("jobs/local") if path.endswith(SAVED_NAME)]
            return bool(saved)

        await wait_until(is_saved)
    _, state = decode_saved(await worker.objects.get(saved[0]) or b"")
    assert state is not None
    assert state.step == 3

    async with work() as worker:
        done = await interrupted
        assert done["status"] == "succeeded", done
        assert worker.sampler.counted == 7 - 3, "the rest; this scheduler takes a step more than it is asked for"
        resumed = await files_of(worker.objects, done)
    assert resumed.keys() == whole.keys()
    assert resumed["master.png"] == whole["master.png"]


def check_painted(files: dict[str, bytes]) -> None:
    """The painting itself, on a half-drop, and what its inks are made into."""
    master = pixels_of(files["master.png"])
    assert master.shape == (2 * UNIT_PX, 2 * UNIT_PX, 3)
    assert master.std() > 5, "a picture, not a ground"
    assert np.array_equal(np.roll(master[:, :UNIT_PX], UNIT_PX // 2, axis=0), master[:, UNIT_PX:]), "a half-drop"
    assert border_step_ratio(master, HALF_DROP) < 1.1, "no seam shows against the true neighbours"
    torn = np.concatenate([master[:, :UNIT_PX]] * 2, axis=1)
    assert border_step_ratio(torn, Repeat(units=2)) > border_step_ratio(master, HALF_DROP)
    assert np.array_equal(pixels_of(files["master.webp"])[..., :3], master)
    assert np.array_equal(pixels_of(files["master.tiff"])[..., :3], master)
    assert {"pattern.svg", "separated.tiff", "proof.png", "plate-1-1d3557.png"} <= files.keys()


def check_inked(files: dict[str, bytes]) -> None:
    """Three inks at the length of the press, which is no multiple of what a painting would need."""
    master = pixels_of(files["master.png"])
    assert master.shape == (300, 300, 3)
    inks = {ink["colour"] for ink in msgspec.json.decode(files["inks.json"])["inks"]}
    pure = [f"#{red:02x}{green:02x}{blue:02x}" in inks for red, green, blue in master.reshape(-1, 3)[::7]]
    assert len(inks) <= 3
    assert np.mean(pure) > 0.5, "inks and the soft edges between them, no painting"
    plates = [name for name in files if name.startswith("plate-")]
    assert 1 <= len(plates) <= 2, "the ground needs none"
    assert border_step_ratio(master, HALF_DROP) < 1.2
    assert b'width="30.0000mm"' in files["pattern.svg"]
    assert b'"verdict": "pass"' in files["gates.json"]
