"""What a training run tells: losses by the step, validation, gate figures and contact sheets by the minute."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from halfdrop.models.house.checkpoint import Networks, Progress
from halfdrop.models.house.classifier import judge_path, load_judge, recognised
from halfdrop.models.house.data import encode_texts, seeded_units
from halfdrop.models.house.inks import SAME
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.losses import losses
from halfdrop.models.house.net import parameter_count
from halfdrop.models.house.precision import mixed_precision
from halfdrop.models.house.prompts import PROMPTS_24
from halfdrop.models.house.report import say
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates, save_sheet
from halfdrop.models.house.settings import TrainingSettings
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.workers import Worker

LOG_EVERY_STEPS = 25
VALIDATE_EVERY_STEPS = 200
VALIDATION_SEED = 777
SAMPLE_STEPS, SAMPLE_GUIDANCE = 8, 2.0
CONTACT_SEED = 24


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
            self._tell(line)
        if time.monotonic() - self._samples_s > self._settings.samples_s:
            self._samples_s = time.monotonic()
            self._draw_samples(progress)

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

    def _draw_samples(self, progress: Progress) -> None:
        """Draw the contact sheet, and let the judge name a unit of each kind if there is a judge."""
        average = self._average.copied()
        average.text_encoder.cpu()
        average.denoiser.cpu()
        plates, palette = self._sampled(average, PROMPTS_24, [CONTACT_SEED] * len(PROMPTS_24))
        save_sheet(plates, palette, self._out / "samples.png", unit_px=96)
        if judge_path().exists():
            first = torch.tensor([(self._validation.kinds == kind).nonzero()[0, 0] for kind in range(len(KIND_NAMES))])
            asked = self._validation.picked(first)
            plates, palette = self._sampled(average, asked.texts, range(len(KIND_NAMES)))
            is_painted = (palette - asked.palette).abs().amax(2) < SAME
            colours = (is_painted * asked.is_used).sum() / asked.is_used.sum()
            is_right = recognised(load_judge(), plates, asked.kinds).float()
            self._tell(
                {
                    "step": progress.step,
                    "gate_kind_accuracy": round(is_right.mean().item(), 3),
                    "gate_colour_accuracy": round(colours.item(), 3),
                }
            )

    def _sampled(self, average: Networks, texts: Sequence[str], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        ids, noise = encode_texts(self._tokenizer, texts), noise_of_seeds(seeds)
        with mixed_precision("cpu"):
            return sample_plates(
                average.text_encoder, average.denoiser, ids, noise, steps=SAMPLE_STEPS, guidance=SAMPLE_GUIDANCE
            )

    def _tell(self, line: dict[str, float]) -> None:
        say(json.dumps(line))
        with (self._out / "loss.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _smoothed(past: float, newest: float) -> float:
    return newest if past == 0 else 0.98 * past + 0.02 * newest
