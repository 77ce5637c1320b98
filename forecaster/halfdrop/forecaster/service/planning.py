"""The plan of one pool as it lives on: its price, its fall-back, and the reason for each change. Knows no clock.

What is ordered, kept and given back is `CapacityOrder`'s, as in a replay. What is added here is what a live pool needs
beside it: minutes that come one by one instead of ticks of 15 s, forecasts that have been bad, and a memory of what
changed and why.
"""

import math
from collections import deque

import msgspec

from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.plan import STALE_AFTER_S, PlanPoint, PlanPolicy
from halfdrop.forecaster.planned_policy import (
    PLAN_HORIZONS_MINUTES,
    PRICES,
    UNKNOWN,
    CapacityOrder,
    PriceSteering,
    at_price,
    horizons_until,
)
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, ScalingDecision
from halfdrop.forecaster.shadow_pools import BLOCK_MINUTES, Price
from halfdrop.forecaster.workload import MINUTE_S, IntArray

CHANGES_KEPT = 500
FALLBACK_MINUTES = 30
"""While the forecast is not believed, the floor is the peak of so many minutes, not of the newest alone."""

FALLBACK_HOLD_MINUTES = 30
"""A forecast that has been bad must have been good for this long before it plans again."""

FOLLOWED_SHARE = 0.1
"""A pool that has this much more or fewer GPUs than were planned does not follow the plan."""

STEERED_MIN = 0.05
"""A correction of the price by less than this, as a logarithm, is not worth a word."""

