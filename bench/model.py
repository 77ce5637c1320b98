"""How good the shipped house model is: `python bench/model.py` prints one JSON object as its last line.

Its keys, and what each measures, stand in halfdrop.models.house.gates: `goals` names the goals, `figures` says what
each figure is. "passed", "missed" and "not_measured" are the verdict. On one core it takes about five minutes, and says
on standard error how far it is.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: we measure one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
import time
from pathlib import Path

import torch
from measuring import percentile, report

from halfdrop.contracts.patterns import PatternRequest, pattern_key, resolve_spec
from halfdrop.edge.previewer import OnnxModel
from halfdrop.models.bundle import Bundle, open_bundle, shipped_bundle_dir, shipped_refiner_dir
from halfdrop.models.hex_colours import spell_hex
from halfdrop.models.house.classifier import load_judge
from halfdrop.models.house.gates.asking import SEED, ask
from halfdrop.models.house.gates.goals import Figures, judge_figures
from halfdrop.models.house.gates.suite import evaluate
from halfdrop.models.house.refining import open_refiner
from halfdrop.models.phrases import read_phrases

PROMPTS_PER_KIND = 6
PREVIEW_PX = 256
WARM_UPS, PREVIEWS = 5, 92


def main() -> None:
    """Evaluate the shipped bundle on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts-per-kind", type=int, default=PROMPTS_PER_KIND)
    parser.add_argument("--seed", type=int, default=SEED, help="of the prompts and units asked for")
    parser.add_argument("--bundle", type=Path, default=shipped_bundle_dir())
    parser.add_argument("--refiner", type=Path, default=shipped_refiner_dir(), help="masters are unrefined without it")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    began_s = time.monotonic()
    bundle = open_bundle(chosen.bundle)
    refine = open_refiner(chosen.refiner).refine if chosen.refiner.exists() else None
    figures = evaluate(
        bundle.directory,
        load_judge(),
        per_kind=chosen.prompts_per_kind,
        seed=chosen.seed,
        refine=refine,
        others=[path for path in bundle.directory.parent.iterdir() if path != bundle.directory],
        on_progress=lambda line: print(f"{time.monotonic() - began_s:5.0f} s  {line}", file=sys.stderr, flush=True),
    )
    figures |= measure_previews(bundle, figures, chosen.seed)
    report("model", {"bundle": bundle.digest, "seed": chosen.seed, **figures, **judge_figures(figures)})


def measure_previews(bundle: Bundle, figures: Figures, seed: int) -> Figures:
    """Return the CPU time from a prompt to its WebP by the edge's own code, nothing cached, no two alike.

    "preview_speedup_vs_eager" is what the same preview would take if its plates came from the same net in eager torch,
    float32, with the teacher's steps and guidance, over what it takes: composing and encoding count on both sides.
    """
    model = OnnxModel(bundle)
    prompts = [each.prompt for each in ask(2, seed + 1)]
    total_ms, plates_ms = [], []
    for number in range(WARM_UPS + PREVIEWS):
        began_s = time.process_time()
        request = PatternRequest(prompt=prompts[number % len(prompts)], seed=number)
        read = read_phrases(request.prompt)
        prompt = model.read_words(spell_hex(read.prompt), may_be_empty=False).prompt
        spec = resolve_spec(request, prompt=prompt, repeat=read.repeat, model_digest=bundle.digest)
        model.render(spec, pattern_key(spec), PREVIEW_PX)
        ended_s = time.process_time()
        model.draw(spec, pattern_key(spec))
        total_ms.append((ended_s - began_s) * 1e3)
        plates_ms.append((time.process_time() - ended_s) * 1e3)
    preview_ms, drawing_ms = percentile(total_ms[WARM_UPS:], 0.5), percentile(plates_ms[WARM_UPS:], 0.5)
    eager_ms = figures["eager_plates_cpu_ms_p50"] + preview_ms - drawing_ms
    return {
        "preview_cpu_ms_p50": round(preview_ms, 2),
        "preview_cpu_ms_p95": round(percentile(total_ms[WARM_UPS:], 0.95), 2),
        "preview_speedup_vs_eager": round(eager_ms / preview_ms, 2),
    }


if __name__ == "__main__":
    main()
