"""What the owner of a pool wants, and the points of a plan: how many GPUs from now on, each with its reason. Pure."""

import math

import msgspec

from halfdrop.contracts.errors import InvalidInput

STALE_AFTER_S = 300
"""A forecast older than this plans nothing: the reactive floor holds alone."""


class PlanPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner of a pool wants. The defaults are chosen on one recorded week; docs/BENCHMARKS.md says
    how they do on others."""

    idle_cost: float = 1.0
    """What a GPU-minute costs that nobody uses."""

    late_cost: float = 19.0
    """What a GPU-minute's work costs that comes late, in the same money. Late over idle is the price of lateness."""

    late_share_target: float = 0.008
    """Share of late jobs that the price is steered to: a little under the 1 % that is promised."""

    is_margin_steered: bool = True
    """Whether the price follows the lateness that comes of it, and the costs are but where it begins. Off: the costs'
    price, always."""

    quantile: float | None = None
    """Stated outright, 0.5 to under 1: capacity is this quantile of demand, whatever lateness costs or comes of it."""

    replicas_min: int = 1
    replicas_max: int = 2_000
    hold_minutes: int = 1
    """GPUs are given back once nothing has wanted them for this long: the plan sees a whole boot ahead by itself."""

    hysteresis: float = 0.04
    """Share of the pool under which nothing is given back."""

    @property
    def log_price(self) -> float:
        """Logarithm of what late work costs, against an idle GPU for as long: what the costs say."""
        return math.log(self.late_cost / self.idle_cost)

    @property
    def is_price_sought(self) -> bool:
        """Whether lateness has a say in the price."""
        return self.is_margin_steered and self.quantile is None

    def check(self) -> None:
        """Raise InvalidInput where the policy contradicts itself."""
        if not (self.idle_cost > 0 and self.late_cost > 0 and math.isfinite(self.idle_cost + self.late_cost)):
            raise InvalidInput(
                "idle_cost, late_cost", got=f"{self.idle_cost}, {self.late_cost}", allowed="finite, over 0"
            )
        if self.late_cost < self.idle_cost:
            raise InvalidInput("late_cost", got=self.late_cost, allowed=f"at least idle_cost, {self.idle_cost}")
        if not 1 <= self.replicas_min <= self.replicas_max:
            raise InvalidInput(
                "replicas_min, replicas_max",
                got=f"{self.replicas_min}, {self.replicas_max}",
                allowed="1 ≤ replicas_min ≤ replicas_max",
            )
        if not 0 < self.late_share_target < 1:
            raise InvalidInput("late_share_target", got=self.late_share_target, allowed="between 0 and 1")
        if self.quantile is not None and not 0.5 <= self.quantile < 1:
            raise InvalidInput(
                "quantile", got=self.quantile, allowed="0.5 to under 1; left out, the price of lateness decides"
            )
        if not (0 <= self.hold_minutes <= 1_440 and 0 <= self.hysteresis < 1):
            raise InvalidInput(
                "hold_minutes, hysteresis",
                got=f"{self.hold_minutes}, {self.hysteresis}",
                allowed="0 to 1440 minutes, and a share from 0 to under 1",
            )


class PlanPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity wanted some minutes ahead, and why."""

    minutes_ahead: int
    replicas: int
    reason: str
