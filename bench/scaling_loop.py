"""Seasonal demand, a forecaster that may err, and a pool whose replicas take minutes to boot, on a virtual clock.

`bench/reconcile.py` drives `decide_replicas` with it. One unit of demand is one busy slot, and a replica has one.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from halfdrop.contracts.plans import DemandPlan, DemandSeries
from halfdrop.operator.deciding import Observation, PoolFacts, ScalingDecision, decide_replicas
from halfdrop.operator.policies import CapacityPolicySpec, Reactive
from halfdrop.operator.stepping import DecisionMemory

LOOK_S = 15.0
STEP_S = 60.0
BOOT_MIN_S, BOOT_MAX_S = 240.0, 480.0
JOB_S = 29.0
"""A mean execution in production; a slot ends so many a second."""

HORIZON_STEPS = 24
Z_99 = 2.33

POLICY = CapacityPolicySpec(max_replicas=200, min_replicas=1, reactive=Reactive(jobs_per_slot=1.0))
START = 1_767_225_600.0  # a first of January, UTC


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecaster:
    """What is published: the expected demand times `factor`, `late_s` after its time; nothing if it is stopped."""

    factor: float = 1.0
    late_s: float = 0.0
    is_stopped: bool = False


FORECASTERS = {
    "right": Forecaster(),
    "stopped": Forecaster(is_stopped=True),
    "times_0": Forecaster(factor=0.0),
    "times_100": Forecaster(factor=100.0),
    "late": Forecaster(late_s=1800.0),
}


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a run counted."""

    looks: int = 0
    flaps: int = 0
    """Floors lowered within the cooldown of a raise: what had just booted was given up."""

    regrets: int = 0
    """Floors raised again within the cooldown of being lowered: what was given up was wanted after all."""

    below_floor: int = 0
    """Decisions below what observation alone asked for, within the maximum."""

    replica_hours: float = 0.0
    work_hours: float = 0.0
    late_looks: int = 0
    """Looks at which work waited for a replica."""

    reasons: dict[str, int] = field(default_factory=dict)


def expected_demand(at: float) -> float:
    """Return the mean busy slots at a Unix second: a day with two humps, a quieter weekend, an hourly spike."""
    hour = at % 86_400 / 3600
    day = 12 + 10 * math.exp(-(((hour - 10) / 2.5) ** 2)) + 14 * math.exp(-(((hour - 20) / 3) ** 2))
    weekend = 0.6 if int(at // 86_400 + 4) % 7 in (0, 6) else 1.0
    spike = 8.0 if at % 3600 < 300 else 0.0
    return day * weekend + spike


def run_loop(forecaster: Forecaster, *, days: float, seed: int) -> Outcome:
    """Return what happened in `days` of looks, 15 s apart."""
    rng = random.Random(seed)
    outcome, memory = Outcome(), DecisionMemory()
    pool = PoolFacts(name="bench", boot_p95_s=BOOT_MAX_S)
    ready, booting = 20, list[float]()
    queue, changed_at, raised = 0.0, -math.inf, False
    plan: DemandPlan | None = None
    for look in range(int(days * 86_400 / LOOK_S)):
        now = START + look * LOOK_S
        ready += sum(1 for done in booting if done <= now)
        booting = [done for done in booting if done > now]
        offered = max(0.0, rng.gauss(expected_demand(now), math.sqrt(expected_demand(now)) / 2))
        queue = max(0.0, queue + (offered - ready) * LOOK_S / JOB_S)
        jobs = min(offered, ready) + queue
        if not forecaster.is_stopped and look % int(STEP_S / LOOK_S) == 0:
            plan = make_plan(forecaster, now)
        seen = Observation(floor=memory.replicas or ready, replicas=ready + len(booting), ready=ready, jobs=jobs)
        decision = decide_replicas(policy=POLICY, pool=pool, observation=seen, plan=plan, memory=memory, now=now)
        before = memory.replicas if memory.replicas is not None else ready
        changed_at, raised = count(outcome, decision, before=before, jobs=jobs, now=now, last=(changed_at, raised))
        memory = decision.memory
        wanted = decision.replicas or 0
        booting += boots(wanted - ready - len(booting), now, rng)
        if wanted < ready + len(booting):
            booting = booting[: max(0, wanted - ready)]
            ready = min(ready, wanted)
        outcome.replica_hours += (ready + len(booting)) * LOOK_S / 3600
        outcome.work_hours += offered * LOOK_S / 3600
        outcome.late_looks += queue > 1.0
    return outcome


def count(
    outcome: Outcome, decision: ScalingDecision, *, before: int, jobs: float, now: float, last: tuple[float, bool]
) -> tuple[float, bool]:
    """Count one decision, and return when the floor last changed and whether it went up then."""
    outcome.looks += 1
    outcome.reasons[decision.reason] = outcome.reasons.get(decision.reason, 0) + 1
    replicas = decision.replicas or 0
    needed = min(POLICY.max_replicas, jobs / POLICY.reactive.jobs_per_slot)
    outcome.below_floor += replicas < needed - 1e-6
    if replicas == before:
        return last
    changed_at, was_raised = last
    is_soon = now - changed_at < POLICY.scale_down.cooldown_seconds
    outcome.flaps += is_soon and was_raised and replicas < before
    outcome.regrets += is_soon and not was_raised and replicas > before
    return now, replicas > before


def make_plan(forecaster: Forecaster, now: float) -> DemandPlan:
    """Return the quantiles of the demand that is expected, as this forecaster says it."""
    begin = now - forecaster.late_s

    def row(step: int) -> tuple[float, float]:
        mean = expected_demand(begin + step * STEP_S)
        return mean * forecaster.factor, (mean + Z_99 * math.sqrt(mean) / 2) * forecaster.factor

    # A late forecaster's plan begins when it should have been there, and is as old as it is late.
    steps = HORIZON_STEPS + math.ceil(forecaster.late_s / STEP_S)
    series = DemandSeries(busy=tuple(row(step) for step in range(steps)))
    return DemandPlan(
        region="local",
        pool="bench",
        made_at=begin,
        starts_at=begin,
        step_s=STEP_S,
        quantiles=(0.5, 0.99),
        series=(series,),
    )


def boots(more: int, now: float, rng: random.Random) -> Iterator[float]:
    """Yield when each of `more` replicas will be ready."""
    return (now + rng.uniform(BOOT_MIN_S, BOOT_MAX_S) for _ in range(max(0, more)))
