"""How good the shipped house model is: `python bench/model.py` prints one JSON object as its last line.

kind_accuracy is the share of prompts whose INT8 unit a classifier trained on data alone takes for the kind asked for
(goal: 0.85); what the other keys mean stands in halfdrop.models.house.evaluation.
"""

import argparse

import torch
from measuring import report

from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.house.classifier import load_judge
from halfdrop.models.house.evaluation import SEED, evaluate

PROMPTS_PER_KIND = 6


def main() -> None:
    """Evaluate the shipped bundle on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts-per-kind", type=int, default=PROMPTS_PER_KIND)
    parser.add_argument("--seed", type=int, default=SEED, help="of the prompts and units asked for")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bundle = open_bundle(shipped_bundle_dir())
    figures = evaluate(bundle.directory, load_judge(), chosen.prompts_per_kind, chosen.seed)
    report("model", {"bundle": bundle.digest, "seed": chosen.seed, **figures})


if __name__ == "__main__":
    main()
