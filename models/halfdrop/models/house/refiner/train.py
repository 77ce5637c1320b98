"""Train the refiner: `python -m halfdrop.models.house.refiner.train --out DIR --minutes M`, one single-thread process.

A step takes a batch from the pool of pairs, refines it, and moves the weights. Everything that a run leaves is in
`--out`: vocab.json, refiner.json (settings), refiner.pt (written every minute), loss.jsonl; `--resume` goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.house.checkpoint import Progress, save_atomically
from halfdrop.models.house.data import build_tokenizer
from halfdrop.models.house.net import parameter_count
from halfdrop.models.house.precision import mixed_precision
from halfdrop.models.house.refiner.degrading import displacement_px
from halfdrop.models.house.refiner.losses import refining_loss
from halfdrop.models.house.refiner.net import RefinerConfig, RefinerNet, enlarge
from halfdrop.models.house.refiner.pairs import Pairs, Student, border_weight, held_out_pairs, pool_batches
from halfdrop.models.house.refiner.settings import RefinerSettings
from halfdrop.models.house.report import say
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.workers import average_weights

CHECKPOINT_FILE, SETTINGS_FILE, VOCABULARY_FILE, LOSS_FILE = "refiner.pt", "refiner.json", "vocab.json", "loss.jsonl"
LOG_EVERY_STEPS = 50
VALIDATION_SEED = 778
ADAM_BETAS = (0.9, 0.98)


@dataclass(slots=True)
class Run:
    """A training run's state, and what of it goes to disk."""

    net: RefinerNet
    average: RefinerNet
    adam: torch.optim.AdamW
    progress: Progress = field(default_factory=Progress)

    def save(self, path: Path) -> None:
        """Write all that a resumption needs."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "adam": self.adam.state_dict(),
            "progress": (self.progress.step, self.progress.samples, self.progress.elapsed_s),
        }
        save_atomically(state, path)

    def load(self, path: Path) -> None:
        """Take over a run's state."""
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.adam.load_state_dict(state["adam"])
        self.progress = Progress(*state["progress"])


def train(settings: RefinerSettings, out: Path, student_bundle: Path, *, resumes: bool) -> None:
    """Train for `settings.minutes` in all and leave the state in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    if not resumes or not (out / VOCABULARY_FILE).exists():
        build_tokenizer().save(out / VOCABULARY_FILE)
    (out / SETTINGS_FILE).write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
    tokenizer, student = Tokenizer.load(out / VOCABULARY_FILE), Student(student_bundle)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run = begin_run(settings, tokenizer, device)
    if resumes and (out / CHECKPOINT_FILE).exists():
        run.load(out / CHECKPOINT_FILE)
    validation, _ = held_out_pairs(
        replace(settings, student_share=1.0, exact_share=0.0), student, tokenizer, VALIDATION_SEED
    )
    say(f"{parameter_count(run.net) / 1e6:.2f} M parameters, {tokenizer.size} tokens, {device}")
    say(json.dumps({"validation_before_px": _edge_errors(None, validation)}))
    # A resumed run draws other pairs than the ones it has seen.
    batches = pool_batches(settings, student, tokenizer, settings.seed + run.progress.step)
    started_s = time.monotonic() - run.progress.elapsed_s
    saved_s = validated_s = time.monotonic()
    share, loss = run.progress.elapsed_s / 60 / settings.minutes, 0.0
    while share < 1:
        newest = step(run, next(batches), settings, share)
        loss = newest if loss == 0 else 0.98 * loss + 0.02 * newest
        now_s = time.monotonic()
        run.progress.elapsed_s = now_s - started_s
        share = run.progress.elapsed_s / 60 / settings.minutes
        is_validation_due = share >= 1 or now_s - validated_s > settings.validate_s
        if is_validation_due or run.progress.step % LOG_EVERY_STEPS == 0:
            _note(run, out, loss, validation if is_validation_due else None)
            validated_s = now_s if is_validation_due else validated_s
        if share >= 1 or now_s - saved_s > settings.checkpoint_s:
            saved_s = now_s
            run.save(out / CHECKPOINT_FILE)


def begin_run(settings: RefinerSettings, tokenizer: Tokenizer, device: str) -> Run:
    """Return an untrained run; its first weights belong to the settings' seed."""
    torch.manual_seed(settings.seed)
    net = RefinerNet(RefinerConfig(vocabulary_size=tokenizer.size)).to(device)
    adam = torch.optim.AdamW(net.parameters(), settings.adam_rate, betas=ADAM_BETAS, weight_decay=0)
    return Run(net=net, average=copy.deepcopy(net).eval(), adam=adam)


def step(run: Run, pairs: Pairs, settings: RefinerSettings, share: float) -> float:
    """Train on one batch and return its loss. share: how much of the run's time has passed, 0 to 1."""
    device = run.net.enlarging.device
    coarse, fine, ids = (part.to(device) for part in (pairs.coarse, pairs.fine, pairs.ids))
    with mixed_precision(device.type):
        (unit, layer), drawn = run.net.draw_inked(coarse, ids)
    loss = refining_loss(drawn.float(), fine[unit, layer], border_weight(pairs).to(device)[unit, 0], settings)
    run.adam.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(run.net.parameters(), settings.gradient_limit)
    run.adam.param_groups[0]["lr"] = settings.adam_rate * rate_at(settings, run.progress.step, share)
    run.adam.step()
    run.progress.step += 1
    run.progress.samples += len(coarse)
    average_weights([*run.average.parameters()], [*run.net.parameters()], settings.ema_rate, run.progress.step)
    return loss.item()


def rate_at(settings: RefinerSettings, steps: int, share: float) -> float:
    """Return the learning rate's factor: a short warm-up, level, then down to nothing."""
    warm = min(1.0, (steps + 1) / settings.warm_up_steps)
    return warm * max(0.02, min(1.0, (1 - share) / (1 - settings.decay_from)))


def _note(run: Run, out: Path, loss: float, validation: Pairs | None) -> None:
    """Print a line and keep it; with units to validate on, say how far their edges are from exact ones."""
    line: dict[str, object] = {
        "step": run.progress.step,
        "samples": run.progress.samples,
        "elapsed_s": round(run.progress.elapsed_s, 1),
        "loss": round(loss, 5),
    }
    if validation is not None:
        line["validation_px"] = _edge_errors(run.average, validation)
    say(json.dumps(line))
    with (out / LOSS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


@torch.inference_mode()
def _edge_errors(net: RefinerNet | None, pairs: Pairs) -> dict[str, float]:
    """Return quantiles over units of their edges' mean distance from exact ones, in grid pixels; None: unrefined."""
    drawn = []
    for coarse, ids in zip(torch.split(pairs.coarse, 32), torch.split(pairs.ids, 32), strict=True):
        if net is None:
            matrix = RefinerNet(RefinerConfig(vocabulary_size=2)).enlarging
            drawn.append(enlarge(coarse, matrix))
        else:
            device = net.enlarging.device
            drawn.append(net(coarse.to(device), ids.to(device)).float().cpu())
    errors = displacement_px(torch.cat(drawn).clamp(-1, 1), pairs.fine)
    return {f"p{part}": round(float(errors.quantile(part / 100)), 4) for part in (10, 50, 90)}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument("--minutes", type=float, default=RefinerSettings().minutes)
    parser.add_argument("--student", type=Path, default=shipped_bundle_dir(), help="bundle whose mistakes are learnt")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    chosen = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    torch.set_num_threads(1)
    train(RefinerSettings(minutes=chosen.minutes), chosen.out, chosen.student, resumes=chosen.resume)


if __name__ == "__main__":
    main()
