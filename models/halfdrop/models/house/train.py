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
from torch import Tensor, nn

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
from halfdrop.models.house.data import Sayings, Units, build_tokenizer, encode_texts, say_again, seeded_units
from halfdrop.models.house.distil import distil
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.net import load_student, parameter_count, torus_tensors
from halfdrop.models.house.optimizer import Muon, split_parameters
from halfdrop.models.house.precision import mixed_precision
from halfdrop.models.house.prompts import PROMPTS_24
from halfdrop.models.house.report import say
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates, save_sheet
from halfdrop.models.house.settings import DistillationSettings, TrainingSettings
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import LATTICES, torus_of
from halfdrop.models.house.workers import Worker, average_gradients, average_weights, column, run_workers

LOG_EVERY_STEPS = 25
VALIDATE_EVERY_STEPS = 200
VALIDATION_SEED = 777
ADAM_BETAS = (0.9, 0.98)
SAMPLE_STEPS, SAMPLE_GUIDANCE = 8, 2.0
CONTACT_SEED = 24


def train(settings: TrainingSettings, out: Path, resumes: bool) -> None:
    """Train the teacher for `settings.minutes` and leave its state in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    if not resumes or not (out / VOCABULARY_FILE).exists():
        build_tokenizer().save(out / VOCABULARY_FILE)
    save_settings(settings, out / TEACHER_SETTINGS_FILE)
    run_workers(train_worker, settings.processes, settings, out, resumes)


def train_worker(worker: Worker, settings: TrainingSettings, out: Path, resumes: bool) -> None:
    """Do one process's part of the training; all processes hold equal weights at every step."""
    tokenizer = Tokenizer.load(out / VOCABULARY_FILE)
    torch.manual_seed(settings.seed)
    networks = Networks.fresh(tokenizer.size, worker.device)
    if settings.start_from:
        start_from(networks, tokenizer, Path(settings.start_from))
    average = networks.copied()
    matrices, others = split_parameters(networks.modules())
    muon = Muon(matrices, worker.rank, worker.processes)
    adam = torch.optim.AdamW(others, settings.adam_rate, betas=ADAM_BETAS, weight_decay=0, fused=True)
    progress = Progress()
    if resumes and (out / TEACHER_FILE).exists():
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


def rate_at(settings: TrainingSettings, step: int, share: float) -> float:
    """Return the learning rate's factor: a short warm-up, level, then down to nothing."""
    warm = min(1.0, (step + 1) / settings.warm_up_steps)
    left = min(1.0, (1 - share) / (1 - settings.decay_from))
    return warm * max(0.02, left)


