"""Real models behind the engine's seam: an image is its own, whatever was beside it, and what diffusers would draw."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import Checkpoint, load_checkpoint
from halfdrop.hub.checkpoints.layout import check_layout
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
from halfdrop.hub.engine.asks import HouseAsk, UnitAsk
from halfdrop.hub.engine.diffusion import CheckpointModel
from halfdrop.hub.engine.house import HouseModel
from halfdrop.hub.engine.rows import split_rows
from halfdrop.hub.engine.seams import StepModel
from halfdrop.hub.pipeline import HousePipeline
from halfdrop.models.bundle import shipped_bundle_dir

HALF_DROP = Repeat(layout="half-drop")

HOUSE_ASKS = [
    HouseAsk(prompt="red dots on white", seed=3, num_inference_steps=2),
    HouseAsk(prompt="blue stars", seed=4, num_inference_steps=4, repeat=HALF_DROP),
    HouseAsk(prompt="green leaves", negative_prompt="dots", guidance_scale=2.0, seed=5, num_inference_steps=3),
    HouseAsk(prompt="red dots on white", seed=6, num_inference_steps=1),
    HouseAsk(prompt="gold ogee", negative_prompt="red", guidance_scale=1.2, seed=7, repeat=Repeat(layout="brick")),
]
UNIT_ASKS = [
    UnitAsk(prompt="red dots", size_px=64, seed=3, num_inference_steps=1),
    UnitAsk(prompt="blue stars", negative_prompt="red", size_px=64, seed=4, num_inference_steps=2, guidance_scale=3.0),
    UnitAsk(prompt="no guidance", size_px=64, seed=6, num_inference_steps=2, guidance_scale=1.0),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As workers have it: with several, torch shares a product out by its size, and a batch changes the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def house() -> HouseModel:
    return HouseModel(HousePipeline.from_pretrained(shipped_bundle_dir()), "house", threads=2)


@pytest.fixture(scope="module", params=["sd_dir", "sdxl_dir"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return load_checkpoint(check_layout(request.getfixturevalue(request.param)), "cpu")


def draw(model: StepModel, asks: Sequence[Any], *, starts: Sequence[int] | None = None) -> list[Any]:
    """Step jobs together as the engine would, each from its own round on."""
    starts = starts or [0] * len(asks)
    states: dict[int, Any] = {}
    results: dict[int, Any] = {}
    model.enter(model.group_of(asks[0]))
    for now in range(1_000):
        states |= {place: model.begin(ask) for place, ask in enumerate(asks) if starts[place] == now}
        running = list(states)
        if not running and now > max(starts):
            break
        predictions = model.predict([states[place] for place in running]) if running else []
        for place, prediction in zip(running, predictions, strict=True):
            model.advance(states[place], prediction)
            if states[place].step == states[place].steps:
                results[place] = model.finish(states.pop(place))
    return [results[place] for place in range(len(asks))]


def equal(one: Any, other: Any) -> bool:
    pair = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
    return all(np.array_equal(a, b) for a, b in pair)


def test_plates_are_the_same_bit_by_bit_whoever_joins_and_leaves_beside_them(house: HouseModel) -> None:
    alone = [draw(house, [ask])[0] for ask in HOUSE_ASKS]
    for starts in ([0, 0, 0, 0, 0], [2, 0, 1, 3, 0]):
        together = draw(house, HOUSE_ASKS, starts=starts)
        assert all(equal(one, other) for one, other in zip(alone, together, strict=True)), starts
    many = [replace(HOUSE_ASKS[0], seed=seed) for seed in range(11)]
    assert equal(draw(house, many)[3], alone[0])


def test_plates_are_those_of_the_pipeline(house: HouseModel) -> None:
    plain = HousePipeline.from_pretrained(shipped_bundle_dir())
    for ask in HOUSE_ASKS:
        fields, palettes = plain(
            [ask.prompt],
            seeds=[ask.seed],
            repeats=[ask.repeat],
            negative_prompts=[ask.negative_prompt] if ask.negative_prompt else None,
            guidance_scale=ask.guidance_scale,
            num_inference_steps=ask.num_inference_steps,
        )
        [drawn] = draw(house, [ask])
        np.testing.assert_array_equal(drawn.fields, fields[0])
        np.testing.assert_array_equal(drawn.palette, palettes[0])


def test_half_precision_draws_nearly_the_same_plates_and_a_batch_within_tolerance(house: HouseModel) -> None:
    """bfloat16 keeps 8 bits. Kernels differ between processors, so a batch is held to a tolerance, not to bits."""
    half = HouseModel(HousePipeline.from_pretrained(shipped_bundle_dir(), torch_dtype=torch.bfloat16), "house")
    asks = [ask for ask in HOUSE_ASKS if ask.num_inference_steps <= 2]
    exact = draw(house, asks)
    for ask, together, plates in zip(asks, draw(half, asks), exact, strict=True):
        [alone] = draw(half, [ask])
        assert np.abs(alone.fields - together.fields).mean() < 0.002
        assert np.abs(together.fields - plates.fields).mean() < 0.002
        assert ((together.fields > 0) != (plates.fields > 0)).mean() < 0.002


@pytest.mark.parametrize("large_bytes", [0, 2**30], ids=["large", "small"])
def test_a_checkpoints_unit_is_the_same_bit_by_bit_in_every_batch(
    checkpoint: Checkpoint, large_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfdrop.hub.engine.diffusion.LARGE_BYTES", large_bytes)
    model = CheckpointModel(checkpoint, "mine", threads=2)
    alone = [draw(model, [ask])[0] for ask in UNIT_ASKS]
    together = draw(model, UNIT_ASKS, starts=[1, 0, 1])
    assert all(equal(one, other) for one, other in zip(alone, together, strict=True))
    assert not equal(alone[0], alone[1])


def test_a_checkpoints_unit_is_what_diffusers_pipeline_draws(checkpoint: Checkpoint) -> None:
    model = CheckpointModel(checkpoint, "mine")
    for ask in (UNIT_ASKS[1], UNIT_ASKS[2], replace(UNIT_ASKS[0], size_px=128, repeat=HALF_DROP)):
        [unit] = draw(model, [ask])
        [plain] = checkpoint.draw(
            [ask.prompt],
            [ask.seed],
            ask.repeat,
            ask.size_px,
            negative_prompts=[ask.negative_prompt] if ask.negative_prompt else None,
            guidance_scale=ask.guidance_scale,
            num_inference_steps=ask.num_inference_steps,
        )
        assert np.abs(unit.astype(int) - plain).max() <= 1, ask


@pytest.mark.parametrize(
    "scheduler",
    ["EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "HeunDiscreteScheduler", "DDIMScheduler"],
)
def test_each_job_has_its_schedulers_memory_and_noise_to_itself(
    sd_dir: Path, copy_of: Callable[[Path], Path], scheduler: str
) -> None:
    source = copy_of(sd_dir)
    index = json.loads((source / "model_index.json").read_text())
    (source / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", scheduler]}))
    checkpoint = load_checkpoint(check_layout(source), "cpu")
    model = CheckpointModel(checkpoint, "mine")
    asks = [replace(ask, num_inference_steps=3, guidance_scale=1.0, negative_prompt="") for ask in UNIT_ASKS[:2]]
    together = draw(model, asks, starts=[0, 1])
    for ask, unit in zip(asks, together, strict=True):
        [plain] = checkpoint.draw([ask.prompt], [ask.seed], ask.repeat, 64, guidance_scale=1.0, num_inference_steps=3)
        assert np.abs(unit.astype(int) - plain).max() <= 1


def test_lattice_size_and_loras_make_a_group(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = CheckpointModel(checkpoint, "mine")
    ask = UNIT_ASKS[0]
    lora = LoraChoice(file=tmp_path / "a.safetensors", weight=0.5)
    others = [
        replace(ask, size_px=128),
        replace(ask, size_px=128, repeat=HALF_DROP),
        replace(ask, loras=(lora,)),
        replace(ask, loras=(replace(lora, weight=0.7),)),
    ]
    groups = {model.group_of(each) for each in (ask, *others)}
    assert len(groups) == 5
    alike = replace(ask, prompt="y", seed=9, guidance_scale=1.0, num_inference_steps=9, repeat=Repeat(layout="mirror"))
    assert model.group_of(alike) == model.group_of(ask)  # a mirror's unit is straight
    assert model.rows_of(ask) == 2
    assert model.rows_of(alike) == 1


def test_loras_are_swapped_without_loading_and_leave_the_checkpoint_as_it_was(sd_dir: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(check_layout(sd_dir), "cpu")
    model = CheckpointModel(checkpoint, "mine")
    files = []
    for seed in (1, 2):
        layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v"
        weight = checkpoint.pipeline.unet.get_submodule(layer.removeprefix("unet.")).weight
        noise = torch.Generator().manual_seed(seed)
        files.append(tmp_path / f"{seed}.safetensors")
        save_file(
            {
                f"{layer}.lora_A.weight": torch.randn(2, weight.shape[1], generator=noise),
                f"{layer}.lora_B.weight": torch.randn(weight.shape[0], 2, generator=noise),
            },
            files[-1],
        )
    bare = UNIT_ASKS[0]
    one, other = (replace(bare, loras=(LoraChoice(file=file),)) for file in files)
    first = [draw(model, [ask])[0] for ask in (bare, one, other)]
    again = [draw(model, [ask])[0] for ask in (other, bare, one)]
    assert equal(again[1], first[0])
    assert equal(again[2], first[1])
    assert equal(again[0], first[2])
    assert not equal(first[0], first[1])
    model.enter(model.group_of(bare))
    files[0].write_bytes(b"no LoRA any more")
    with pytest.raises(PermanentError) as caught:
        model.enter(model.group_of(one))
    assert caught.value.code == "bad-lora"
    assert equal(draw(model, [bare])[0], first[0])


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"size_px": 100}, "size_px"), ({"num_inference_steps": 0}, "num_inference_steps"), ({"seed": -1}, "seeds"),
     ({"guidance_scale": 99.0}, "guidance_scale")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_before_it_enters(
    checkpoint: Checkpoint, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        CheckpointModel(checkpoint, "mine").group_of(replace(UNIT_ASKS[0], **changes))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("rows", "threads", "together_max", "sizes"),
    [(1, 2, 4, [1]), (2, 2, 4, [1, 1]), (5, 2, 4, [3, 2]), (9, 2, 4, [3, 3, 3]), (8, 1, 8, [8]), (3, 4, 1, [1, 1, 1])],
)
def test_samples_are_shared_out_evenly(rows: int, threads: int, together_max: int, sizes: list[int]) -> None:
    parts = split_rows(rows, threads, together_max)
    assert [part.stop - part.start for part in parts] == sizes
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(rows))