ORDERS_KEPT = 240
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
    price: float
    """What a second of late work costs, against a second of an idle GPU."""

    price_reason: str
    """Where the price comes from."""

    quantile: float | None
    """Of demand, where the policy states one: the price has no say then."""

    wanted: tuple[int, ...]
    """GPUs at each of PLAN_HORIZONS_MINUTES, those beyond a boot too; empty: nothing is forecast."""

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
        self._steering = PriceSteering(late_share_target=policy.late_share_target)
        self._order = CapacityOrder(policy, hold_decisions=policy.hold_minutes)
        self._orders: deque[int] = deque(maxlen=ORDERS_KEPT)
        self._recent: deque[float] = deque(maxlen=FALLBACK_MINUTES)
        self._bad = Verdict(is_good=True)
        self._bad_until = 0

    def apply(self, policy: PlanPolicy) -> None:
        """Go on with another policy: what lateness has taught stays, where its target does."""
        if policy.late_share_target != self.policy.late_share_target:
            self._steering = PriceSteering(late_share_target=policy.late_share_target)
        self.policy = policy
        self._order.apply(policy, hold_decisions=policy.hold_minutes)

    def note(self, *, gpus: float, arrived: float, late: float, capacity: float, boot_p95_s: float) -> None:
        """Learn what came of one minute: work offered, jobs, late ones, and the GPUs there were. NaN: not known.

        Lateness under other capacity than was planned is not the plan's doing: then the shadow pools alone, which serve
        the same demand as the plan would have, say what lateness costs.
        """
        if math.isnan(gpus):
            self._orders.append(self.planned.replicas if self.planned else 0)
            return
        self._recent.append(gpus)
        behind = min(max(1, math.ceil(boot_p95_s / MINUTE_S)), len(self._orders))
        ordered = self._orders[-behind] if behind else 0
        self._orders.append(self.planned.replicas if self.planned else 0)
        is_followed = not math.isnan(capacity) and abs(capacity - ordered) <= FOLLOWED_SHARE * ordered
        if self.policy.is_price_sought and is_followed and not (math.isnan(late) or math.isnan(arrived)):
            # The steering counts in intervals of a decision, of which a minute has several.
            share = int(arrived) // INTERVALS_PER_MINUTE
            for _ in range(INTERVALS_PER_MINUTE - 1):
                self._steering.note(share, 0)
            self._steering.note(int(arrived) - share * (INTERVALS_PER_MINUTE - 1), int(min(late, arrived)))

    def plan(
        self,
        wanted: IntArray | None,
        found: Price | None,
        *,
        minute: int,
        boot_p50_s: float,
        boot_p95_s: float,
        verdict: Verdict,
        age_s: float = 0.0,
        missing: str = "no forecast yet",
    ) -> Planned:
        """Plan from the end of `minute` on, and remember the change if it is one.

        wanted: [PLAN_HORIZONS_MINUTES, PRICES], or None, for the reason that `missing` says. found: the price that
        shadow pools found; None: they have found nothing yet.
        """
        floor = math.ceil(self._recent[-1] if self._recent else 0.0)
        fallback = self._judge(verdict, minute)
        if wanted is None:
            fallback = missing
        elif (wanted == UNKNOWN).any():
            fallback, wanted = "the forecast is no number", None
        elif age_s > STALE_AFTER_S:
            fallback, wanted = f"the newest minute is {age_s / MINUTE_S:.0f} min old", None
        if fallback:
            floor = math.ceil(max(self._recent, default=0.0))
            if not self._bad.is_low:
                wanted = None  # too large or of no worth: it plans nothing
        log_price, why = self._price(found)
        by_horizon = at_price(wanted, log_price) if wanted is not None else []
        horizons = horizons_until(boot_p95_s)
        if by_horizon:
            self._order.plan(by_horizon[: len(horizons)], horizons, boot_p50_s=boot_p50_s)
        else:
            self._order.plan_nothing()
        before = self.planned.replicas if self.planned else 0
        decision = self._order.decide(floor=floor, total=before)
        most = max([0, *by_horizon[: len(horizons)]])
        full, brief = (
            self._say(decision, needs, before=before, most=most, floor=floor) + (f": {fallback}" if fallback else "")
            for needs in self._need(by_horizon[: len(horizons)], floor, price=math.exp(log_price))
        )
        points = [PlanPoint(minutes_ahead=0, replicas=decision.replicas, reason=full)]
        points += self._points(by_horizon, horizons, floor)
        self.planned = Planned(
            minute=minute,
            replicas=decision.replicas,
            reason=full,
            points=tuple(points),
            price=math.exp(log_price),
            price_reason=why,
            quantile=self.policy.quantile,
            wanted=tuple(by_horizon),
            reactive_floor=floor,
            boot_p95_s=boot_p95_s,
            fallback=fallback,
        )
        if decision.replicas != before:
            self.changes.append(Change(minute=minute, before=before, replicas=decision.replicas, reason=brief))
        return self.planned

    def _judge(self, verdict: Verdict, minute: int) -> str:
        """Return why the forecast is not believed, or "". What was bad stays so for a while."""
        if not verdict.is_good:
            self._bad, self._bad_until = verdict, minute + FALLBACK_HOLD_MINUTES
        elif minute >= self._bad_until:
            self._bad = verdict
        return self._bad.reason

    def _price(self, found: Price | None) -> tuple[float, str]:
        """Return the logarithm of the price that holds now, and where it comes from."""
        policy = self.policy
        if policy.quantile is not None:
            return policy.log_price, f"none: the policy states the quantile {policy.quantile:g}"
        if not policy.is_margin_steered:
            return _within_prices(policy.log_price), "the policy's costs, which lateness is not to move"
        if found is None or not found.blocks:
            why = "the policy's costs: fewer than six hours of this pool are kept for shadow pools to serve"
            found = Price(log_price=policy.log_price)
        else:
            hours = found.blocks * BLOCK_MINUTES / 60
            span = f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.3g} days"
            why = f"shadow pools that served the last {span} again, for {policy.late_share_target:.2%} late jobs"
        correction = self._steering.correction
        if abs(correction) >= STEERED_MIN:
            why = f"{why}; times {math.exp(correction):.2g} by this pool's own lateness"
        return _within_prices(found.log_price + correction), why

    def _need(self, needed: list[int], floor: int, *, price: float) -> tuple[str, str]:
        """Say what the forecast asks for up to the boot's p95, or what stands in for it: in full, and for a list."""
        policy = self.policy
        least = max(floor, policy.replicas_min)
        at_least = f"reactive floor: {least} GPUs, the more of {floor} at work and the minimum of {policy.replicas_min}"
        if not needed:
            return f"no usable forecast, {at_least}", f"no usable forecast, reactive floor: {least}"
        most = max(needed)
        within = f"within {PLAN_HORIZONS_MINUTES[needed.index(most)]} min"
        if policy.quantile is not None:
            brief = f"{most} {within}, by the stated quantile {policy.quantile:g}"
            full = f"the policy states the quantile {policy.quantile:g}: demand {within} asks for {most} GPUs"
        else:
            brief = f"{most} {within} are cheapest, late at {price:.3g} × idle"
            costs = f"late seconds cost {price:.3g} times an idle GPU second"
            full = f"{costs}: {most} GPUs are cheapest for what is forecast {within}"
        return (full, brief) if most >= least else (f"{at_least}; {full}", f"reactive floor: {least}; {brief}")

    def _say(self, decision: ScalingDecision, needs: str, *, before: int, most: int, floor: int) -> str:
        """Return the reason for what was decided, in words. most: GPUs that the forecast asks for."""
        policy, asked = self.policy, max(most, floor, self.policy.replicas_min)
        if asked > policy.replicas_max:
            return f"replicas_max, instead of {asked}; {needs}"
        if decision.reason.startswith("given back"):
            return f"given back, not wanted for {policy.hold_minutes} min; {needs}"
        if decision.replicas == before > asked:
            return f"kept, wanted a moment ago or too few to give back; {needs}"
        return needs

    def _points(self, by_horizon: list[int], horizons: tuple[int, ...], floor: int) -> list[PlanPoint]:
        """Return what is wanted at each horizon up to the boot's p95."""
        if not by_horizon:
            replicas = self._order.bound(floor)
            return [
                PlanPoint(minutes_ahead=horizons[0], replicas=replicas, reason="no usable forecast: reactive floor")
            ]
        found = []
        for horizon, wanted in zip(horizons, by_horizon, strict=False):
            reason = "forecast" if wanted >= max(floor, self.policy.replicas_min) else "reactive floor"
            replicas = self._order.bound(max(wanted, floor))
            if max(wanted, floor) > self.policy.replicas_max:
                reason = f"replicas_max, instead of {max(wanted, floor)}"
            found.append(PlanPoint(minutes_ahead=horizon, replicas=replicas, reason=reason))
        return found


def _within_prices(log_price: float) -> float:
    return min(max(log_price, math.log(PRICES[0])), math.log(PRICES[-1]))
