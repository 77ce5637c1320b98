"""Our policy: the cheapest capacity at a price for late work; the price is what the lateness that comes of it makes it.
Pure.

The driver passes in what each minute's forecast makes of each price (expected_cost.py): the replay from a table that
was made minute by minute, a live pool from its forecaster. Without a forecast, or after the last one, the reactive
floor decides alone.
"""

import math
from collections import deque

import numpy as np

from halfdrop.forecaster.plan import SCORE_MAX, PlanPolicy
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, ScalingDecision
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
PLAN_HORIZONS_MINUTES = (3, 6, 9)
SMOOTH_MINUTES = 3
"""What the plan's forecasts are the mean of. A queue carries the rest within the ten seconds that jobs may wait."""

SCORE_MIN = 0.3
STEER_PER_DAY = 0.25
"""By how much a day without a late job lowers the score; a day at the target leaves it alone."""

STEER_UP_MAX = 0.25
"""The most that one interval of late jobs may raise it: one burst that nobody foresaw is not a trend."""


class MarginSteering:
    """Moves the quantile until the share of late jobs is the one that is wanted: integral control on the score."""

    def __init__(self, *, score: float, late_share_target: float) -> None:
        self.score = score
        self._target = late_share_target
        self._jobs_per_interval = 0.0
        self._intervals = 0

    def note(self, arrived: int, late: int) -> None:
        """Learn what came of an interval."""
        self._intervals += 1
        span = min(self._intervals, DAY_S // DECISION_INTERVAL_S)
        self._jobs_per_interval += (arrived - self._jobs_per_interval) / span
        jobs_per_day = max(1.0, self._jobs_per_interval * DAY_S / DECISION_INTERVAL_S)
        step = STEER_PER_DAY * (late / self._target - arrived) / jobs_per_day
        self.score = min(max(self.score + min(step, STEER_UP_MAX), SCORE_MIN), SCORE_MAX)


class PlannedPolicy:
    """Scales by plan.

    wanted: [minutes, horizons, PRICES], row m made when minute m of the replay had ended. log_prices: one for each
    `minutes_per_price` minutes, the last one from then on. is_corrected: whether the pool's own lateness moves them.
    """

    def __init__(
        self,
        wanted: IntArray,
        horizons: tuple[int, ...],
        *,
        policy: PlanPolicy,
        rules: PoolRules,
        log_prices: FloatArray,
        minutes_per_price: int = 360,
        is_corrected: bool = False,
    ) -> None:
        policy.check()
        self._policy = policy
        self._wanted, self._log_prices, self._minutes_per_price = wanted, log_prices, minutes_per_price
        # A boot begun now helps from its p50 on: what is needed sooner can be kept, but not be ordered any more.
        order_at_s = rules.boot_quantile_s(0.5)
        self._order_at = next((at for at, horizon in enumerate(horizons) if horizon * MINUTE_S >= order_at_s), -1)
        self.steering = PriceSteering(late_share_target=policy.late_share_target) if is_corrected else None
        self._wishes: deque[int] = deque(maxlen=max(1, policy.hold_minutes * MINUTE_S // DECISION_INTERVAL_S))
        self._ordered = self._kept = policy.replicas_min
        self._is_begun = False

    def decide(self, seen: Observation) -> ScalingDecision:
        if self.steering is not None:
            self.steering.note(seen.arrived, seen.late)
        floor = min(max(reactive_floor(seen), self._policy.replicas_min), self._policy.replicas_max)
        minute = seen.now_s // MINUTE_S - 1
        if seen.now_s % MINUTE_S == 0:
            self._plan(minute)
        total = seen.ready + seen.booting
        ordered = min(max(self._ordered, floor), self._policy.replicas_max)
        if ordered > total:
            self._wishes.append(ordered)
            return ScalingDecision(replicas=ordered, reason="forecast" if ordered > floor else "reactive floor")
        if not self._is_begun:
            return ScalingDecision(replicas=total, reason="kept: nothing is planned before the first minute")
        return self._give_back(min(max(self._ordered, self._kept, floor), self._policy.replicas_max), total)

    def _plan(self, minute: int) -> None:
        self._is_begun = True
        if minute >= len(self._wanted):
            self._ordered = self._kept = self._policy.replicas_min
            return
        log_price = float(self._log_prices[min(minute // self._minutes_per_price, len(self._log_prices) - 1)])
        by_horizon = at_price(self._wanted[minute], log_price + (self.steering.correction if self.steering else 0.0))
        self._ordered, self._kept = by_horizon[self._order_at], max(by_horizon)

    def _give_back(self, kept: int, total: int) -> ScalingDecision:
        """Keep what is needed up to the boot's p95, or was a moment ago; the rest goes in one go."""
        self._wishes.append(kept)
        held = max(self._wishes)
        if held >= total or total - held < self._policy.hysteresis * total:
            return ScalingDecision(replicas=total, reason="kept: wanted within a boot, or a moment ago")
        return ScalingDecision(replicas=held, reason="given back: not wanted for long enough")


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


def reactive_floor(seen: Observation) -> int:
    """Return the GPUs that the jobs in work and waiting ask for right now."""
    return math.ceil(max(seen.mean_concurrency, float(seen.busy + seen.queued) if seen.queued else 0.0))
