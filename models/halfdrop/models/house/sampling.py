"""Draw a unit's plates with ONNX Runtime and numpy alone: what an edge does for every cold preview.

The student walks from noise to plates in a few steps. A step asks the denoiser for the clean plates and moves the
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

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.cell_rows import lattice_inputs, to_fields, to_rows
from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.schedule import CLEAN_LIMIT, STUDENT_STEPS, time_steps
from halfdrop.models.house.tokenizer import PAD
from halfdrop.models.house.torus import lattice_of

Floats = NDArray[np.float32]

STEPS_MAX = 8
NEGATIVE_GUIDANCE = 1.5
"""How far from a negative prompt the plates are drawn when the caller does not say: 1 is not at all, above 3 tears."""

STRAIGHT_REPEAT = Repeat()

OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all) after each step; may raise to stop the drawing."""

OnState = Callable[[Floats, Floats], None]
"""Given, after each step but the last, what the model takes the clean plates for by then: fields and palette."""


def session_options() -> onnxruntime.SessionOptions:
    """Return the options of every session: one thread, since a core serves more previews with one session each than
    with threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return options


def open_session(
    model: Path | bytes, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """Return a session of a model's file, or of its bytes, with `session_options` unless others are given."""
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options or session_options(), providers=["CPUExecutionProvider"])


def draw_plates(
    text_session: onnxruntime.InferenceSession,
    denoiser_session: onnxruntime.InferenceSession,
    ids: Sequence[int],
    seed: int,
    steps: int = STUDENT_STEPS,
    *,
    negative_ids: Sequence[int] | None = None,
    guidance: float = NEGATIVE_GUIDANCE,
    repeat: Repeat = STRAIGHT_REPEAT,
    on_step: OnStep | None = None,
    on_state: OnState | None = None,
) -> tuple[Floats, Floats]:
    """Return the fields [4, 64, 64] in [-1, 1] and the palette [5, 3], sRGB 0 to 1, of a prompt.

    ids: the tokenizer's 32 numbers. steps: 1 to 8; the student is distilled for STUDENT_STEPS. Fewer melt fine lines
    (1 step is a rough draft); more cost time and add nothing but sharper specks. negative_ids: what not to draw; it
    costs a second evaluation each step and is weighed by `guidance` (1 to 3); without it, guidance has no meaning,
    because the student's own is distilled into it. repeat: whose lattice the unit is drawn for. The palette is the
    prompt's alone. Raises what on_step and on_state raise.
    """
    assert 1 <= steps <= STEPS_MAX, f"steps must be 1 to {STEPS_MAX}, got {steps}"
    levels, lattice = time_steps(steps), lattice_inputs(lattice_of(repeat))
    told, palette = _read_prompt(text_session, ids, levels[:-1], lattice["drop"])
    avoided: Floats | None = None
    if negative_ids is not None:
        avoided, _ = _read_prompt(text_session, negative_ids, levels[:-1], lattice["drop"])
    rows = to_rows(seeded_noise(seed))
    for index, (level, next_level) in enumerate(pairwise(levels), 1):
        inputs = {"z": rows, "told": told[index - 1], **{name: lattice[name] for name in ("ring", "cos", "sin")}}
        clean: Floats = denoiser_session.run(["x"], inputs)[0]
        if avoided is not None:
            without: Floats = denoiser_session.run(["x"], {**inputs, "told": avoided[index - 1]})[0]
            clean = without + np.float32(guidance) * (clean - without)
        if next_level == 0:
            rows = clean
        else:
            clean = np.clip(clean, -CLEAN_LIMIT, CLEAN_LIMIT)
            if on_state is not None:
                on_state(to_fields(np.clip(clean, -1, 1)), palette)
            rows = clean + (rows - clean) * np.float32(next_level / level)
        if on_step is not None:
            on_step(index, steps)
    return to_fields(np.clip(rows, -1, 1)), palette


def _read_prompt(
    session: onnxruntime.InferenceSession, ids: Sequence[int], levels: Sequence[float], drop: Floats
) -> tuple[Floats, Floats]:
    """Return what the denoiser is told at each level, and the palette [5, 3]. The graph takes tokens unpadded."""
    words = [number for number in ids if number != PAD]
    inputs = {"ids": np.array([words], np.int64), "t": np.array(levels, np.float32), "drop": drop}
    told, palette = session.run(["told", "palette"], inputs)
    return told, palette[0]
