"""The policy that a live pool runs: the plan's quantile, steered by the lateness that comes of it, given back late and
in one go. Pure.

The driver passes each minute's forecast in: a replay from a table that was made minute by minute, a live pool from its
forecaster. Without one, or with a stale one, the reactive floor decides alone. `planned_policy` decides by the price of
lateness instead; it is cheaper in replays and does not run live yet.
"""

from collections import deque

from halfdrop.forecaster.plan import SCORE_MAX, PlanPolicy, plan_capacity, score_of
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, ScalingDecision, reactive_floor
from halfdrop.forecaster.workload import DAY_S, MINUTE_S, FloatArray

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


class QuantilePolicy:
    """Scales by plan. `forecasts`: [minutes, horizons, QUANTILES], row m made when minute m of the replay had ended."""

    def __init__(
        self, forecasts: FloatArray, horizons: tuple[int, ...], *, policy: PlanPolicy, boot_p95_s: float
    ) -> None:
        policy.check()
        self._forecasts, self._horizons = forecasts, horizons
        self._policy, self._boot_p95_s = policy, boot_p95_s
        self.steering = MarginSteering(score=score_of(policy.quantile), late_share_target=policy.late_share_target)
        self._wishes: deque[int] = deque(maxlen=max(1, policy.hold_minutes * MINUTE_S // DECISION_INTERVAL_S))
        self._planned, self._reason = policy.replicas_min, "start"

    def decide(self, seen: Observation) -> ScalingDecision:
        if self._policy.is_margin_steered:
            self.steering.note(seen.arrived, seen.late)
        floor = reactive_floor(seen)
        minute = seen.now_s // MINUTE_S - 1
        if seen.now_s % MINUTE_S == 0 and minute < len(self._forecasts):
            plan = plan_capacity(
                self._forecasts[minute],
                self._horizons,
                boot_p95_s=self._boot_p95_s,
                score=self.steering.score,
                policy=self._policy,
                reactive_floor=0,
            )
            self._planned, self._reason = plan[0].replicas, plan[0].reason
        wanted = min(max(self._planned, floor), self._policy.replicas_max)
        reason = self._reason if self._planned >= floor else "reactive floor"
        return self._hold(wanted, seen.ready + seen.booting, reason)

    def _hold(self, wanted: int, total: int, reason: str) -> ScalingDecision:
        self._wishes.append(wanted)
        if wanted >= total:
            return ScalingDecision(replicas=wanted, reason=reason)
        held = max(self._wishes)
        if held >= total or total - held < self._policy.hysteresis * total:
            return ScalingDecision(replicas=total, reason="held: wanted a moment ago")
        return ScalingDecision(replicas=held, reason="given back: not wanted for long enough")
