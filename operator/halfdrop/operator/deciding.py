"""How many replicas a pool should have ready, and why: a pure function of what is known at one moment.

No clock, no client: the operator and the replay of a whole year both call `decide_replicas`, with the time as an
argument and the memory of earlier decisions as a value that goes in and comes out. What overrules what, the strongest
first:

1. nothing observed, or a freeze: hold what was decided;
2. the ceiling: the policy's maximum, the autoscaler's, the budget (which never goes below the minimum);
3. the floor: the minimum, scheduled or not, and what observation alone asks for; no ramp slows it;
4. the plan: what it asks for when a replica ordered now will have booted; without one to be believed, the fallback;
5. lowering: only what nothing asks for from now to a cooldown after the boot, only if for the whole cooldown less was
   enough, and then to the most of it, in one go.
"""

import math

from msgspec import Struct

from halfdrop.contracts.plans import CapacityFor, DemandPlan
from halfdrop.operator.policies import CapacityPolicySpec
from halfdrop.operator.requirement import distrust, is_capacity_wanted, planned_replicas, stagger_of, wanted_quantile
from halfdrop.operator.schedules import freeze_at, schedule_at, scheduled_minimum
from halfdrop.operator.splitting import Part
from halfdrop.operator.stepping import REPLICAS_MAX, Ask, Ceiling, DecisionMemory, changed, take_step


class PoolFacts(Struct, frozen=True, kw_only=True):
    """What is known of a pool beside the moment."""

    name: str
    jobs_per_replica: int = 1
    boot_p95_s: float
    """Measured, or assumed until it is."""

    boot_p50_s: float = 0.0
    """What is needed sooner, a boot begun now comes too late for. Zero until it is measured: nothing is given up."""

    cost_per_replica_hour: float = 1.0
    part: Part | None = None
    """Of a plan that another pool follows as well; None: the plan is all this pool's."""


class Observation(Struct, frozen=True, kw_only=True):
    """What the cluster and the queue say now."""

    floor: int
    """What the target asks for at the moment."""

    replicas: int = 0
    ready: int | None = None
    replicas_max: int | None = None
    """The autoscaler's own maximum; None: it has none."""

    jobs: float | None = None
    """Jobs waiting or in hand, of the policy's classes; None: nobody tells."""


class BudgetLeft(Struct, frozen=True, kw_only=True):
    """What this pool may still spend, after what the policy's other pools cost; None: no bound."""

    per_hour: float | None = None
    per_month: float | None = None


class ScalingDecision(Struct, frozen=True, kw_only=True):
    """How many replicas, and why."""

    replicas: int | None
    """None: nothing was decided yet and nothing is seen: leave the target alone."""

    reason: str
    """One word for conditions and Events: Plan, Minimum, ReactiveFloor, Cooldown …"""

    message: str
    memory: DecisionMemory
    wanted: int = 0
    """Before ceiling, ramp, hysteresis and cooldown."""

    reactive_floor: int = 0
    ceiling: int = 0
    plan_problem: str = ""
    """Why the plan is not followed; empty where it is."""

    plan_reason: str = "Followed"


def decide_replicas(
    *,
    policy: CapacityPolicySpec,
    pool: PoolFacts,
    observation: Observation | None,
    plan: DemandPlan | None,
    memory: DecisionMemory,
    now: float,
    budget: BudgetLeft | None = None,
    plan_problem: str = "",
) -> ScalingDecision:
    """Return the replicas that `pool` should have ready. `plan_problem`: why there is no plan, where there is none."""
    if observation is None:
        return _hold(memory, "NoObservation", "the target could not be read; what was decided stays")
    freeze = freeze_at(policy.freezes, now)
    if freeze is not None and freeze.mode == "Hold":
        kept = memory if memory.replicas is not None else changed(memory, observation.floor, now)
        return _hold(kept, "Freeze", f"freeze {freeze.name!r} until {freeze.until:%Y-%m-%d %H:%M %Z}: nothing changes")
    lead_s = _lead_s(policy, pool)
    low = scheduled_minimum(policy.schedules, default=policy.min_replicas, now=now, lead_s=lead_s)
    ceiling = _ceiling(policy, pool, observation, budget or BudgetLeft(), low=low, now=now)
    low = min(low, ceiling.replicas)
    reactive = _reactive_floor(policy, pool, observation)
    doubt = distrust(
        plan,
        problem=plan_problem,
        fallback=policy.fallback,
        now=now,
        classes=policy.job_classes,
        jobs=observation.jobs,
    )
    planned = _fallback(policy, pool, memory, doubt.reason) if doubt else _plan(policy, pool, plan, lead_s, now)
    ask = max(_minimum(low), _reaction(reactive, observation), planned, key=lambda candidate: candidate.replicas)
    current = memory.replicas if memory.replicas is not None else observation.floor
    step = take_step(
        policy,
        memory,
        ask=ask,
        ceiling=ceiling,
        urgent=min(ceiling.replicas, max(low, reactive)),
        to_lower=min(ceiling.replicas, max(low, reactive, planned.to_lower)),
        current=max(0, current),
        now=now,
        may_lower=freeze is None,
    )
    return ScalingDecision(
        replicas=step.memory.replicas,
        reason=step.reason,
        message=f"{step.message}; {doubt.message}" if doubt else step.message,
        memory=step.memory,
        wanted=ask.replicas,
        reactive_floor=min(reactive, ceiling.replicas),
        ceiling=ceiling.replicas,
        plan_problem=doubt.message if doubt else "",
        plan_reason=doubt.reason if doubt else "Followed",
    )


