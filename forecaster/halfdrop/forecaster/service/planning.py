"""The plan of one pool as it lives on: margin, hold, fall-back, and the reason for each change. Knows no clock.

The arithmetic is plan.py's and quantile_policy.py's. What is added here is what a live pool needs beside it: minutes
that come one by one instead of ticks of 15 s, forecasts that have been bad, and a memory of what changed and why.
"""

import math
from collections import deque

import msgspec
import numpy as np

from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.plan import PlanPoint, PlanPolicy, at_score, plan_capacity, score_of
from halfdrop.forecaster.quantile_policy import MarginSteering
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S
from halfdrop.forecaster.workload import MINUTE_S, FloatArray

CHANGES_KEPT = 500
FALLBACK_MINUTES = 30
"""While the forecast is not believed, the floor is the peak of so many minutes, not of the newest alone."""

FALLBACK_HOLD_MINUTES = 30
"""A forecast that has been bad must have been good for this long before it plans again."""

FOLLOWED_SHARE = 0.1
"""A pool that has this much more or fewer GPUs than were planned does not follow the plan."""

ORDERS_KEPT = 240
JOB_GPU_S = 20.0
"""Where nobody counts jobs."""

INTERVALS_PER_MINUTE = MINUTE_S // DECISION_INTERVAL_S


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the plan for now."""

    minute: int
    before: int
    replicas: int
    reason: str


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool should have, from `minute` on."""

    minute: int
    """Minutes since the epoch at the end of which it was planned."""

    replicas: int
    reason: str
    points: tuple[PlanPoint, ...]
    score: float
    quantile: float
    """What the score is as a quantile of demand."""

    reactive_floor: int
    boot_p95_s: float
    fallback: str = ""
    """Why the forecast does not plan; empty: it does."""


