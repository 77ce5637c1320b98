"""The gates of an export: it draws what the checkpoint draws, repeats as it does, and its speed is told.

All three pictures (torch, ONNX in float32, ONNX in INT8) start from the same noise and take the same steps.
"""

import resource
import time
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import optimum.onnxruntime
import torch
from diffusers.utils import logging as diffusers_logging

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import GUIDANCE_SCALE, Bytes, Checkpoint
from halfdrop.hub.checkpoints.tiles import lay_tile
from halfdrop.hub.checkpoints.trial import TRIAL_PROMPT, TRIAL_STEPS
from halfdrop.models.pixel_seams import border_step_ratio

FLOAT_PSNR_MIN_DB = 45.0
"""ONNX in float32 against torch: the same arithmetic in another order. A padding that was lost gives 10 to 20."""

INT8_PSNR_MIN_DB = 25.0
"""INT8 against float32 after the trial's steps with guidance: the same picture to the eye, grain apart."""

SEAM_RATIO_MAX = 1.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One picture, and how long a step of it took."""

    unit: Bytes
    """[H, W, 3]."""
    step_s: float
    """Median of all steps after the first."""


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of an export; it goes into the manifest."""

    unit_px: int
    num_inference_steps: int
    onnx_psnr_db: float
    """ONNX in float32 against torch; 100 means equal."""
    int8_psnr_db: float
    """INT8 against ONNX in float32."""
    seam_ratio_float: float
    seam_ratio_int8: float
    torch_step_s: float
    float_step_s: float
    int8_step_s: float
    peak_rss_bytes: int

    def failure(self) -> str:
        """Return what failed, with what was got and allowed; empty if the export is as good as it must be."""
        if self.onnx_psnr_db < FLOAT_PSNR_MIN_DB:
            return f"float32 against the checkpoint: got {self.onnx_psnr_db} dB; allowed: {FLOAT_PSNR_MIN_DB:g} or more"
        if self.int8_psnr_db < INT8_PSNR_MIN_DB:
            return f"INT8 against float32: got {self.int8_psnr_db} dB; allowed: {INT8_PSNR_MIN_DB:g} or more"
        limit = max(SEAM_RATIO_MAX, self.seam_ratio_float)  # a picture may have a strong line of its own on the border
        if self.seam_ratio_int8 > limit:
            return f"seams: got {self.seam_ratio_int8}; allowed: up to {limit:g}"
        return ""


def draw_torch(checkpoint: Checkpoint, repeat: Repeat) -> Drawn:
    """Return the trial's picture as the checkpoint draws it."""
    times_s = [time.perf_counter()]
    (unit,) = checkpoint.draw(
        [TRIAL_PROMPT],
        [0],
        repeat,
        _size_px(checkpoint, repeat),
        num_inference_steps=TRIAL_STEPS,
        on_step=lambda *_: times_s.append(time.perf_counter()),
    )
    return Drawn(unit=unit, step_s=_step_s(times_s))


def draw_onnx(checkpoint: Checkpoint, folder: Path, repeat: Repeat) -> Drawn:
    """Return the trial's picture as the ONNX pipeline in `folder` draws it."""
    kind = getattr(optimum.onnxruntime, f"ORT{checkpoint.layout.family.pipeline}")
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()  # it preaches about safety checkers
    try:
        pipeline = kind.from_pretrained(folder, export=False, local_files_only=True)
    finally:
        diffusers_logging.set_verbosity(verbosity)
    pipeline.set_progress_bar_config(disable=True)
    times_s = [time.perf_counter()]

    def end_step(_: Any, __: int, ___: Any, values: dict[str, Any]) -> dict[str, Any]:
        times_s.append(time.perf_counter())
        return values

    size_px = _size_px(checkpoint, repeat)
    (image,) = pipeline(
        TRIAL_PROMPT,
        height=size_px,
        width=size_px,
        guidance_scale=GUIDANCE_SCALE,
        num_inference_steps=TRIAL_STEPS,
        generator=[torch.Generator("cpu").manual_seed(0)],
        output_type="np",
        callback_on_step_end=end_step,
        **checkpoint.conditions(),
    ).images
    return Drawn(unit=np.rint(image * 255).astype(np.uint8), step_s=_step_s(times_s))


def judge(exact: Drawn, floats: Drawn, int8: Drawn, repeat: Repeat) -> Gates:
    """Return the figures of an export."""
    return Gates(
        unit_px=len(exact.unit),
        num_inference_steps=TRIAL_STEPS,
        onnx_psnr_db=_psnr_db(floats.unit, exact.unit),
        int8_psnr_db=_psnr_db(int8.unit, floats.unit),
        seam_ratio_float=round(border_step_ratio(lay_tile(floats.unit, repeat), repeat), 3),
        seam_ratio_int8=round(border_step_ratio(lay_tile(int8.unit, repeat), repeat), 3),
        torch_step_s=exact.step_s,
        float_step_s=floats.step_s,
        int8_step_s=int8.step_s,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _size_px(checkpoint: Checkpoint, repeat: Repeat) -> int:
    return checkpoint.fit_size_px(checkpoint.native_px // 2, repeat)


def _step_s(times_s: list[float]) -> float:
    steps = sorted(np.diff(times_s[1:]).tolist())
    return round(steps[len(steps) // 2], 4)


def _psnr_db(one: Bytes, other: Bytes) -> float:
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return round(min(100.0, 10 * log10(255**2 / error)), 2) if error else 100.0