def _lead_s(policy: CapacityPolicySpec, pool: PoolFacts) -> float:
    own_s = policy.prewarm.lead_seconds
    lead_s = pool.boot_p95_s if own_s is None else float(own_s)
    if not 0 <= lead_s <= 86_400:  # a boot time that is no number
        lead_s = 480.0
    return lead_s + stagger_of(pool.name, policy.prewarm.stagger_seconds)


def _ceiling(
    policy: CapacityPolicySpec, pool: PoolFacts, observation: Observation, budget: BudgetLeft, *, low: int, now: float
) -> Ceiling:
    schedule = schedule_at(policy.schedules, now)
    own = policy.max_replicas if schedule is None or schedule.max_replicas is None else schedule.max_replicas
    found = Ceiling(replicas=own, reason="Maximum", message=f"the maximum is {own}")
    limit = observation.replicas_max
    if limit is not None and limit < found.replicas:
        found = Ceiling(replicas=max(0, limit), reason="Maximum", message=f"the autoscaler's maximum is {limit}")
    pairs = (("hour", budget.per_hour), ("month", budget.per_month))
    for period, left in pairs:
        if left is None or not pool.cost_per_replica_hour > 0:
            continue
        affordable = _whole(max(0.0, left) / pool.cost_per_replica_hour) if not math.isnan(left) else 0
        allowed = max(affordable, min(low, found.replicas))  # the minimum is promised, whatever it costs
        if allowed < found.replicas:
            message = f"the budget of the {period} has {max(0.0, left):.2f} left, enough for {affordable}"
            found = Ceiling(replicas=allowed, reason="Budget", message=message)
    return found


def _minimum(low: int) -> Ask:
    return Ask(replicas=low, to_lower=low, reason="Minimum", message=f"the minimum is {low}")


def _reaction(reactive: int, observation: Observation) -> Ask:
    message = f"{observation.jobs or 0:g} jobs wait or run, which asks for {reactive}"
    return Ask(replicas=reactive, to_lower=reactive, reason="ReactiveFloor", message=message)


def _reactive_floor(policy: CapacityPolicySpec, pool: PoolFacts, observation: Observation) -> int:
    jobs = observation.jobs
    if jobs is None or math.isnan(jobs) or jobs <= 0:
        return 0
    slots = jobs / policy.reactive.jobs_per_slot
    return min(REPLICAS_MAX, math.ceil(min(slots / pool.jobs_per_replica, REPLICAS_MAX) - 1e-9))


def _plan(policy: CapacityPolicySpec, pool: PoolFacts, plan: DemandPlan | None, lead_s: float, now: float) -> Ask:
    assert plan is not None
    is_priced = is_capacity_wanted(plan, policy.objective, policy.job_classes)
    quantile = None if is_priced else wanted_quantile(policy.objective)

    def read(ahead_s: float, *, from_s: float = 0.0) -> int:
        return planned_replicas(
            plan,
            classes=policy.job_classes,
            quantile=quantile,
            jobs_per_replica=pool.jobs_per_replica,
            now=now,
            ahead_s=ahead_s,
            from_s=from_s,
        )

    soonest_s = pool.boot_p50_s if 0 <= pool.boot_p50_s <= lead_s else 0.0
    # The price of a capacity was found by pools that order for their boot's p50: to order for its p95 as well would pay
    # for the same doubt twice. What a policy states beyond that, it has.
    is_doubt_priced = is_priced and soonest_s > 0 and policy.prewarm.lead_seconds is None
    until_s = soonest_s + stagger_of(pool.name, policy.prewarm.stagger_seconds) if is_doubt_priced else lead_s
    # What is given up now would have to boot again if it were needed within the next cooldown.
    replicas, to_lower = read(until_s, from_s=soonest_s), read(lead_s + policy.scale_down.cooldown_seconds)
    by = f"at quantile {quantile:.3g}" if quantile is not None else _words(plan.capacity_for)
    when = f"in {soonest_s:.0f} to {until_s:.0f} s" if until_s > soonest_s > 0 else f"within {until_s:.0f} s"
    message = f"the plan asks for {replicas} {when} {by}"
    if pool.part is not None:
        message = f"{message}, of which {pool.part.of(replicas)} are {pool.part.capacity}"
        replicas, to_lower = pool.part.of(replicas), pool.part.of(to_lower)
    return Ask(replicas=replicas, to_lower=to_lower, reason="Plan", message=message)


def _words(chosen_for: CapacityFor | None) -> str:
    assert chosen_for is not None
    if chosen_for.quantile is not None:
        return f"at its pool's quantile {chosen_for.quantile:.3g}"
    return f"where late work costs {chosen_for.price:.3g} times an idle replica"


def _fallback(policy: CapacityPolicySpec, pool: PoolFacts, memory: DecisionMemory, reason: str) -> Ask:
    held = (memory.replicas or 0) if policy.fallback.mode == "Hold" else 0
    low = policy.fallback.min_replicas
    replicas = max(held, low if pool.part is None else pool.part.of(low))
    return Ask(replicas=replicas, to_lower=replicas, reason=reason, message=f"the fallback asks for {replicas}")


def _hold(memory: DecisionMemory, reason: str, message: str) -> ScalingDecision:
    held = memory.replicas
    return ScalingDecision(
        replicas=held, reason=reason, message=message, memory=memory, wanted=held or 0, ceiling=held or 0
    )


def _whole(value: float) -> int:
    return int(min(value, REPLICAS_MAX))
