"""What a refiner does to units it has never seen, in figures: its gates, and what its bundle's manifest tells.

Edges are measured against exact ones: on held-out pairs, whose exact side is known, and on the preview model's own
units, whose nearest exact unit must be looked for. All distances are in thousandths of the unit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields, tidy_fields
from halfdrop.models.house.data import seeded_units
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, KIND_NAMES
from halfdrop.models.house.kinds.fields import GRID
from halfdrop.models.house.net import load_student
from halfdrop.models.house.refiner.degrading import displacement_px
from halfdrop.models.house.refiner.pairs import FINE_GRID, Student, held_out_pairs
from halfdrop.models.house.refiner.settings import RefinerSettings
from halfdrop.models.house.refining import Refiner, open_refiner
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates
from halfdrop.models.house.schedule import STUDENT_STEPS
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.renderer import Bytes, compose_tile

SEED = 90_210
"""Neither training nor its validation draws from this seed."""
EXEMPLARS = 120
"""Exact units of each kind among which the nearest to a drawn one is looked for."""
PREVIEW_PX, MASTER_PX = 256, 1024
WINDOW_PX = 7
LEVEL_1, LEVEL_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""SSIM's two constants, for levels up to 255. Source: Wang et al., IEEE Trans. Image Processing 13 (2004)."""

Figures = dict[str, float]


def measure_refiner(refiner_dir: Path, student_dir: Path, per_kind: int = 1) -> Figures:
    """Return a refiner's figures on `per_kind` pairs and samples of each kind; some minutes on one core."""
    refiner = open_refiner(refiner_dir)
    return {
        **_measure_pairs(refiner, student_dir, per_kind),
        **_measure_samples(refiner, student_dir, per_kind),
    }


def _measure_pairs(refiner: Refiner, student_dir: Path, per_kind: int) -> Figures:
    """Pairs: units of every ruled kind as the student spoils them, and exact ones, which should stay exact."""
    tokenizer = Tokenizer({})
    settings = RefinerSettings(units_per_kind=per_kind, student_share=1.0, exact_share=0.0)
    spoilt, texts = held_out_pairs(settings, Student(student_dir), tokenizer, SEED)
    untouched = replace(settings, student_share=0.0, exact_share=1.0)
    exact, _ = held_out_pairs(untouched, Student(student_dir), tokenizer, SEED)
    before, after, elapsed_ms = _errors(refiner, spoilt.coarse, spoilt.fine, texts)
    _, after_exact, _ = _errors(refiner, exact.coarse, exact.fine, texts)
    return {
        "pairs": float(len(texts)),
        "pair_error_before_p50": _quantile(before, 0.5),
        "pair_error_before_p90": _quantile(before, 0.9),
        "pair_error_after_p50": _quantile(after, 0.5),
        "pair_error_after_p90": _quantile(after, 0.9),
        "pairs_nearer": round(float(np.mean(np.array(after) < np.array(before))), 3),
        "exact_error_after_p50": _quantile(after_exact, 0.5),
        "refine_ms_p50": _quantile(elapsed_ms, 0.5),
    }


def _errors(
    refiner: Refiner, coarse: Tensor, fine: Tensor, texts: Sequence[str]
) -> tuple[list[float], list[float], list[float]]:
    """Return each unit's mean edge error, enlarged and refined, in thousandths of the unit, and the time in ms."""
    enlarged, drawn, elapsed_ms = [], [], []
    for fields, text in zip(coarse.numpy(), texts, strict=True):
        began_s = time.perf_counter()
        drawn.append(refiner.refine(fields, text))
        elapsed_ms.append(1e3 * (time.perf_counter() - began_s))
        enlarged.append(refiner.enlarge(fields))
    return _thousandths(enlarged, fine), _thousandths(drawn, fine), elapsed_ms