class PoolBook:
    """One pool's plan. Minutes are given in order, each once."""

    def __init__(self, policy: PlanPolicy) -> None:
        self.policy = policy
        self.changes: deque[Change] = deque(maxlen=CHANGES_KEPT)
        self.planned: Planned | None = None
        self._steering = MarginSteering(score=score_of(policy.quantile), late_share_target=policy.late_share_target)
        self._wishes: deque[int] = deque(maxlen=max(1, policy.hold_minutes))
        self._orders: deque[int] = deque(maxlen=ORDERS_KEPT)
        self._recent: deque[float] = deque(maxlen=FALLBACK_MINUTES)
        self._bad = Verdict(is_good=True)
        self._bad_until = 0

    def apply(self, policy: PlanPolicy) -> None:
        """Go on with another policy: the margin that was learnt stays, where its target does."""
        if policy.late_share_target != self.policy.late_share_target or policy.quantile != self.policy.quantile:
            self._steering = MarginSteering(score=score_of(policy.quantile), late_share_target=policy.late_share_target)
        self.policy = policy
        self._wishes = deque(self._wishes, maxlen=max(1, policy.hold_minutes))

    def note(self, *, gpus: float, arrived: float, late: float, capacity: float, boot_p95_s: float) -> None:
        """Learn what came of one minute: work offered, jobs, late ones, and the GPUs there were. NaN: not known.

        Lateness under other capacity than was planned is not the margin's doing. Then what counts is the work beyond
        the plan that could have been there by now, as a share of the jobs.
        """
        if math.isnan(gpus):
            self._orders.append(self.planned.replicas if self.planned else 0)
            return
        self._recent.append(gpus)
        behind = min(max(1, math.ceil(boot_p95_s / MINUTE_S)), len(self._orders))
        ordered = self._orders[-behind] if behind else 0
        self._orders.append(self.planned.replicas if self.planned else 0)
        if math.isnan(arrived):
            arrived = gpus * MINUTE_S / JOB_GPU_S
        is_followed = not math.isnan(capacity) and abs(capacity - ordered) <= FOLLOWED_SHARE * ordered
        if math.isnan(late) or not is_followed:
            late = arrived * max(0.0, gpus - ordered) / max(gpus, 1e-9) if ordered else math.nan
        if self.policy.is_margin_steered and not math.isnan(late):
            # The steering counts in intervals of a decision, of which a minute has several.
            share = int(arrived) // INTERVALS_PER_MINUTE
            for _ in range(INTERVALS_PER_MINUTE - 1):
                self._steering.note(share, 0)
            self._steering.note(int(arrived) - share * (INTERVALS_PER_MINUTE - 1), int(min(late, arrived)))

    def plan(
        self,
        quantiles: FloatArray | None,
        horizons: tuple[int, ...],
        *,
        minute: int,
        boot_p95_s: float,
        verdict: Verdict,
        age_s: float = 0.0,
        missing: str = "no forecast yet",
    ) -> Planned:
        """Plan from the end of `minute` on, and remember the change if it is one.

        quantiles: [horizons, QUANTILES] or None, for the reason that `missing` says.
        """
        newest = self._recent[-1] if self._recent else 0.0
        floor = math.ceil(newest)
        fallback = self._judge(verdict, minute)
        if quantiles is None:
            quantiles, horizons, fallback = np.full((1, len(QUANTILES)), np.nan), (1,), missing
        if fallback:
            floor = math.ceil(max(self._recent, default=0.0))
            if not self._bad.is_low:
                quantiles = np.full_like(quantiles, np.nan)  # too large or of no worth: it plans nothing
        points = plan_capacity(
            quantiles,
            horizons,
            boot_p95_s=boot_p95_s,
            score=self._steering.score,
            policy=self.policy,
            reactive_floor=floor,
            age_s=age_s,
        )
        wanted = points[0].replicas
        self._wishes.append(wanted)
        reason = f"{points[0].reason}: {fallback}" if fallback else points[0].reason
        replicas, reason = self._hold(wanted, reason)
        before = self.planned.replicas if self.planned else 0
        self.planned = Planned(
            minute=minute,
            replicas=replicas,
            reason=reason,
            points=points,
            score=self._steering.score,
            quantile=0.5 * (1 + math.erf(self._steering.score / math.sqrt(2))),
            reactive_floor=floor,
            boot_p95_s=boot_p95_s,
            fallback=fallback,
        )
        if replicas != before:
            self.changes.append(Change(minute=minute, before=before, replicas=replicas, reason=reason))
        return self.planned

    def _judge(self, verdict: Verdict, minute: int) -> str:
        """Return why the forecast is not believed, or "". What was bad stays so for a while."""
        if not verdict.is_good:
            self._bad, self._bad_until = verdict, minute + FALLBACK_HOLD_MINUTES
        elif minute >= self._bad_until:
            self._bad = verdict
        return self._bad.reason

    def _hold(self, wanted: int, reason: str) -> tuple[int, str]:
        """Give back late and in one go, as the replayed policy does."""
        if self.planned is None or wanted >= self.planned.replicas:
            return wanted, reason
        before = self.planned.replicas
        held = max(self._wishes)
        if held >= before:
            return before, f"held: {before} were wanted within {self.policy.hold_minutes} min"
        if before - held < self.policy.hysteresis * before:
            return before, f"held: {before - held} fewer is within the hysteresis of {self.policy.hysteresis:.0%}"
        return held, f"given back, not wanted for {self.policy.hold_minutes} min; {reason}"


def requirement(record: FloatArray, horizons: tuple[int, ...], *, boot_p95_s: float) -> FloatArray:
    """Return the largest quantiles over now … boot p95: [minutes, horizons, QUANTILES] → [minutes, QUANTILES]."""
    count = 1 + sum(horizon * MINUTE_S < boot_p95_s for horizon in horizons[:-1])
    largest: FloatArray = record[:, :count].max(axis=1)
    return largest


def gpus_at(quantiles: FloatArray, score: float) -> float:
    """Return demand at a score, in GPUs."""
    return at_score(quantiles.tolist(), score)
