"""Every number of the refiner's training, with its unit and the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinerSettings:
    """The refiner's training; nothing is distilled, one pass is all that it does."""

    minutes: float = 60.0
    """Time to train for; the learning rate falls to nothing at its end."""
    seed: int = 20261124
    """Everything random starts here; a resumption adds its own offset."""
    batch: int = 4
    """Units: each has a thousand cells to learn from, so more steps teach more than larger ones."""
    units_per_kind: int = 2
    """Pairs drawn at a time of each kind: a refill of the pool, about four seconds of one core."""
    pool_refills: int = 10
    """Refills that the pool holds: enough that a batch sees most kinds, 0.4 GB in 16 bits."""
    uses: int = 8
    """Times a pair is trained on before it leaves the pool: asking the student costs as much as training on it."""
    student_share: float = 0.75
    """Share of pairs whose coarse side the student drew; of the others, most are degraded by formula."""
    exact_share: float = 0.1
    """Share of pairs whose coarse side is exact: what is right must stay as it is."""
    adam_rate: float = 2e-3
    warm_up_steps: int = 100
    decay_from: float = 0.4
    """Share of the time after which the learning rate falls, linearly."""
    edge_weight: float = 20.0
    """Weight of a sample on an edge beside one far from it: only the edge's place is printed."""
    gradient_weight: float = 0.5
    """Weight of the error in the field's steps, which keeps lines straight and corners sharp."""
    gradient_limit: float = 1.0
    ema_rate: float = 0.003
    """Share of the newest weights in the running average, which is what is kept."""
    checkpoint_s: float = 60.0
    validate_s: float = 120.0
    """Time between looks at held-out units."""
