"""From a plan to replicas: its capacity or which quantile, how far ahead, and what of it is to be believed. Pure."""

import math
import zlib
from collections.abc import Iterable

from msgspec import Struct

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.plans import DemandPlan, DemandSeries, find_absurdity
from halfdrop.operator.policies import ALL_CLASSES, Fallback, Objective

QUANTILE_DEFAULT = 0.99
"""Held at most 1 % late jobs on every trace that was tried; for plans that say no capacity."""

PRICE_TOLERANCE = 0.01

BELIED_TIMES, BELIED_SLOTS = 10.0, 20.0
"""A plan whose median for this very minute is so many times what is seen, and so much in slots, is not believed.
Forecasts err by less, and campaigns show in the minutes to come; a unit that was mistaken errs by more."""


class Distrust(Struct, frozen=True, kw_only=True):
    """Why a plan is not followed."""

    reason: str
    """PlanMissing, PlanStale or PlanAbsurd."""

    message: str


def wanted_quantile(objective: Objective) -> float:
    """Return the quantile of demand that a policy wants to be ready for."""
    if objective.costs is not None:
        late, idle = objective.costs.late_replica_minute, objective.costs.idle_replica_minute
        return late / (late + idle)
    if objective.late_share is not None:
        return 1.0 - objective.late_share
    return objective.quantile if objective.quantile is not None else QUANTILE_DEFAULT


def is_capacity_wanted(plan: DemandPlan, objective: Objective, classes: Iterable[JobClass]) -> bool:
    """Tell whether the capacity that the plan names is what a policy wants; otherwise it reads a quantile.

    A policy that states a quantile has it. Otherwise the forecaster, which knows what comes of lateness, chose for a
    share of late jobs or at a price: that holds if it is at least as strict as the policy, or the same price.
    """
    chosen_for = plan.capacity_for
    series = _series_of(plan, frozenset(classes))
    if chosen_for is None or not series or not all(each.capacity for each in series) or objective.quantile is not None:
        return False
    if objective.late_share is not None:
        return chosen_for.late_share is not None and chosen_for.late_share <= objective.late_share * (
            1 + PRICE_TOLERANCE
        )
    if objective.costs is not None:
        price = objective.costs.late_replica_minute / objective.costs.idle_replica_minute
        is_sought = chosen_for.late_share is not None or chosen_for.quantile is not None
        return not is_sought and abs(chosen_for.price / price - 1) <= PRICE_TOLERANCE
    return True


def stagger_of(pool: str, stagger_s: float) -> float:
    """Return this pool's own part of `stagger_s`: always the same, spread evenly over pools."""
    return stagger_s * (zlib.crc32(pool.encode()) / 2**32)


def distrust(
    plan: DemandPlan | None,
    *,
    problem: str,
    fallback: Fallback,
    now: float,
    classes: Iterable[JobClass] = ALL_CLASSES,
    jobs: float | None = None,
) -> Distrust | None:
    """Return why not to follow the plan, or None. `problem`: why there is none, where there is none.

    jobs: of `classes`, waiting or in hand as seen now; None: nobody tells.
    """
    if plan is None:
        return Distrust(reason="PlanMissing", message=problem or "no plan was published for this pool")
    if absurdity := find_absurdity(plan, now=now):
        return Distrust(reason="PlanAbsurd", message=f"the plan is not believed: {absurdity}")
    if (age_s := now - plan.made_at) > fallback.stale_after_seconds:
        return Distrust(
            reason="PlanStale",
            message=f"the plan is {age_s:.0f} s old; allowed: {fallback.stale_after_seconds}",
        )
    longest = max(len(series.busy) for series in plan.series)
    if plan.starts_at + longest * plan.step_s <= now:
        return Distrust(reason="PlanStale", message="the plan ends before now")
    if jobs is not None and jobs >= 0:  # a number that is none says nothing
        expected = _sum_at(plan, classes, step=_step_at(plan, now), column=0)
        if expected > BELIED_SLOTS and expected > BELIED_TIMES * max(jobs, 1.0):
            seen = f"the plan is not believed: it says {expected:.0f} busy slots for now, and {jobs:g} jobs are seen"
            return Distrust(reason="PlanAbsurd", message=seen)
    return None


def planned_replicas(
    plan: DemandPlan,
    *,
    classes: Iterable[JobClass],
    quantile: float | None,
    jobs_per_replica: int,
    now: float,
    ahead_s: float,
    from_s: float = 0.0,
) -> int:
    """Return the most replicas that the plan asks for between `from_s` and `ahead_s` from now.

    plan: one that `distrust` let pass. The smallest of its quantiles that is not below `quantile` is read, or its
    largest; None: its capacity. A plan that ends too early is read as far as it goes.
    """
    column: int | None = None
    if quantile is not None:
        column = next(
            (index for index, given in enumerate(plan.quantiles) if given >= quantile - 1e-9), len(plan.quantiles) - 1
        )
    chosen = _series_of(plan, frozenset(classes))
    longest = max((len(series.busy) for series in chosen), default=0)
    first = min(_step_at(plan, now + from_s), max(_step_at(plan, now), longest - 1))
    last = max(first, math.floor((now + ahead_s - plan.starts_at) / plan.step_s))
    sums = (_sum_at(plan, classes, step=step, column=column) for step in range(first, min(last + 1, longest)))
    return math.ceil(max(sums, default=0.0) / jobs_per_replica - 1e-9)


def _step_at(plan: DemandPlan, now: float) -> int:
    return max(0, math.floor((now - plan.starts_at) / plan.step_s))


def _sum_at(plan: DemandPlan, classes: Iterable[JobClass], *, step: int, column: int | None) -> float:
    chosen = [series for series in _series_of(plan, frozenset(classes)) if step < len(series.busy)]
    return sum(series.capacity[step] if column is None else series.busy[step][column] for series in chosen)


def _series_of(plan: DemandPlan, classes: frozenset[JobClass]) -> list[DemandSeries]:
    """The whole if all classes are asked for and it is there; else the classes, whose sum is on the safe side."""
    whole = [series for series in plan.series if series.job_class == "all"]
    parts = [series for series in plan.series if series.job_class in classes]
    if whole and (classes >= set(ALL_CLASSES) or not parts):
        return whole[:1]
    return parts
