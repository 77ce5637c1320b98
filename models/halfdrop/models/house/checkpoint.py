"""The state of a training run on disk: written whole or not at all, so that a kill costs a minute at most."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halfdrop.models.house.net import Denoiser, DenoiserConfig, TextEncoder, TextEncoderConfig
from halfdrop.models.house.optimizer import Muon
from halfdrop.models.house.settings import DistillationSettings, TrainingSettings

TEACHER_FILE = "teacher.pt"
STUDENT_FILE = "student.pt"
VOCABULARY_FILE = "vocab.json"
TEACHER_SETTINGS_FILE = "teacher.json"
STUDENT_SETTINGS_FILE = "student.json"


@dataclass(slots=True)
class Networks:
    """The two networks, as trained and as averaged over the run."""

    text_encoder: TextEncoder
    denoiser: Denoiser

    @classmethod
    def fresh(cls, vocabulary_size: int, device: str) -> Networks:
        """Return untrained networks of the house's sizes."""
        text_encoder = TextEncoder(TextEncoderConfig(vocabulary_size=vocabulary_size))
        return cls(text_encoder.to(device), Denoiser(DenoiserConfig()).to(device))

    def copied(self) -> Networks:
        """Return networks of their own with the same weights, in evaluation mode."""
        return Networks(copy.deepcopy(self.text_encoder).eval(), copy.deepcopy(self.denoiser).eval())

    def modules(self) -> list[nn.Module]:
        """Return both, text encoder first."""
        return [self.text_encoder, self.denoiser]

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters, in one fixed order."""
        return [parameter for module in self.modules() for parameter in module.parameters()]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return both state dictionaries."""
        return {"text_encoder": self.text_encoder.state_dict(), "denoiser": self.denoiser.state_dict()}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take over both state dictionaries."""
        self.text_encoder.load_state_dict(state["text_encoder"])
        self.denoiser.load_state_dict(state["denoiser"])


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0


def save_training(
    path: Path, networks: Networks, average: Networks, muon: Muon, adam: torch.optim.AdamW, *, progress: Progress
) -> None:
    """Write all that a resumption needs."""
    state = {
        "networks": networks.state(),
        "average": average.state(),
        "momenta": muon.momenta,
        "adam": adam.state_dict(),
        "progress": (progress.step, progress.samples, progress.elapsed_s),
    }
    save_atomically(state, path)


def load_training(path: Path, networks: Networks, average: Networks, muon: Muon, adam: torch.optim.AdamW) -> Progress:
    """Take over a run's state and return how far it had come."""
    state = torch.load(path, weights_only=True)
    networks.load(state["networks"])
    average.load(state["average"])
    for momentum, saved in zip(muon.momenta, state["momenta"], strict=True):
        momentum.copy_(saved)
    adam.load_state_dict(state["adam"])
    return Progress(*state["progress"])


def save_settings(settings: TrainingSettings | DistillationSettings, path: Path) -> None:
    """Write the settings of a run beside its checkpoints: the bundle's manifest tells them."""
    path.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a file beside its place and move it there."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
