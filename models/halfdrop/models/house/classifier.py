"""The judge: a small network that names the kind of a unit from its plates, trained on data alone.

It never sees what the model draws until it judges it. Run `python -m halfdrop.models.house.classifier --minutes 3`
to train it anew; the weights that judged the shipped bundle lie beside the bundles, as `judge-1.safetensors`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.house.data import draw_units, seeded_units
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.precision import mixed_precision
from halfdrop.models.house.report import say

JUDGE_FILE = "judge-1.safetensors"
SEED = 99
UNITS_PER_KIND = 3
ADAM_RATE = 2e-3
NOISE_MAX = 0.08
"""Standard deviation of the noise put on training plates: a judge must not hang on the last bit of exactness."""
ROUGHNESS_MAX, ROUGHNESS_CELLS = 0.12, 16
"""The same of slow noise, of so many cells a side, which bends edges by up to a grid pixel: as a small model does."""
HELD_OUT_SEED = 31337


class Classifier(nn.Module):
    """Plates [batch, 4, 64, 64] to a score for each of KIND_NAMES, [batch, kinds]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            _wrapping(16, 32),
            nn.SiLU(),
            nn.PixelUnshuffle(2),
            _wrapping(128, 64),
            nn.SiLU(),
            _wrapping(64, 64),
            nn.SiLU(),
            nn.PixelUnshuffle(2),
            nn.Conv2d(256, 128, 1),
            nn.SiLU(),
            _wrapping(128, 128),
            nn.SiLU(),
        )
        self.scores = nn.Sequential(nn.Linear(256, 128), nn.SiLU(), nn.Linear(128, len(KIND_NAMES)))

    def forward(self, plates: Tensor) -> Tensor:
        features = self.features(plates)
        # Mean and peak over the torus: where a motif stands does not matter to its kind.
        scores: Tensor = self.scores(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))
        return scores


def _wrapping(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="circular")


def train_classifier(minutes: float) -> Classifier:
    """Return a classifier trained for the given time on fresh data, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    numbers, words = torch.Generator().manual_seed(SEED), seeded_words(SEED)
    classifier = Classifier()
    adam = torch.optim.AdamW(classifier.parameters(), ADAM_RATE)
    started_s, share, step = time.monotonic(), 0.0, 0
    while share < 1:
        units = draw_units(UNITS_PER_KIND, numbers, words)
        plates = roughened(units.plates, numbers)
        with mixed_precision("cpu"):
            scores = classifier(plates)
        loss = functional.cross_entropy(scores.float(), units.kinds)
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.param_groups[0]["lr"] = ADAM_RATE * min(1, (step + 1) / 20) * (1 - share) + 1e-5
        adam.step()
        step += 1
        share = (time.monotonic() - started_s) / 60 / minutes
        if step % 50 == 0:
            say(f"classifier step {step} loss {loss.item():.4f}")
    return classifier.eval()


def roughened(plates: Tensor, numbers: torch.Generator) -> Tensor:
    """Return plates [batch, 4, 64, 64] with edges that are bent and grainy, each unit's by its own amount."""
    fine, slow = torch.rand(2, len(plates), 1, 1, 1, generator=numbers)
    cells = torch.randn(*plates.shape[:2], ROUGHNESS_CELLS, ROUGHNESS_CELLS, generator=numbers)
    bends = functional.interpolate(cells, plates.shape[-2:], mode="bicubic", align_corners=False)
    grain = torch.randn(plates.shape, generator=numbers)
    rough: Tensor = plates + NOISE_MAX * fine * grain + ROUGHNESS_MAX * slow * bends
    return rough


@torch.no_grad()
def recognised(classifier: Classifier, plates: Tensor, kinds: Tensor) -> Tensor:
    """Return [batch] booleans: whether each unit is taken for the kind it was meant to be."""
    return torch.cat([classifier(part).argmax(1) for part in torch.split(plates, 64)]) == kinds


@torch.no_grad()
def name_kinds(classifier: Classifier, plates: Tensor) -> list[str]:
    """Return the kind that each unit of [batch, 4, 64, 64] is taken for."""
    picks = torch.cat([classifier(part).argmax(1) for part in torch.split(plates, 64)])
    return [KIND_NAMES[pick] for pick in picks.tolist()]


def load_judge(path: Path | None = None) -> Classifier:
    """Return the shipped judge, or another one. Raises FileNotFoundError where there is none."""
    classifier = Classifier()
    weights = load_file(path or judge_path())
    classifier.load_state_dict({name: value.float() for name, value in weights.items()})
    return classifier.eval()


def save_judge(classifier: Classifier, path: Path) -> None:
    """Write a classifier's weights in bfloat16."""
    save_file({name: value.bfloat16().contiguous() for name, value in classifier.state_dict().items()}, path)


def judge_path() -> Path:
    """Return where the shipped judge lies: beside the bundles, for it is no part of one."""
    return shipped_bundle_dir().parent / JUDGE_FILE


def main() -> None:
    """Read the command line, train a judge and say how well it knows units it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=judge_path())
    chosen = parser.parse_args()
    save_judge(train_classifier(chosen.minutes), chosen.out)
    held_out = seeded_units(16, HELD_OUT_SEED)
    is_right = recognised(load_judge(chosen.out), held_out.plates, held_out.kinds).float()
    worst = min((is_right[held_out.kinds == index].mean().item(), name) for index, name in enumerate(KIND_NAMES))
    say(f"held out: {is_right.mean().item():.3f} right, worst {worst[1]} {worst[0]:.2f}")


if __name__ == "__main__":
    main()
