"""The hub draws plates itself: the diffusers pipeline, over a whole bundle of small untrained weights."""

import asyncio
import dataclasses
import inspect
import os
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.hub.pipeline import HouseDenoiser, HousePipeline, HouseScheduler, HouseTextEncoder
from halfdrop.hub.sampler import Sampler
from halfdrop.models.bundle import MANIFEST_NAME, Manifest, file_table, open_bundle, shipped_bundle_dir
from halfdrop.models.fields import decode_fields
from halfdrop.models.house.net import DenoiserConfig, TextEncoderConfig, load_student
from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(5)
    tokenizer = Tokenizer.build(["red dots on white", "blue stars"])
    pipeline = HousePipeline(
        HouseTextEncoder(vocabulary_size=tokenizer.size), HouseDenoiser(layers=2, width=64, heads=2), HouseScheduler()
    )
    for weights in pipeline.denoiser.parameters():
        if not weights.any():  # what training starts at zero: nothing would depend on the prompt
            torch.nn.init.normal_(weights, std=0.05)
    pipeline.tokenizer = tokenizer
    pipeline.save_pretrained(folder)
    manifest = Manifest(name="small", version="1", licence="Apache-2.0", training_data="none", files=file_table(folder))
    (folder / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))
    return folder


def spec_for(bundle_dir: Path, **changes: object) -> PatternSpec:
    spec = PatternSpec(prompt="red dots on white", seed=11, model_digest=open_bundle(bundle_dir).digest)
    return msgspec.structs.replace(spec, **changes)


async def draw(bundle_dir: Path, spec: PatternSpec) -> tuple[np.ndarray, tuple[str, ...], int]:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with Sampler(bundle_dir, device="cpu", threads=1) as sampler:
        plates = await sampler.draw(spec, on_step=count)
    assert plates.pattern_key == pattern_key(spec)
    assert plates.model_digest == spec.model_digest
    return decode_fields(plates), plates.palette, steps


async def test_a_spec_always_gives_the_same_plates_and_a_step_is_told_for_each(bundle_dir: Path) -> None:
    spec = spec_for(bundle_dir)
    fields, palette, steps = await draw(bundle_dir, spec)
    again, palette_again, _ = await draw(bundle_dir, spec)
    np.testing.assert_array_equal(fields, again)
    assert palette == palette_again
    assert steps == 4


async def test_jobs_drawn_at_once_share_rounds_and_each_gets_the_plates_it_gets_alone(bundle_dir: Path) -> None:
    specs = [spec_for(bundle_dir, seed=seed, num_inference_steps=2 + seed % 3) for seed in range(5)]
    specs[1] = spec_for(bundle_dir, negative_prompt="blue stars", guidance_scale=2.0)
    alone = [await draw(bundle_dir, spec) for spec in specs]
    with Sampler(bundle_dir, device="cpu", threads=2) as sampler:
        await sampler.warm()
        together = await asyncio.gather(*(sampler.draw(spec, on_step=lambda: None) for spec in specs))
        counters = sampler.engine.counters
    for plates, (fields, palette, _) in zip(together, alone, strict=True):
        np.testing.assert_array_equal(decode_fields(plates), fields)
        assert plates.palette == palette
    assert counters.steps == sum(spec.num_inference_steps for spec in specs)
    assert counters.rounds < counters.steps
    assert counters.largest > 1


async def test_another_seed_a_negative_prompt_and_other_steps_give_other_plates(bundle_dir: Path) -> None:
    fields, _, _ = await draw(bundle_dir, spec_for(bundle_dir))
    for changes in (
        {"seed": 12},
        {"negative_prompt": "blue stars", "guidance_scale": 2.0},
        {"num_inference_steps": 2},
    ):
        other, _, _ = await draw(bundle_dir, spec_for(bundle_dir, **changes))
        assert np.abs(other - fields).max() > 0.01, changes


async def test_the_palette_given_replaces_the_models_in_order(bundle_dir: Path) -> None:
    _, own, _ = await draw(bundle_dir, spec_for(bundle_dir))
    _, palette, _ = await draw(bundle_dir, spec_for(bundle_dir, palette=("#102030", "#405060")))
    assert palette == ("#102030", "#405060", *own[2:])


async def test_exact_colours_in_a_prompt_are_printed_exactly_in_their_roles() -> None:
    spec = spec_for(shipped_bundle_dir(), prompt="#ff8800 dots on #141e5a")
    _, palette, _ = await draw(shipped_bundle_dir(), spec)
    assert palette[:2] == ("#141e5a", "#ff8800")


