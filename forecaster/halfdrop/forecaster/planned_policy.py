"""Our policy: the cheapest capacity at a price for late work; the price is what the lateness that comes of it makes it.
Pure.

What each minute's forecast makes of each price (`wanted_table`) is passed in: a replay has a table that was made minute
by minute (`PlannedPolicy`), a live pool one row at a time (service/planning.py). What of it is ordered, kept and given
back is one piece of code for both, `CapacityOrder`. Without a forecast, or after the last one, the reactive floor
decides alone. A policy that states a quantile wants the same at every price: the rest is as it is for all.
"""

import math
from collections import deque

import numpy as np

from halfdrop.forecaster.expected_cost import at_levels, wanted_capacity
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, ScalingDecision, reactive_floor
from halfdrop.forecaster.workload import DAY_S, MINUTE_S, FloatArray, IntArray

PRICES = np.geomspace(1.5, 300.0, 7)
"""What a GPU-minute's work costs that comes late, against an idle GPU-minute. Between two of them one interpolates."""

CORRECTION_MAX = 1.5
"""How far, as a logarithm, a pool's own lateness moves the price away from what its shadows found: by 4.5."""

CORRECTION_PER_DAY = 0.25
CORRECTION_UP_MAX = 0.25
ROUND_UP_FROM = 0.3
"""Capacities between two prices are fractions; less than this of a GPU is not worth one."""

LOG_FIRST, LOG_STEP = float(np.log(PRICES[0])), float(np.log(PRICES[1] / PRICES[0]))
PLAN_HORIZONS_MINUTES = (3, 6, 9, 15, 25)
"""Up to 25 minutes of boot; what is longer is planned for as if it were not. From half an hour on forecasts cost four
times as much, for the models that are fitted there."""

HORIZONS_MIN = 3
"""However short a boot is: what the next nine minutes need is not given back."""

UNKNOWN = -1
"""Wanted where a forecast is no number."""

SMOOTH_MINUTES = 3
"""What the plan's forecasts are the mean of. A queue carries the rest within the ten seconds that jobs may wait."""


def horizons_until(boot_p95_s: float) -> tuple[int, ...]:
    """Return the horizons that a plan looks at: up to the first that covers a boot."""
    covering = sum(horizon * MINUTE_S < boot_p95_s for horizon in PLAN_HORIZONS_MINUTES)
    return PLAN_HORIZONS_MINUTES[: max(HORIZONS_MIN, covering + 1)]


def wanted_table(quantiles: FloatArray, *, policy: PlanPolicy, service_s: float) -> IntArray:
    """Return the number of GPUs that is wanted at each of PRICES, [minutes, horizons, PRICES].

    quantiles: [minutes, horizons, QUANTILES] of the work around each horizon, in mean GPUs.
    """
    is_known = np.isfinite(quantiles.min(axis=2) + quantiles.max(axis=2))
    known = np.where(is_known[:, :, None], quantiles, 0.0)
    if policy.quantile is None:
        wanted = wanted_capacity(known, service_s=service_s, prices=PRICES)
    else:
        minutes, horizons, levels = known.shape
        stated = at_levels(known.reshape(minutes * horizons, levels), (policy.quantile,))
        whole = np.ceil(np.maximum(stated, 0.0) - 1e-9).astype(np.int64).reshape(minutes, horizons, 1)
        wanted = np.repeat(whole, len(PRICES), axis=2)
    wanted[~is_known] = UNKNOWN
    return wanted


class CapacityOrder:
    """Orders what a boot can still help, keeps what is needed sooner, and gives back late and in one go.

    hold_decisions: for how many decisions what was wanted is kept.
    """

    def __init__(self, policy: PlanPolicy, *, hold_decisions: int) -> None:
        self.policy = policy
        self.ordered = self.kept = policy.replicas_min
        self._wishes: deque[int] = deque(maxlen=max(1, hold_decisions))

    def apply(self, policy: PlanPolicy, *, hold_decisions: int) -> None:
        """Go on with another policy; what was wanted of late stays wanted."""
        self.policy = policy
        self._wishes = deque(self._wishes, maxlen=max(1, hold_decisions))

    def plan(self, by_horizon: list[int], horizons: tuple[int, ...], *, boot_p50_s: float) -> None:
        """Take the capacity wanted at each horizon."""
        # A boot begun now helps from its p50 on: what is needed sooner can be kept, but not be ordered any more.
        at = next((at for at, horizon in enumerate(horizons) if horizon * MINUTE_S >= boot_p50_s), -1)
        self.ordered, self.kept = by_horizon[at], max(by_horizon)

    def plan_nothing(self) -> None:
        """There is no forecast, or none to believe."""
        self.ordered = self.kept = self.policy.replicas_min

    def bound(self, replicas: int) -> int:
        return min(max(replicas, self.policy.replicas_min), self.policy.replicas_max)

    def decide(self, *, floor: int, total: int) -> ScalingDecision:
        """Return the number of GPUs to have, of which there are `total`. Never below the floor, within the limits."""
        floor = self.bound(floor)
        ordered = self.bound(max(self.ordered, floor))
        if ordered > total:
            self._wishes.append(ordered)
            return ScalingDecision(replicas=ordered, reason="forecast" if ordered > floor else "reactive floor")
        # Kept is what is needed up to the boot's p95, or was a moment ago; the rest goes in one go.
        self._wishes.append(self.bound(max(self.ordered, self.kept, floor)))
        held = self.bound(max(self._wishes))
        if held >= total or (total - held < self.policy.hysteresis * total and total <= self.policy.replicas_max):
            return ScalingDecision(replicas=total, reason="kept: wanted within a boot, or a moment ago")
        return ScalingDecision(replicas=held, reason="given back: not wanted for long enough")


