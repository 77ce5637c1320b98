"""Models that users imported, as a worker has them: seen in the store, told of, painted with, called off."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import LoraUse, PatternSpec
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.importing import import_checkpoint
from halfdrop.hub.checkpoints.lora_importing import import_lora
from halfdrop.hub.imported import ImportedModels
from halfdrop.hub.sampler import Sampler
from halfdrop.models.bundle import Bundle, shipped_bundle_dir
from halfdrop.models.store import ModelStore

HALF_DROP = Repeat(layout="half-drop").normalise()
BUDGET_BYTES = 2**30
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As workers have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bring(folder: Path, importer: Callable[..., None], source: Path, name: str) -> Bundle:
    store = ModelStore(folder)
    with store.incoming() as room:
        importer(source, room, name=name, version="1", licence="ours", on_progress=lambda *_: None)
        return store.adopt(room)


@pytest.fixture(scope="module")
def models_dir(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    bring(folder, import_checkpoint, sd_dir, "mine")
    lora = folder / "chintz.safetensors"
    save_file({f"{LAYER}.lora_A.weight": torch.randn(2, 16), f"{LAYER}.lora_B.weight": torch.randn(16, 2)}, lora)
    bring(folder, import_lora, lora, "chintz")
    return folder


@pytest.fixture
def sampler(models_dir: Path) -> Iterator[Sampler]:
    with Sampler(shipped_bundle_dir(), device="cpu", threads=1, models_dir=models_dir) as opened:
        opened.imported.look()
        yield opened


def spec_of(sampler: Sampler, **changes: object) -> PatternSpec:
    digest = next(model.digest for model in sampler.imported.models if model.kind == "checkpoint")
    spec = PatternSpec(
        prompt="red dots", repeat=HALF_DROP, num_inference_steps=3, guidance_scale=2, model_digest=digest
    )
    return msgspec.structs.replace(spec, **changes)


def test_what_lies_in_the_store_is_told_of_with_what_orders_are_held_against(models_dir: Path) -> None:
    imported = ImportedModels(models_dir, budget_bytes=BUDGET_BYTES)
    assert imported.models == ()
    imported.look()
    chintz, mine = sorted(imported.models, key=lambda model: model.name)
    assert (mine.kind, mine.family, mine.grain_px, mine.native_px) == ("checkpoint", "sd", 64, 64)
    assert (chintz.kind, chintz.family) == ("lora", "")
    assert imported.lora_file(chintz.digest).is_file()
    assert imported.find(chintz.digest) is None, "a LoRA draws nothing"
    with pytest.raises(PermanentError, match=r"mine \(.*halfdrop models list") as caught:
        imported.bundle("0" * 64)
    assert caught.value.code == "unknown-model"


def test_what_could_never_be_loaded_or_is_damaged_is_not_told_of(models_dir: Path, tmp_path: Path) -> None:
    small = ImportedModels(models_dir, budget_bytes=1000)
    small.look()
    assert [model.name for model in small.models] == ["chintz"]
    none = ImportedModels(None, budget_bytes=BUDGET_BYTES)
    none.look()
    assert none.models == ()
    empty = ImportedModels(tmp_path / "not there", budget_bytes=BUDGET_BYTES)
    empty.look()
    assert empty.models == ()


def test_only_a_plain_lora_is_imported(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    save_file({"unet.conv_in.weight": torch.zeros(2, 2)}, wrong)
    with pytest.raises(PermanentError, match=r"unet.conv_in.weight.*lora_down") as caught:
        bring(tmp_path / "models", import_lora, wrong, "wrong")
    assert caught.value.code == "bad-lora"
    assert ModelStore(tmp_path / "models").damaged() == {}


async def test_a_unit_is_painted_on_its_lattice_the_same_each_time_and_loras_count(sampler: Sampler) -> None:
    steps: list[int] = []
    sketches: list[np.ndarray] = []
    lora = next(model.digest for model in sampler.imported.models if model.kind == "lora")
    spec = spec_of(sampler)

    def sketch(take: Callable[[], np.ndarray], step: int) -> None:
        steps.append(step)
        sketches.append(take())

    painted = await sampler.paint(spec, 128, on_sketch=sketch)
    again = await sampler.paint(spec, 128)
    other = await sampler.paint(spec_of(sampler, loras=(LoraUse(digest=lora),)), 128)
    assert painted.unit.shape == (128, 128, 3)
    assert (painted.device, painted.dtype) == ("cpu", "float32")
    assert np.array_equal(painted.unit, again.unit)
    assert not np.array_equal(painted.unit, other.unit)
    assert steps[-1] >= 3
    assert {one.shape for one in sketches} == {(16, 16, 3)}
    assert not np.array_equal(sketches[0], sketches[-1])
    with pytest.raises(PermanentError, match="this worker has imported"):
        await sampler.paint(spec_of(sampler, model_digest="0" * 64), 128)


async def test_a_painting_that_is_called_off_ends_within_a_step(sampler: Sampler) -> None:
    begun, seen = asyncio.Event(), []
    loop = asyncio.get_running_loop()
    may_go_on = threading.Event()

    def end_step() -> None:
        seen.append(1)
        loop.call_soon_threadsafe(begun.set)
        may_go_on.wait(10)

    painting = asyncio.create_task(sampler.paint(spec_of(sampler, num_inference_steps=200), 128, on_step=end_step))
    await begun.wait()
    painting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await painting
    may_go_on.set()
    assert len(seen) == 1
    await sampler.paint(spec_of(sampler), 128)  # the engine goes on with others
    assert len(seen) <= 2, "the next step is not taken"