async def test_a_spec_for_another_model_is_refused(bundle_dir: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        await draw(bundle_dir, spec_for(bundle_dir, model_digest="f" * 64))
    assert caught.value.code == "unknown-model"


async def test_a_broken_bundle_is_said_so_and_does_not_stop_the_worker(tmp_path: Path) -> None:
    with Sampler(tmp_path, device="cpu", threads=1) as sampler:
        await sampler.warm()
        with pytest.raises(PermanentError) as caught:
            await sampler.draw(PatternSpec(prompt="x", model_digest="0" * 64), on_step=lambda: None)
    assert caught.value.code == "bad-bundle"


async def test_a_cancelled_drawing_ends_at_its_next_step(bundle_dir: Path) -> None:
    spec = spec_for(bundle_dir, num_inference_steps=8)
    steps = 0
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def count() -> None:
        nonlocal steps
        steps += 1
        loop.call_soon_threadsafe(started.set)

    with Sampler(bundle_dir, device="cpu", threads=1) as sampler:
        drawing = asyncio.create_task(sampler.draw(spec, on_step=count))
        await started.wait()
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        after = await sampler.draw(spec, on_step=lambda: None)  # the thread is free again
    assert steps < 8
    assert after.palette


def test_a_batch_changes_no_image(bundle_dir: Path) -> None:
    pipeline = HousePipeline.from_pretrained(bundle_dir)
    alone, _ = pipeline(["blue stars"], seeds=[4])
    batch, _ = pipeline(["red dots", "blue stars"], seeds=[3, 4])
    np.testing.assert_allclose(batch[1], alone[0], atol=1e-5)


def test_half_precision_as_on_a_gpu_draws_the_same_pattern(bundle_dir: Path) -> None:
    exact, palette = HousePipeline.from_pretrained(bundle_dir)(["blue stars"], seeds=[4])
    half, half_palette = HousePipeline.from_pretrained(bundle_dir, torch_dtype=torch.bfloat16)(
        ["blue stars"], seeds=[4]
    )
    assert half.dtype == np.float32
    assert np.abs(palette - half_palette).max() < 0.02
    assert np.corrcoef(exact.ravel(), half.ravel())[0, 1] > 0.99


def test_trainings_own_loader_and_diffusers_read_the_same_weights(bundle_dir: Path) -> None:
    pipeline = HousePipeline.from_pretrained(bundle_dir)
    text_encoder, denoiser = load_student(bundle_dir)
    ids = torch.tensor([pipeline.tokenizer.encode("red dots on white")])
    condition, scores = text_encoder(ids)
    theirs, their_scores = pipeline.text_encoder(ids)
    torch.testing.assert_close(condition, theirs)
    torch.testing.assert_close(scores, their_scores)
    noise = torch.from_numpy(seeded_noise(1)[None])
    torch.testing.assert_close(
        denoiser(noise, torch.ones(1), condition), pipeline.denoiser(noise, torch.ones(1), theirs)
    )


async def test_a_worker_is_ready_before_torch_is_there() -> None:
    code = "import halfdrop.hub.worker, sys; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=dict(os.environ))
    assert await process.wait() == 0


async def test_hub_and_edge_draw_one_picture_with_the_shipped_model() -> None:
    """The hub's float networks and the edge's INT8 ones start from one noise and stay together."""
    bundle = open_bundle(shipped_bundle_dir())
    text_session = open_session(bundle.directory / "onnx" / "text_encoder.onnx")
    denoiser_session = open_session(bundle.directory / "onnx" / "denoiser.onnx")
    pipeline = HousePipeline.from_pretrained(bundle.directory)
    prompt = "red polka dots on white"
    at_edge, edge_palette = draw_plates(text_session, denoiser_session, pipeline.tokenizer.encode(prompt), seed=1)
    at_hub, hub_palette = pipeline([prompt], seeds=[1])
    assert np.abs(edge_palette - hub_palette[0]).max() < 0.02
    agreement = np.corrcoef(at_edge.ravel(), at_hub[0].ravel())[0, 1]
    assert agreement > 0.9


@pytest.mark.parametrize(("saved", "config"), [(HouseTextEncoder, TextEncoderConfig), (HouseDenoiser, DenoiserConfig)])
def test_what_diffusers_saves_of_a_network_is_its_whole_config(saved: type, config: type) -> None:
    own = {field.name: field.default for field in dataclasses.fields(config)}
    parameters = inspect.signature(saved.__init__).parameters  # type: ignore[misc]
    shown = {name: parameter.default for name, parameter in parameters.items() if name != "self"}
    required = {dataclasses.MISSING: inspect.Parameter.empty}
    assert shown == {name: required.get(default, default) for name, default in own.items()}
