"""The shipped bundle: whole, small, drawn alike by numpy and torch, and good enough to be shipped."""

from pathlib import Path

import numpy as np
import pytest
import torch

from halfdrop.models.bundle import Bundle, open_bundle, shipped_bundle_dir
from halfdrop.models.house.classifier import load_judge, name_kinds
from halfdrop.models.house.export_bundle import record_gates
from halfdrop.models.house.export_onnx import export_networks
from halfdrop.models.house.gates.asking import ask
from halfdrop.models.house.net import (
    Denoiser,
    DenoiserConfig,
    TextEncoder,
    TextEncoderConfig,
    load_student,
)
from halfdrop.models.house.onnx_formats import layers_of
from halfdrop.models.house.onnx_text_encoder import build_text_encoder
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates
from halfdrop.models.house.schedule import STUDENT_STEPS
from halfdrop.models.house.tokenizer import Tokenizer

WEIGHTS_MAX_BYTES = 20_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle_dir())


@pytest.fixture(scope="module")
def sessions(bundle: Bundle):
    onnx = bundle.directory / "onnx"
    return open_session(onnx / "text_encoder.onnx"), open_session(onnx / "denoiser.onnx")


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> Tokenizer:
    return Tokenizer.load(bundle.directory / "tokenizer" / "vocab.json")


def test_all_shipped_weights_together_are_small_enough_for_git(bundle: Bundle) -> None:
    files = [path for path in bundle.directory.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= WEIGHTS_MAX_BYTES


def test_a_unit_is_fields_within_their_range_and_a_palette(sessions, tokenizer: Tokenizer) -> None:
    fields, palette = draw_plates(*sessions, tokenizer.encode("red polka dots on white"), 7)
    assert fields.shape == (4, 64, 64)
    assert fields.dtype == np.float32
    assert np.abs(fields).max() <= 1
    assert palette.shape == (5, 3)
    assert palette.min() >= 0
    assert palette.max() <= 1
    ground, dots = palette[0] * 255, palette[1] * 255
    assert np.abs(ground - [250, 249, 245]).max() < 12
    assert np.abs(dots - [204, 34, 44]).max() < 12


def test_the_same_prompt_and_seed_are_the_same_unit_and_another_seed_is_not(sessions, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("olive, brown and black camouflage on tan")
    first, again, other = (draw_plates(*sessions, ids, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_step_is_told_and_may_stop_the_drawing(sessions, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("blue and white gingham")
    told: list[tuple[int, int]] = []
    draw_plates(*sessions, ids, 1, 3, on_step=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done: int, total: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        draw_plates(*sessions, ids, 1, on_step=stop)


def test_a_negative_prompt_draws_something_else(sessions, tokenizer: Tokenizer) -> None:
    ids, negative = tokenizer.encode("white moons with yellow stars on navy"), tokenizer.encode("stars")
    plain, palette = draw_plates(*sessions, ids, 1)
    drawn, same_palette = draw_plates(*sessions, ids, 1, negative_ids=negative, guidance=2.0)
    assert not np.array_equal(plain, drawn)
    assert np.abs(palette - same_palette).max() < 0.02
    # At guidance 1 a negative prompt has no say; what is left is how INT8 rounds a batch of two.
    neutral, _ = draw_plates(*sessions, ids, 1, negative_ids=negative, guidance=1.0)
    assert ((plain > 0) != (neutral > 0)).mean() < 0.02


def test_exact_onnx_files_draw_what_torch_draws(tmp_path: Path) -> None:
    # Small networks: what is tested is the exporter and the two samplers, and an export takes time by the layer.
    torch.manual_seed(0)
    text_encoder = TextEncoder(TextEncoderConfig(vocabulary_size=20, width=32, layers=1, heads=2, condition_width=32))
    sizes = DenoiserConfig(width=64, layers=1, heads=2, stem_width=16, condition_width=32, modulation_rank=8)
    denoiser = Denoiser(sizes).eval()
    torch.nn.init.normal_(denoiser.head_out.weight, std=0.2)
    formats = dict.fromkeys([*layers_of(denoiser), *build_text_encoder(text_encoder, {})[1]], "float32")
    export_networks(text_encoder, denoiser, tmp_path, formats)
    ids = [5, 9, 3, *[0] * 29]
    sessions = open_session(tmp_path / "text_encoder.onnx"), open_session(tmp_path / "denoiser.onnx")
    fields, palette = draw_plates(*sessions, ids, 5)
    exact, colours = sample_plates(
        text_encoder.eval(), denoiser, torch.tensor([ids]), noise_of_seeds([5]), steps=STUDENT_STEPS
    )
    assert np.abs(fields).max() > 0.1, "two empty drawings would agree"
    assert np.abs(fields - exact[0].numpy()).max() < 1e-4
    assert np.abs(palette - colours[0].numpy()).max() < 1e-5


def test_the_shipped_int8_files_draw_nearly_what_torch_draws(bundle: Bundle, sessions, tokenizer: Tokenizer) -> None:
    prompts = [
        "red hearts outlined in white on pink",
        "black and white checkerboard",
        "white daisies with mustard centres",
    ]
    rows = [tokenizer.encode(prompt) for prompt in prompts]
    text_encoder, denoiser = load_student(bundle.directory)
    exact, _ = sample_plates(text_encoder, denoiser, torch.tensor(rows), noise_of_seeds([1, 2, 3]), steps=STUDENT_STEPS)
    for seed, (row, wanted) in enumerate(zip(rows, exact.numpy(), strict=True), 1):
        drawn, _ = draw_plates(*sessions, row, seed)
        assert ((drawn > 0) != (wanted > 0)).mean() < 0.02


def test_prompts_of_every_kind_are_recognised_by_a_judge_trained_on_data_alone(sessions, tokenizer: Tokenizer) -> None:
    asked = ask(1)
    drawn = [
        draw_plates(*sessions, tokenizer.encode(each.text), seed, repeat=each.repeat)[0]
        for seed, each in enumerate(asked)
    ]
    kinds = name_kinds(load_judge(), torch.from_numpy(np.stack(drawn)))
    is_right = np.array([kind == each.kind for kind, each in zip(kinds, asked, strict=True)])
    # bench/model.py asks for 0.95 over six prompts a kind; one prompt a kind scatters by a few.
    assert is_right.mean() >= 0.78


def test_recorded_gates_leave_the_digest_as_it_was(tmp_path: Path, bundle: Bundle) -> None:
    copy = tmp_path / "house-3"
    for path in bundle.manifest.files:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes((bundle.directory / path).read_bytes())
    (copy / "manifest.json").write_bytes((bundle.directory / "manifest.json").read_bytes())
    record_gates(copy, {"kind_accuracy": 0.5})
    assert open_bundle(copy).digest == bundle.digest
