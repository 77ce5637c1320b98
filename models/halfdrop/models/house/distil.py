"""Distil the teacher into the student that is shipped: few steps, no guidance pass.

From a noised unit the guided teacher takes two half steps; the student must land in the same place in one whole
step. Only the denoiser is trained: condition and palette stay the teacher's.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from halfdrop.models.house.batches import draw_batches
from halfdrop.models.house.checkpoint import (
    STUDENT_FILE,
    STUDENT_SETTINGS_FILE,
    TEACHER_FILE,
    VOCABULARY_FILE,
    Networks,
    save_atomically,
    save_settings,
)
from halfdrop.models.house.net import Denoiser, TorusTensors, torus_tensors
from halfdrop.models.house.precision import mixed_precision
from halfdrop.models.house.report import say
from halfdrop.models.house.sampling_torch import predict_clean
from halfdrop.models.house.schedule import CLEAN_LIMIT, SHIFT, STUDENT_STEPS
from halfdrop.models.house.settings import DistillationSettings
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import LATTICES, torus_of
from halfdrop.models.house.workers import Worker, average_gradients, average_weights, column, run_workers

LOG_EVERY_STEPS = 10
WEIGHT_FLOOR = 0.3
ADAM_BETAS = (0.9, 0.98)


def distil(settings: DistillationSettings, out: Path) -> None:
    """Read the teacher's averaged weights in `out` and leave the student's there."""
    save_settings(settings, out / STUDENT_SETTINGS_FILE)
    run_workers(distil_worker, settings.processes, settings, out)


def distil_worker(worker: Worker, settings: DistillationSettings, out: Path) -> None:
    """Do one process's part of the distillation."""
    tokenizer = Tokenizer.load(out / VOCABULARY_FILE)
    saved = torch.load(out / TEACHER_FILE, weights_only=True)
    teacher = Networks.fresh(tokenizer.size, worker.device)
    teacher.load(saved["average"])
    student, average = copy.deepcopy(teacher.denoiser), copy.deepcopy(teacher.denoiser)
    parameters = [value for name, value in student.named_parameters() if name != "unconditional"]
    averages = [value for name, value in average.named_parameters() if name != "unconditional"]
    adam = torch.optim.AdamW(parameters, settings.adam_rate, betas=ADAM_BETAS, weight_decay=0, fused=True)
    batches = draw_batches(settings, tokenizer, settings.seed + worker.rank)
    started_s, step, share, shown = time.monotonic(), 0, 0.0, 0.0
    while share < 1:
        units, ids, numbers = next(batches)
        warm = min(1.0, (step + 1) / settings.warm_up_steps)
        adam.param_groups[0]["lr"] = settings.adam_rate * warm * max(0.05, 1 - share)
        plates, ids = units.plates.to(worker.device), ids.to(worker.device)
        noise = torch.randn(plates.shape, generator=numbers).to(worker.device)
        step_index = _draw_steps(settings.batch, numbers).to(worker.device)
        torus = torus_tensors([torus_of(LATTICES[index]) for index in units.lattices.tolist()], worker.device)
        loss = student_loss(
            teacher,
            student,
            plates,
            ids,
            noise=noise,
            step_index=step_index,
            guidance=settings.guidance,
            torus=torus,
        )
        adam.zero_grad()
        torch.autograd.backward(loss)
        elapsed_share = (time.monotonic() - started_s) / 60 / settings.minutes
        share = average_gradients(worker, parameters, elapsed_share)
        nn.utils.clip_grad_norm_(parameters, settings.gradient_limit)
        adam.step()
        step += 1
        average_weights(averages, parameters, settings.ema_rate, step)
        shown = loss.item() if step == 1 else 0.95 * shown + 0.05 * loss.item()
        if worker.leads and step % LOG_EVERY_STEPS == 0:
            say(f"distil step {step} samples {step * settings.batch * worker.processes} loss {shown:.5f}")
    if worker.leads:
        state = Networks(teacher.text_encoder, average).state()
        samples = step * settings.batch * worker.processes
        save_atomically({"student": state, "samples": samples}, out / STUDENT_FILE)


def student_loss(
    teacher: Networks,
    student: Denoiser,
    plates: Tensor,
    ids: Tensor,
    *,
    noise: Tensor,
    step_index: Tensor,
    guidance: float,
    torus: TorusTensors | None = None,
) -> Tensor:
    """Return how far the student's one step is from the teacher's two; steps count down, 1 is the last."""
    level, halfway, end = (_level(step_index - part) for part in (0.0, 0.5, 1.0))
    noised = (1 - column(level)) * plates + column(level) * noise
    with mixed_precision(plates.device.type):
        with torch.no_grad():
            condition, _ = teacher.text_encoder(ids)
            clean = predict_clean(teacher.denoiser, noised, level, condition, guidance=guidance, torus=torus)
            clean = clean.clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
            middle = clean + (noised - clean) * column(halfway / level)
            clean = predict_clean(teacher.denoiser, middle, halfway, condition, guidance=guidance, torus=torus)
            clean = clean.clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
            reached = clean + (middle - clean) * column(end / halfway)
            # What one prediction must be for a single step from `noised` to arrive at `reached`.
            ratio = column(end / level)
            wanted = torch.where(column(end) == 0, clean, (reached - ratio * noised) / (1 - ratio))
            wanted = wanted.clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
        drawn = student(noised, level, condition, torus)
    weight = 1 / level.clamp(min=WEIGHT_FLOOR) ** 2
    error: Tensor = ((drawn.float() - wanted) ** 2).mean((1, 2, 3))
    return (error * weight).mean()


def _draw_steps(count: int, numbers: torch.Generator) -> Tensor:
    """Return step numbers 1 to STUDENT_STEPS; a third at least are the first, which decides the composition."""
    steps = torch.randint(1, STUDENT_STEPS + 1, (count,), generator=numbers).float()
    steps[: count // 3] = STUDENT_STEPS
    return steps


def _level(step: Tensor) -> Tensor:
    even = step / STUDENT_STEPS
    return SHIFT * even / (1 + (SHIFT - 1) * even)
