"""A training run: what it tells, what it starts from, and that a short one runs to its end and can be resumed."""

import json
from pathlib import Path

import pytest
import torch

from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.house.checkpoint import TEACHER_FILE, TEACHER_SETTINGS_FILE, Networks, Progress
from halfdrop.models.house.data import build_tokenizer, say_again, seeded_units
from halfdrop.models.house.journal import Journal
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.losses import sayings_loss
from halfdrop.models.house.net import Denoiser, DenoiserConfig, TextEncoder, TextEncoderConfig, load_student
from halfdrop.models.house.settings import TrainingSettings
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.train import start_from, train
from halfdrop.models.house.workers import Worker

SMALL = DenoiserConfig(width=64, layers=1, heads=2, stem_width=16, condition_width=32, modulation_rank=8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


@pytest.fixture(autouse=True)
def one_seeded_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small_networks(vocabulary_size: int) -> Networks:
    text = TextEncoderConfig(vocabulary_size=vocabulary_size, width=32, layers=1, heads=2, condition_width=32)
    return Networks(TextEncoder(text), Denoiser(SMALL))


def test_a_journal_tells_losses_validation_gate_figures_and_draws_a_sheet(tmp_path: Path, tokenizer: Tokenizer) -> None:
    networks = small_networks(tokenizer.size)
    worker, settings = Worker(rank=0, processes=1, device="cpu"), TrainingSettings(samples_s=-1.0)
    journal = Journal(worker, settings=settings, out=tmp_path, networks=networks, average=networks, tokenizer=tokenizer)
    journal.note(Progress(step=200, samples=6400, elapsed_s=9.0), 0.5, 0.1)
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert lines[0]["plates_loss"] == 0.5
    assert lines[0]["validation_plates_loss"] > 0
    assert 0 <= lines[1]["gate_kind_accuracy"] < 0.5, "an untrained network knows no kinds"
    assert lines[1]["gate_colour_accuracy"] < 0.2
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_a_run_started_from_a_bundle_keeps_what_known_words_mean(tokenizer: Tokenizer) -> None:
    bundle = shipped_bundle_dir()
    networks = Networks.fresh(tokenizer.size, "cpu")
    start_from(networks, tokenizer, bundle)
    text_encoder, denoiser = load_student(bundle)
    known = Tokenizer.load(bundle / "tokenizer" / "vocab.json")
    word = next(word for word in ("hearts", "heart", "star") if word in known.numbers and word in tokenizer.numbers)
    mine, theirs = networks.text_encoder.words.weight, text_encoder.words.weight
    assert torch.equal(mine[tokenizer.numbers[word]], theirs[known.numbers[word]])
    assert torch.equal(mine[1], theirs[1])
    assert torch.equal(networks.denoiser.to_tokens.weight, denoiser.to_tokens.weight)


def test_a_run_says_what_it_began_with_by_name_and_digest(tmp_path: Path) -> None:
    bundle = open_bundle(shipped_bundle_dir())
    begun = TrainingSettings(minutes=0.001, processes=1, batch=2, units_per_kind=1, start_from=str(bundle.directory))
    train(begun, tmp_path, False)
    said = json.loads((tmp_path / TEACHER_SETTINGS_FILE).read_text())["start_from"]
    assert said == f"{bundle.name}-{bundle.version}:{bundle.digest}"


def test_captions_said_again_mean_palettes_that_can_be_learnt(tokenizer: Tokenizer) -> None:
    networks, words = small_networks(tokenizer.size), seeded_words(3)
    sayings = say_again(seeded_units(1, 41, ("dots", "hearts")), 8, tokenizer, words)
    adam = torch.optim.AdamW(networks.text_encoder.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = sayings_loss(networks, sayings, "cpu")
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_run_writes_its_checkpoint_and_a_resumed_one_goes_on_from_it(tmp_path: Path) -> None:
    train(TrainingSettings(minutes=0.01, processes=1, batch=2, units_per_kind=1), tmp_path, False)
    first = torch.load(tmp_path / TEACHER_FILE, weights_only=True)["progress"]
    train(TrainingSettings(minutes=0.02 + first[2] / 60, processes=1, batch=2, units_per_kind=1), tmp_path, True)
    steps, samples, elapsed_s = torch.load(tmp_path / TEACHER_FILE, weights_only=True)["progress"]
    assert steps > first[0]
    assert samples == 2 * steps
    assert elapsed_s > first[2]