def losses(
    networks: Networks,
    units: Units,
    ids: Tensor,
    numbers: torch.Generator,
    settings: TrainingSettings,
    *,
    device: str,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the plates (in velocity's measure) and of the palette's visible colours."""
    batch = len(ids)
    level = draw_levels(settings, batch, numbers).to(device)
    noise = torch.randn(units.plates.shape, generator=numbers).to(device)
    is_dropped = (torch.rand(batch, generator=numbers) < settings.drop_chance).to(device)
    plates = units.plates.to(device)
    torus = torus_tensors([torus_of(LATTICES[index]) for index in units.lattices.tolist()], device)
    noised = (1 - column(level)) * plates + column(level) * noise
    with mixed_precision(device):
        condition, palette = networks.text_encoder(ids.to(device))
        nothing = networks.denoiser.unconditional.to(condition.dtype)
        told = torch.where(is_dropped[:, None], nothing, condition)
        clean = networks.denoiser(noised, level, told, torus)
    weight = 1 / level.clamp(min=settings.level_floor) ** 2
    plates_loss = (((clean.float() - plates) ** 2).mean((1, 2, 3)) * weight).mean()
    return plates_loss, _palette_loss(palette, units.palette.to(device), units.is_used.to(device))


def sayings_loss(networks: Networks, sayings: Sayings, device: str) -> Tensor:
    """Return the palette's loss of captions that have no units."""
    with mixed_precision(device):
        _, palette = networks.text_encoder(sayings.ids.to(device))
    return _palette_loss(palette, sayings.palette.to(device), sayings.is_used.to(device))


def _palette_loss(palette: Tensor, wanted: Tensor, is_used: Tensor) -> Tensor:
    error = ((palette.float() - wanted) ** 2).mean(2)
    return (error * is_used).sum() / is_used.sum()


def draw_levels(settings: TrainingSettings, count: int, numbers: torch.Generator) -> Tensor:
    """Return noise levels [count]: most of them spread over all, the rest near pure noise."""
    spread = torch.sigmoid(torch.randn(count, generator=numbers) + settings.level_mean).clamp(min=0.01)
    noisiest = settings.noisiest_from + (1 - settings.noisiest_from) * torch.rand(count, generator=numbers)
    is_noisiest = torch.rand(count, generator=numbers) < settings.noisiest_share
    return torch.where(is_noisiest, noisiest, spread)


class Journal:
    """What the leading process tells of a run: lines, a loss file, contact sheets, and when to checkpoint."""

    def __init__(
        self,
        worker: Worker,
        *,
        settings: TrainingSettings,
        out: Path,
        networks: Networks,
        average: Networks,
        tokenizer: Tokenizer,
    ) -> None:
        self._worker, self._settings, self._out, self._average = worker, settings, out, average
        self._tokenizer = tokenizer
        self._plates_loss = self._palette_loss = 0.0
        self._checkpoint_s = self._samples_s = time.monotonic()
        if worker.leads:
            count = parameter_count(*networks.modules())
            say(f"{count / 1e6:.2f} M parameters, {tokenizer.size} tokens, {worker.device}")
            self._validation = seeded_units(4, VALIDATION_SEED, mixes=4)

    def note(self, progress: Progress, plates_loss: float, palette_loss: float) -> None:
        """Take down one step; now and then print it."""
        if not self._worker.leads:
            return
        self._plates_loss = _smoothed(self._plates_loss, plates_loss)
        self._palette_loss = _smoothed(self._palette_loss, palette_loss)
        if progress.step % LOG_EVERY_STEPS == 0:
            line: dict[str, float] = {
                "step": progress.step,
                "samples": progress.samples,
                "elapsed_s": round(progress.elapsed_s, 1),
                "plates_loss": round(self._plates_loss, 5),
                "palette_loss": round(self._palette_loss, 6),
            }
            if progress.step % VALIDATE_EVERY_STEPS == 0:
                line |= self._validate()
            say(json.dumps(line))
            with (self._out / "loss.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if time.monotonic() - self._samples_s > self._settings.samples_s:
            self._samples_s = time.monotonic()
            self._draw_samples()

    def is_checkpoint_due(self, progress: Progress, share: float) -> bool:
        """Return whether the state should be written now: every minute, and at the end."""
        is_due = share >= 1 or time.monotonic() - self._checkpoint_s > self._settings.checkpoint_s
        if is_due:
            self._checkpoint_s = time.monotonic()
        return is_due and self._worker.leads

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return the averaged weights' losses on units and noise that never change."""
        ids = encode_texts(self._tokenizer, self._validation.texts)
        numbers = torch.Generator().manual_seed(VALIDATION_SEED)
        settings = replace(self._settings, drop_chance=0.0)
        plates_loss, palette_loss = losses(
            self._average, self._validation, ids, numbers, settings, device=self._worker.device
        )
        return {
            "validation_plates_loss": round(plates_loss.item(), 5),
            "validation_palette_loss": round(palette_loss.item(), 6),
        }

    def _draw_samples(self) -> None:
        average = self._average.copied()
        average.text_encoder.cpu()
        average.denoiser.cpu()
        ids = encode_texts(self._tokenizer, PROMPTS_24)
        noise = noise_of_seeds([CONTACT_SEED] * len(PROMPTS_24))
        with mixed_precision("cpu"):
            plates, palette = sample_plates(
                average.text_encoder, average.denoiser, ids, noise, steps=SAMPLE_STEPS, guidance=SAMPLE_GUIDANCE
            )
        save_sheet(plates, palette, self._out / "samples.png", unit_px=96)


def _smoothed(past: float, newest: float) -> float:
    return newest if past == 0 else 0.98 * past + 0.02 * newest


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