class PlannedPolicy:
    """Scales by plan.

    wanted: [minutes, horizons, PRICES], row m made when minute m of the replay had ended; more horizons than a boot
    needs are not looked at. log_prices: one for each `minutes_per_price` minutes, the last one from then on.
    is_corrected: whether the pool's own lateness moves them.
    """

    def __init__(
        self,
        wanted: IntArray,
        *,
        policy: PlanPolicy,
        rules: PoolRules,
        log_prices: FloatArray,
        minutes_per_price: int = 1,
        is_corrected: bool = False,
    ) -> None:
        policy.check()
        self._horizons = horizons_until(rules.boot_quantile_s(0.95))[: wanted.shape[1]]
        self._boot_p50_s = rules.boot_quantile_s(0.5)
        self._wanted = wanted[:, : len(self._horizons)]
        self._log_prices, self._minutes_per_price = log_prices, minutes_per_price
        self.steering = PriceSteering(late_share_target=policy.late_share_target) if is_corrected else None
        self._order = CapacityOrder(policy, hold_decisions=policy.hold_minutes * MINUTE_S // DECISION_INTERVAL_S)
        self._is_begun = False

    def decide(self, seen: Observation) -> ScalingDecision:
        if self.steering is not None:
            self.steering.note(seen.arrived, seen.late)
        if seen.now_s % MINUTE_S == 0:
            self._plan(seen.now_s // MINUTE_S - 1)
        floor, total = reactive_floor(seen), seen.ready + seen.booting
        if not self._is_begun and self._order.bound(floor) <= total:
            return ScalingDecision(replicas=total, reason="kept: nothing is planned before the first minute")
        return self._order.decide(floor=floor, total=total)

    def _plan(self, minute: int) -> None:
        self._is_begun = True
        if minute >= len(self._wanted):
            self._order.plan_nothing()
            return
        log_price = float(self._log_prices[min(minute // self._minutes_per_price, len(self._log_prices) - 1)])
        by_horizon = at_price(self._wanted[minute], log_price + (self.steering.correction if self.steering else 0.0))
        self._order.plan(by_horizon, self._horizons, boot_p50_s=self._boot_p50_s)


class PriceSteering:
    """Moves the price until the share of late jobs is the one that is wanted: integral control on its logarithm."""

    def __init__(self, *, late_share_target: float) -> None:
        self.correction = 0.0
        self._target = late_share_target
        self._jobs_per_interval = 0.0
        self._intervals = 0

    def note(self, arrived: int, late: int) -> None:
        """Learn what came of an interval."""
        self._intervals += 1
        span = min(self._intervals, DAY_S // DECISION_INTERVAL_S)
        self._jobs_per_interval += (arrived - self._jobs_per_interval) / span
        jobs_per_day = max(1.0, self._jobs_per_interval * DAY_S / DECISION_INTERVAL_S)
        step = CORRECTION_PER_DAY * (late / self._target - arrived) / jobs_per_day
        self.correction = min(max(self.correction + min(step, CORRECTION_UP_MAX), -CORRECTION_MAX), CORRECTION_MAX)


def at_price(wanted: IntArray, log_price: float) -> list[int]:
    """Return the capacity at each horizon, [horizons, PRICES], interpolated in the logarithm of the price."""
    place = (log_price - LOG_FIRST) / LOG_STEP
    left = min(max(int(place), 0), len(PRICES) - 2)
    share = min(max(place - left, 0.0), 1.0)
    between: list[float] = ((1 - share) * wanted[:, left] + share * wanted[:, left + 1]).tolist()
    return [math.ceil(value - ROUND_UP_FROM) for value in between]
