"""Which part of a plan is a pool's, where two follow it: one on nodes that stay, one on nodes that may be taken back.

Pure. What is only planned is split; what waits already is asked of both pools whole, so that where spot nodes cannot be
had, or have just been taken back, the pool that stays takes over as the queue grows.
"""

import math
from collections.abc import Iterable

from msgspec import Struct

from halfdrop.operator.policies import Capacity, GPUPoolSpec, Spot


class Part(Struct, frozen=True, kw_only=True):
    """A pool's part of what two pools are to have together."""

    capacity: Capacity
    max_share: float
    min_on_demand: int

    def of(self, total: int) -> int:
        """Return this pool's replicas of `total`: both parts together are `total`, and neither falls while it rises."""
        assert total >= 0
        # The share is rounded down, and never asks of spot what the minimum keeps for nodes that stay.
        spot = max(0, min(math.floor(total * self.max_share + 1e-9), total - self.min_on_demand))
        return spot if self.capacity == "Spot" else total - spot


def find_part(
    spot: Spot | None, pool: GPUPoolSpec, plan: str, others: Iterable[tuple[str, GPUPoolSpec]]
) -> Part | None:
    """Return the pool's part, or None if the plan is all its own: the policy splits nothing, or there is no other half.

    plan: the name of the pool's plan. others: the policy's other pools, each with the name of its plan.
    """
    if spot is None:
        return None
    has_other_half = any(
        (name, other.region) == (plan, pool.region) and other.capacity != pool.capacity for name, other in others
    )
    if not has_other_half:
        return None
    return Part(capacity=pool.capacity, max_share=spot.max_share, min_on_demand=spot.min_on_demand)
