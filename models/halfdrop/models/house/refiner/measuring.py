"""What a refiner does to units it has never seen, in figures: what its bundle's manifest tells.

Edges are held against exact ones: on held-out pairs, whose exact side is known, and on the preview model's own units,
by the gates' measure, against the true motif that each is most like. All distances are in thousandths of the unit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.house.gates.asking import Asked, ask
from halfdrop.models.house.gates.contours import measure_contours
from halfdrop.models.house.gates.drawing import Drawn, draw_asked
from halfdrop.models.house.gates.exact import Likeness
from halfdrop.models.house.gates.likenesses import Library
from halfdrop.models.house.gates.similarity import box_shrink, ssim
from halfdrop.models.house.kinds.fields import GRID
from halfdrop.models.house.refiner.degrading import displacement_px
from halfdrop.models.house.refiner.pairs import Pairs, Student, held_out_pairs
from halfdrop.models.house.refiner.settings import RefinerSettings
from halfdrop.models.house.refining import Refiner, open_refiner
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.renderer import compose_tile

SEED = 90_210
"""Neither training nor its validation draws from this seed."""
PREVIEW_PX, MASTER_TIMES = 256, 4

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A unit of the preview model's, and what it should have been."""

    asked: Asked
    drawn: Drawn
    true: Likeness | None
    """None for free forms, which no exact unit is like."""


def measure_refiner(refiner_dir: Path, student_dir: Path, per_kind: int = 1) -> Figures:
    """Return a refiner's figures on `per_kind` pairs and samples of each kind; some minutes on one core."""
    refiner = open_refiner(refiner_dir)
    pairs = measure_pairs(refiner, student_dir, per_kind)
    return {**pairs, **measure_samples(refiner, draw_samples(student_dir, per_kind))}


def measure_pairs(refiner: Refiner, student_dir: Path, per_kind: int) -> Figures:
    """Return what becomes of ruled units that the student spoilt, and of exact ones, which should stay exact."""
    settings = RefinerSettings(units_per_kind=per_kind, student_share=1.0, exact_share=0.0)
    untouched = replace(settings, student_share=0.0, exact_share=1.0)
    student, tokenizer = Student(student_dir), Tokenizer({})
    spoilt, texts = held_out_pairs(settings, student, tokenizer, SEED, restores=False)
    exact, _ = held_out_pairs(untouched, student, tokenizer, SEED)
    before, after = _errors(refiner, spoilt, texts)
    _, after_exact = _errors(refiner, exact, texts)
    return {
        "pairs": float(len(texts)),
        "pair_error_before_p50": _quantile(before, 0.5),
        "pair_error_after_p50": _quantile(after, 0.5),
        "pair_error_before_p90": _quantile(before, 0.9),
        "pair_error_after_p90": _quantile(after, 0.9),
        "pairs_nearer": round(float(np.mean(np.array(after) < np.array(before))), 3),
        "exact_error_after_p50": _quantile(after_exact, 0.5),
    }


def _errors(refiner: Refiner, pairs: Pairs, texts: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return each unit's mean edge error, enlarged and refined, in thousandths of the unit."""
    units = pairs.coarse.numpy()
    drawn = [refiner.refine_layers(fields, text).fields for fields, text in zip(units, texts, strict=True)]
    return _thousandths([refiner.enlarge(fields) for fields in units], pairs.fine), _thousandths(drawn, pairs.fine)


def draw_samples(bundle: Path, per_kind: int, seed: int = SEED) -> list[Sample]:
    """Return the preview model's own units, drawn as an edge draws them, and the true motifs they are most like.

    All are drawn for the straight lattice: shapes are measured here, the gates measure lattices.
    """
    asked = [replace(each, repeat=Repeat(units=2)) for each in ask(per_kind, seed)]
    drawn = draw_asked(bundle, asked, None, lambda _: None)
    library = Library(seed)
    return [
        Sample(asked=each, drawn=unit, true=library.find(each, torch.from_numpy(unit.fields)))
        for each, unit in zip(asked, drawn, strict=True)
    ]


def measure_samples(refiner: Refiner, samples: Sequence[Sample]) -> Figures:
    """Return how much nearer to true motifs refined units are, and how like their previews."""
    before, after, likeness, elapsed_ms, kept, layers = [], [], [], [], 0, 0
    for each in samples:
        fields, repeat, palette = each.drawn.fields, each.asked.repeat, each.drawn.palette
        began_s = time.process_time()
        refined = refiner.refine_layers(fields, each.asked.text, repeat)
        elapsed_ms.append(1e3 * (time.process_time() - began_s))
        layers, kept = layers + len(refined.refined) + len(refined.kept), kept + len(refined.kept)
        preview = compose_tile(fields, palette, repeat, PREVIEW_PX)
        master = compose_tile(refined.fields, palette, repeat, PREVIEW_PX * MASTER_TIMES)
        likeness.append(ssim(preview, box_shrink(master, PREVIEW_PX)))
        if each.true:
            before.append(measure_contours(fields, each.true).median)
            after.append(measure_contours(refined.fields, each.true).median)
    return {
        "samples": float(len(samples)),
        "sample_error_before_p50": _quantile(before, 0.5),
        "sample_error_after_p50": _quantile(after, 0.5),
        "sample_error_before_p90": _quantile(before, 0.9),
        "sample_error_after_p90": _quantile(after, 0.9),
        "samples_nearer": round(float(np.mean(np.array(after) < np.array(before))), 3),
        "layers_kept_share": round(kept / max(layers, 1), 4),
        "preview_master_ssim_p50": _quantile(likeness, 0.5),
        "preview_master_ssim_worst": round(min(likeness), 4),
        "refine_cpu_ms_p50": _quantile(elapsed_ms, 0.5),
    }


def _thousandths(drawn: Sequence[Fields], exact: Tensor) -> list[float]:
    errors_px = displacement_px(torch.from_numpy(np.stack(drawn)), exact)
    return [float(error) * 1000 / GRID for error in errors_px]


def _quantile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 4)
