"""What a scaling policy sees and what it answers. The same two values serve the replay and a live pool."""

import math
from typing import Protocol

import msgspec

DECISION_INTERVAL_S = 15
"""How often a policy is asked: the sync period of Kubernetes' autoscaler."""


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A pool at one moment, and what happened in it since the last decision."""

    now_s: int
    ready: int
    booting: int
    busy: int
    queued: int
    mean_busy: float
    """GPUs at work, averaged over the last interval."""

    mean_concurrency: float
    """Jobs in work and waiting, averaged over the last interval."""

    arrived: int
    offered_gpu_s: float
    """GPU-seconds that the jobs of the last interval ask for: their own estimate, made when they are ordered."""

    late: int = 0
    """Jobs of the last interval that began after having waited too long."""


class ScalingDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many GPUs the pool shall have, booting ones included, and why."""

    replicas: int
    reason: str


class Policy(Protocol):
    """Decides for one pool. A policy may remember what it saw; it never looks at a clock."""

    def decide(self, seen: Observation) -> ScalingDecision:
        """Return the number of GPUs wanted now."""
        ...


def reactive_floor(seen: Observation) -> int:
    """Return the GPUs that the jobs in work and waiting ask for right now."""
    return math.ceil(max(seen.mean_concurrency, float(seen.busy + seen.queued) if seen.queued else 0.0))
