"""The plan of one pool: how many GPUs from now to the boot horizon, each with its reason. Pure.

The quantile follows from the policy's costs (the newsvendor's ratio): a GPU-minute that idles against a minute's work
that comes late. The requirement is the largest quantile over now … boot p95, because what is not begun now cannot be
there sooner. A plan only ever adds to the reactive floor.
"""

import math

import msgspec
import numpy as np

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.workload import MINUTE_S, FloatArray

SCORES = (0.0, 0.6745, 1.2816, 1.6449, 1.9600, 2.3263, 2.5758)
"""QUANTILES as standard normal scores: the scale on which quantiles are interpolated, and slightly extended."""

SCORE_MAX = 3.5
STALE_AFTER_S = 300
"""A forecast older than this plans nothing: the reactive floor holds alone."""


class PlanPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner of a pool wants. The defaults are chosen on one recorded week; docs/BENCHMARKS.md says
    how they do on others."""

    idle_cost: float = 1.0
    """What a GPU-minute costs that nobody uses."""

    late_cost: float = 19.0
    """What a GPU-minute's work costs that comes late, in the same money: 19 to 1 means the quantile 0.95."""

    late_share_target: float = 0.008
    """Share of late jobs that the margin steers to: a little under the 1 % that is promised."""

    is_margin_steered: bool = True
    """Whether the quantile follows the lateness that is measured. Off: the costs' quantile, always."""

    replicas_min: int = 1
    replicas_max: int = 2_000
    hold_minutes: int = 1
    """GPUs are given back once nothing has wanted them for this long: the plan sees a whole boot ahead by itself."""

    hysteresis: float = 0.04
    """Share of the pool under which nothing is given back."""

    @property
    def quantile(self) -> float:
        return self.late_cost / (self.late_cost + self.idle_cost)

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


def plan_capacity(
    quantiles: FloatArray,
    horizons: tuple[int, ...],
    *,
    boot_p95_s: float,
    score: float,
    policy: PlanPolicy,
    reactive_floor: int,
    age_s: float = 0.0,
) -> tuple[PlanPoint, ...]:
    """Return the plan for now and each horizon up to the boot's p95, the first point being what to order now.

    quantiles: [horizons, QUANTILES] in mean GPUs. score: the quantile as a standard normal score. No point is below
    `reactive_floor` (but for replicas_max), whatever the forecast says.
    """
    is_usable = age_s <= STALE_AFTER_S and bool(np.isfinite(quantiles).all())
    floor = max(policy.replicas_min, reactive_floor)
    points = []
    for place, horizon in enumerate(horizons):
        if place and horizons[place - 1] * MINUTE_S >= boot_p95_s:
            break
        wanted = math.ceil(at_score(quantiles[place].tolist(), score)) if is_usable else 0
        points.append(_bounded(horizon, wanted, floor, policy, is_usable=is_usable))
    now = max(points, key=lambda point: point.replicas)
    ordered = PlanPoint(
        minutes_ahead=0,
        replicas=now.replicas,
        reason=f"{now.reason}, in {now.minutes_ahead} min" if now.reason.startswith("forecast") else now.reason,
    )
    return (ordered, *points)


def _bounded(horizon: int, wanted: int, floor: int, policy: PlanPolicy, *, is_usable: bool) -> PlanPoint:
    if not is_usable:
        reason = "no usable forecast: reactive floor"
    elif wanted < floor:
        reason = "reactive floor"
    else:
        reason = "forecast"
    replicas = max(wanted, floor)
    if replicas > policy.replicas_max:
        replicas, reason = policy.replicas_max, f"replicas_max, instead of {replicas}"
    return PlanPoint(minutes_ahead=horizon, replicas=replicas, reason=reason)


def at_score(quantiles: list[float], score: float) -> float:
    """Interpolate QUANTILES at a standard normal score; beyond the last one, on along its last stretch."""
    assert len(quantiles) == len(QUANTILES)
    score = min(max(score, 0.0), SCORE_MAX)
    for place in range(1, len(SCORES)):
        if score <= SCORES[place] or place == len(SCORES) - 1:
            share = (score - SCORES[place - 1]) / (SCORES[place] - SCORES[place - 1])
            return quantiles[place - 1] + share * (quantiles[place] - quantiles[place - 1])
    raise AssertionError("unreachable: the last place always answers")


def score_of(quantile: float) -> float:
    """Return the standard normal score of a quantile from 0.5 up, on the same scale as `at_score`."""
    return float(np.interp(quantile, QUANTILES, SCORES))
