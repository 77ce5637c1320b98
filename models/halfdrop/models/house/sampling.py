"""Draw a unit's plates with ONNX Runtime and numpy alone: what an edge does for every cold preview.

The student walks from noise to plates in four steps. A step asks the denoiser for the clean plates and moves the
noisy ones towards them, to the next of `schedule.time_steps`. `seed` fixes the noise, so one seed, one prompt and
one bundle are one picture, on the hub as at the edge (within the rounding of INT8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.schedule import CLEAN_LIMIT, STUDENT_STEPS, time_steps

Floats = NDArray[np.float32]

STEPS_MAX = 8
NEGATIVE_GUIDANCE = 1.5
"""How far from a negative prompt the plates are drawn when the caller does not say: 1 is not at all, above 3 tears."""

OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all) after each step; may raise to stop the drawing."""


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """Return a session of one thread: a core serves more previews with one session each than with threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def draw_plates(
    text_session: onnxruntime.InferenceSession,
    denoiser_session: onnxruntime.InferenceSession,
    ids: Sequence[int],
    seed: int,
    steps: int = STUDENT_STEPS,
    *,
    negative_ids: Sequence[int] | None = None,
    guidance: float = NEGATIVE_GUIDANCE,
    on_step: OnStep | None = None,
) -> tuple[Floats, Floats]:
    """Return the fields [4, 64, 64] in [-1, 1] and the palette [5, 3], sRGB 0 to 1, of a prompt.

    ids: the tokenizer's 32 numbers. steps: 1 to 8; the student is distilled for 4. Fewer melt fine lines (1 step is a
    rough draft); more cost time and add nothing but sharper specks. negative_ids: what not to draw; it costs a second
    evaluation each step and is weighed by `guidance` (1 to 3); without it, guidance has no meaning, because the
    student's own is distilled into it. The palette is the prompt's alone. Raises what on_step raises.
    """
    assert 1 <= steps <= STEPS_MAX, f"steps must be 1 to {STEPS_MAX}, got {steps}"
    prompts = [ids] if negative_ids is None else [ids, negative_ids]
    condition, palette = text_session.run(["c", "palette"], {"ids": np.array(prompts, np.int64)})
    levels = time_steps(steps)
    fields = seeded_noise(seed)
    for index, (level, next_level) in enumerate(pairwise(levels), 1):
        clean = _predict_clean(denoiser_session, fields, level, condition, guidance)
        if next_level == 0:
            fields = clean
        else:
            clean = np.clip(clean, -CLEAN_LIMIT, CLEAN_LIMIT)
            fields = clean + (fields - clean) * np.float32(next_level / level)
        if on_step is not None:
            on_step(index, steps)
    return np.clip(fields, -1, 1), palette[0]


def _predict_clean(
    session: onnxruntime.InferenceSession, fields: Floats, level: float, condition: Floats, guidance: float
) -> Floats:
    """Return the clean fields; with two conditions, the first's drawn away from the second's."""
    count = len(condition)
    inputs = {
        "z": np.repeat(fields[None], count, axis=0),
        "t": np.full(count, level, np.float32),
        "c": condition,
    }
    clean: Floats = session.run(["x"], inputs)[0]
    wanted: Floats = clean[0]
    if count > 1:
        wanted = clean[1] + np.float32(guidance) * (wanted - clean[1])
    return wanted
