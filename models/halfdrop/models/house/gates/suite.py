"""The whole suite: one bundle in, every figure out, with the verdict on them.

`bench/model.py` adds what only an edge can measure; the figures' meaning stands at the functions of `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfdrop.models.house.classifier import Classifier
from halfdrop.models.house.gates.asking import SEED
from halfdrop.models.house.gates.drawing import Refine
from halfdrop.models.house.gates.figures import (
    measure_answers,
    measure_int8,
    measure_kinds,
    measure_novelty,
    measure_promise,
    measure_seams,
    measure_shapes,
)
from halfdrop.models.house.gates.findings import OnProgress, read_bundle
from halfdrop.models.house.gates.goals import Figures, judge_figures
from halfdrop.models.house.gates.speed import eager_plates_ms, master_s, weights_mb


def evaluate(
    bundle: Path,
    judge: Classifier,
    *,
    per_kind: int = 6,
    seed: int = SEED,
    refine: Refine | None = None,
    others: Sequence[Path] = (),
    on_progress: OnProgress = lambda line: None,
) -> Figures:
    """Return a bundle's figures with the verdict on them; minutes on one core for six prompts of each kind.

    per_kind: prompts of each kind from the grammar; the written list always comes along. refine: of the refiner that
    belongs to the bundle; without one the masters are unrefined, and "master" says so. others: shipped files beside
    the bundle, for "weights_mb". Figures that tell of single kinds or colours stand under "by_kind", "by_colour".
    """
    findings = read_bundle(bundle, judge, per_kind=per_kind, seed=seed, refine=refine, on_progress=on_progress)
    on_progress("measuring")
    figures: Figures = {
        "prompts": len(findings),
        "master": "refined" if refine else "unrefined",
        **measure_kinds(findings),
        **measure_answers(findings),
        **measure_shapes(findings),
        **measure_seams(findings),
    }
    on_progress("comparing")
    figures |= measure_int8(bundle, findings) | measure_promise(findings) | measure_novelty(findings)
    on_progress("timing")
    figures |= {
        "plates_cpu_ms_p50": round(float(np.median([each.drawn.cpu_ms for each in findings])), 2),
        "eager_plates_cpu_ms_p50": round(eager_plates_ms(bundle, [each.asked for each in findings]), 1),
        "master_4096_s": round(master_s([each.drawn for each in findings], units=1), 3),
        "master_4096_s_four_units": round(master_s([each.drawn for each in findings], units=4), 3),
        "weights_mb": weights_mb(bundle, others),
    }
    return figures | judge_figures(figures)
