"""Train the house model's teacher, then distil its student: `python -m halfdrop.models.house.train --out DIR`.

A step draws fresh units, noises them and asks for the clean plates and the palette back. Everything that a run
leaves is in `--out`: vocab.json, teacher.pt (written every minute), samples.png, loss.jsonl; `--resume` goes on.
`--start-from BUNDLE` begins with a bundle's weights instead of none: words that both know keep what they mean.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from halfdrop.models.bundle import open_bundle
from halfdrop.models.house.batches import draw_batches
from halfdrop.models.house.checkpoint import (
    TEACHER_FILE,
    TEACHER_SETTINGS_FILE,
    VOCABULARY_FILE,
    Networks,
    Progress,
    load_training,
    save_settings,
    save_training,
)
from halfdrop.models.house.data import build_tokenizer, say_again
from halfdrop.models.house.distil import distil
from halfdrop.models.house.journal import Journal
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.losses import losses, sayings_loss
from halfdrop.models.house.net import load_student
from halfdrop.models.house.optimizer import Muon, split_parameters
from halfdrop.models.house.settings import DistillationSettings, TrainingSettings
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.workers import Worker, average_gradients, average_weights, run_workers

ADAM_BETAS = (0.9, 0.98)


def train(settings: TrainingSettings, out: Path, resumes: bool) -> None:
    """Train the teacher for `settings.minutes` and leave its state in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    if not resumes or not (out / VOCABULARY_FILE).exists():
        build_tokenizer().save(out / VOCABULARY_FILE)
    # The manifest will tell these: what the run began with goes by its name and digest, not by a path of this machine.
    if resumes and (out / TEACHER_FILE).exists():
        begun_with = json.loads((out / TEACHER_SETTINGS_FILE).read_text(encoding="utf-8"))["start_from"]
    else:
        begun_with = _named(settings.start_from) if settings.start_from else ""
    save_settings(replace(settings, start_from=begun_with), out / TEACHER_SETTINGS_FILE)
    run_workers(train_worker, settings.processes, settings, out, resumes)


def train_worker(worker: Worker, settings: TrainingSettings, out: Path, resumes: bool) -> None:
    """Do one process's part of the training; all processes hold equal weights at every step."""
    tokenizer = Tokenizer.load(out / VOCABULARY_FILE)
    torch.manual_seed(settings.seed)
    networks = Networks.fresh(tokenizer.size, worker.device)
    is_resumed = resumes and (out / TEACHER_FILE).exists()
    if settings.start_from and not is_resumed:
        start_from(networks, tokenizer, Path(settings.start_from))
    average = networks.copied()
    matrices, others = split_parameters(networks.modules())
    muon = Muon(matrices, worker.rank, worker.processes)
    adam = torch.optim.AdamW(others, settings.adam_rate, betas=ADAM_BETAS, weight_decay=0, fused=True)
    progress = Progress()
    if is_resumed:
        progress = load_training(out / TEACHER_FILE, networks, average, muon, adam)
    # A resumed run draws other units than the ones it has seen.
    seed = settings.seed + 1000 * (worker.rank + 1) + progress.step
    batches, words = draw_batches(settings, tokenizer, seed), seeded_words(seed)
    journal = Journal(worker, settings=settings, out=out, networks=networks, average=average, tokenizer=tokenizer)
    started_s = time.monotonic() - progress.elapsed_s
    share = progress.elapsed_s / 60 / settings.minutes
    while share < 1:
        units, ids, numbers = next(batches)
        plates_loss, palette_loss = losses(networks, units, ids, numbers, settings, device=worker.device)
        sayings = say_again(units, settings.sayings, tokenizer, words)
        palette_loss = (palette_loss + sayings_loss(networks, sayings, worker.device)) / 2
        for parameter in networks.parameters():
            parameter.grad = None
        torch.autograd.backward(plates_loss + settings.palette_weight * palette_loss)
        elapsed_share = (time.monotonic() - started_s) / 60 / settings.minutes
        share = average_gradients(worker, networks.parameters(), elapsed_share)
        nn.utils.clip_grad_norm_(networks.parameters(), settings.gradient_limit)
        rate = settings.peak_rate * rate_at(settings, progress.step, share)
        muon.step(settings.muon_rate * rate)
        adam.param_groups[0]["lr"] = settings.adam_rate * rate
        adam.step()
        progress.step += 1
        progress.samples += settings.batch * worker.processes
        progress.elapsed_s = time.monotonic() - started_s
        average_weights(average.parameters(), networks.parameters(), settings.ema_rate, progress.step)
        journal.note(progress, plates_loss.item(), palette_loss.item())
        if journal.is_checkpoint_due(progress, share):
            save_training(out / TEACHER_FILE, networks, average, muon, adam, progress=progress)


def start_from(networks: Networks, tokenizer: Tokenizer, bundle: Path) -> None:
    """Take over a bundle's weights. Words new to it keep their fresh rows; parts it has no weights for stay as made."""
    text_encoder, denoiser = load_student(bundle)
    known = Tokenizer.load(bundle / "tokenizer" / VOCABULARY_FILE).numbers
    shared = [(number, known[word]) for word, number in tokenizer.numbers.items() if word in known]
    rows, old_rows = ([0, 1, *part] for part in zip(*shared, strict=True))  # padding and unknown lead both
    state = text_encoder.state_dict()
    with torch.no_grad():
        for name in ("words.weight", "word_sum.weight"):
            table = networks.text_encoder.state_dict()[name].clone()
            table[rows] = state[name][old_rows].to(table.device)
            state[name] = table
    networks.text_encoder.load_state_dict(state)
    networks.denoiser.load_state_dict(denoiser.state_dict())


def _named(directory: str) -> str:
    bundle = open_bundle(Path(directory))
    return f"{bundle.name}-{bundle.version}:{bundle.digest}"


def rate_at(settings: TrainingSettings, step: int, share: float) -> float:
    """Return the learning rate's factor: a short warm-up, level, then down to nothing."""
    warm = min(1.0, (step + 1) / settings.warm_up_steps)
    left = min(1.0, (1 - share) / (1 - settings.decay_from))
    return warm * max(0.02, left)


def main() -> None:
    """Read the command line; train, and distil if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, samples and logs")
    parser.add_argument("--minutes", type=float, default=TrainingSettings().minutes, help="0 trains nothing")
    parser.add_argument("--distil-minutes", type=float, default=0.0, help="0 distils nothing")
    parser.add_argument("--processes", type=int, default=TrainingSettings().processes)
    parser.add_argument("--start-from", default="", help="bundle whose weights to begin with")
    parser.add_argument("--peak-rate", type=float, default=1.0, help="of the learning rates; less after --start-from")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    chosen = parser.parse_args()
    if chosen.minutes > 0:
        settings = TrainingSettings(
            minutes=chosen.minutes,
            processes=chosen.processes,
            start_from=chosen.start_from,
            peak_rate=chosen.peak_rate,
        )
        train(settings, chosen.out, chosen.resume)
    if chosen.distil_minutes > 0:
        distil(DistillationSettings(minutes=chosen.distil_minutes, processes=chosen.processes), chosen.out)


if __name__ == "__main__":
    main()
