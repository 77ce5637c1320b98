"""Every number of the training recipe, with its unit and the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """The teacher's training."""

    minutes: float = 35.0
    """Time to train for; the learning rate falls to nothing at its end."""
    start_from: str = ""
    """Directory of a bundle whose weights the run begins with; empty begins with none."""
    peak_rate: float = 1.0
    """Factor of both learning rates: half of them is enough for weights that know most of it already."""
    seed: int = 20261122
    """Everything random starts here; each process and each resumption adds its own offset."""
    processes: int = 2
    """On CPU: single-threaded processes (two threads in one process collapse when anything else runs)."""
    batch: int = 32
    """Units per process and step: with few units to be seen in all, more steps teach more than larger ones."""
    units_per_kind: int = 8
    """Units drawn at a time of each kind, then shuffled: enough that a batch sees most kinds."""
    muon_rate: float = 2e-3
    """Muon's learning rate, for the matrices of the blocks."""
    adam_rate: float = 1.2e-3
    """AdamW's, for everything else."""
    warm_up_steps: int = 60
    decay_from: float = 0.45
    """Share of the time after which the learning rate falls, linearly."""
    drop_chance: float = 0.1
    """Share of captions replaced by no prompt, which guidance needs."""
    level_mean: float = 0.7
    """Noise levels are sigmoid(normal(level_mean, 1)): leaning to noise, where composition is decided."""
    noisiest_share: float = 0.35
    """Share of units noised from `noisiest_from` upwards instead. An anchored unit is all but decided by its prompt, at
    levels that the normal above hardly ever draws (1 in 80 beyond 0.95): without these, kinds are mixed up."""
    noisiest_from: float = 0.85
    level_floor: float = 0.07
    """The loss is weighted by 1 / max(level, floor)²: the velocity's loss, without its explosion near zero."""
    palette_weight: float = 0.03
    """Weight of the colours' loss, in nats, beside the plates': their gradients are then of one size."""
    sayings: int = 6
    """Further captions of each unit, for the palette alone: colours by role are learnt from many sentences, and a
    sentence costs a thirtieth of a unit."""
    gradient_limit: float = 1.0
    ema_rate: float = 0.003
    """Share of the newest weights in the running average, which is what is kept."""
    checkpoint_s: float = 60.0
    samples_s: float = 300.0
    """Time between contact sheets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationSettings:
    """The few-step student: guidance and two of the teacher's steps in each of its own."""

    minutes: float = 6.0
    seed: int = 4004
    processes: int = 2
    batch: int = 32
    units_per_kind: int = 6
    adam_rate: float = 3e-4
    warm_up_steps: int = 10
    guidance: float = 1.5
    """Guidance of the teacher that the student learns to need none of: 1.5 drew truer shapes than 1 or 2."""
    gradient_limit: float = 1.0
    ema_rate: float = 0.02