def _measure_samples(refiner: Refiner, student_dir: Path, per_kind: int) -> Figures:
    """The preview model's own units: their edges against the nearest exact unit's, and the likeness of the pictures."""
    before, after, likeness, layers, kept = [], [], [], 0, 0
    kinds = [kind for kind in KIND_NAMES if kind not in FREE_FORMS]
    asked = seeded_units(per_kind, SEED, kinds)
    drawn = _sample(student_dir, asked.texts)
    for unit, (fields, text) in enumerate(zip(drawn, asked.texts, strict=True)):
        refined = refiner.refine_layers(fields, text)
        layers += len(refined.refined) + len(refined.kept)
        kept += len(refined.kept)
        exact = _nearest(fields, KIND_NAMES[int(asked.kinds[unit])])
        before += _thousandths([refiner.enlarge(fields)], exact)
        after += _thousandths([refined.fields], exact)
        palette = [_hex(colour) for colour in asked.palette[unit].tolist()]
        likeness.append(_likeness(fields, refined.fields, palette))
    return {
        "samples": float(len(before)),
        "sample_error_before_p50": _quantile(before, 0.5),
        "sample_error_after_p50": _quantile(after, 0.5),
        "sample_error_before_p90": _quantile(before, 0.9),
        "sample_error_after_p90": _quantile(after, 0.9),
        "samples_nearer": round(float(np.mean(np.array(after) < np.array(before))), 3),
        "layers_kept_share": round(kept / max(layers, 1), 4),
        "preview_master_ssim_p50": _quantile(likeness, 0.5),
        "preview_master_ssim_min": round(min(likeness), 4),
    }


def _sample(student_dir: Path, texts: Sequence[str]) -> list[Fields]:
    """Return the student's units for the texts, tidied as the edge tidies them; unit i has seed i."""
    text_encoder, denoiser = load_student(student_dir)
    tokenizer = Tokenizer.load(student_dir / "tokenizer" / "vocab.json")
    drawn: list[Fields] = []
    for start in range(0, len(texts), 32):
        part = texts[start : start + 32]
        ids = torch.tensor([tokenizer.encode(text) for text in part])
        noise = noise_of_seeds(range(start, start + len(part)))
        plates, _ = sample_plates(text_encoder, denoiser, ids, noise, steps=STUDENT_STEPS)
        drawn += [tidy_fields(unit) for unit in plates.numpy()]
    return drawn


def _nearest(fields: Fields, kind: str) -> Tensor:
    """Return the exact unit of a kind, [1, 4, 128, 128], whose edges lie nearest to the drawn ones."""
    coarse = seeded_units(EXEMPLARS, SEED + 1, [kind]).plates
    errors = displacement_px(torch.from_numpy(fields).expand(len(coarse), -1, -1, -1), coarse)
    return seeded_units(EXEMPLARS, SEED + 1, [kind], grid=FINE_GRID).plates[errors.argmin()][None]


def _thousandths(drawn: Sequence[Fields], exact: Tensor) -> list[float]:
    errors_px = displacement_px(torch.from_numpy(np.stack(drawn)), exact)
    return [float(error) * 1000 / GRID for error in errors_px]


def _likeness(preview: Fields, refined: Fields, palette: Sequence[str]) -> float:
    """Return the SSIM of the preview and the refined master reduced to its size."""
    repeat = Repeat(units=2)
    small = compose_tile(preview, palette, repeat, PREVIEW_PX)
    master = compose_tile(refined, palette, repeat, MASTER_PX).astype(np.float32)
    over = MASTER_PX // PREVIEW_PX
    reduced = master.reshape(PREVIEW_PX, over, PREVIEW_PX, over, 3).mean((1, 3))
    return ssim(small, np.rint(reduced).astype(np.uint8))


def ssim(one: Bytes, other: Bytes) -> float:
    """Return the mean structural similarity of two images, [height, width, 3] sRGB, over windows of 7 by 7."""
    stack = torch.from_numpy(np.stack([one, other]).astype(np.float32)).permute(0, 3, 1, 2)

    def mean(image: Tensor) -> Tensor:
        return functional.avg_pool2d(image, WINDOW_PX, 1)

    x, y = stack
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    both = mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + LEVEL_1) * (2 * both + LEVEL_2)
    return float((top / ((mean_x**2 + mean_y**2 + LEVEL_1) * (variance_x + variance_y + LEVEL_2))).mean())


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * level):02x}" for level in colour)


def _quantile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 4)
