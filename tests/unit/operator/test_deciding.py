"""What a pool should have ready, case by case: who asks, what bounds it, how it goes up and comes down."""

from datetime import UTC, datetime

import msgspec
import pytest

from halfdrop.contracts.plans import CapacityFor, DemandPlan, DemandSeries
from halfdrop.operator.deciding import BudgetLeft, Observation, PoolFacts, ScalingDecision, decide_replicas
from halfdrop.operator.policies import CapacityPolicySpec, Costs, Objective
from halfdrop.operator.requirement import stagger_of, wanted_quantile
from halfdrop.operator.stepping import DecisionMemory

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC).timestamp()  # a Friday
POOL = PoolFacts(name="h100", boot_p95_s=300.0)


def policy(**spec: object) -> CapacityPolicySpec:
    return msgspec.convert({"maxReplicas": 50, **spec}, CapacityPolicySpec)


def plan(*busy: float, made_at: float = NOW, **changes: object) -> DemandPlan:
    """One value a minute from now on, the same at both quantiles."""
    series = DemandSeries(busy=tuple((value, value) for value in busy))
    made = DemandPlan(
        region="local", pool="h100", made_at=made_at, starts_at=NOW, quantiles=(0.5, 0.99), series=(series,)
    )
    return msgspec.structs.replace(made, **changes)


def decide(
    chosen: CapacityPolicySpec | None = None,
    *,
    floor: int = 0,
    jobs: float | None = None,
    replicas_max: int | None = None,
    given: DemandPlan | None = None,
    memory: DecisionMemory | None = None,
    now: float = NOW,
    budget: BudgetLeft | None = None,
    pool: PoolFacts = POOL,
) -> ScalingDecision:
    return decide_replicas(
        policy=chosen or policy(),
        pool=pool,
        observation=Observation(floor=floor, jobs=jobs, replicas_max=replicas_max),
        plan=given,
        memory=memory or DecisionMemory(),
        now=now,
        budget=budget,
    )


def test_the_plan_is_read_as_far_ahead_as_a_boot_takes() -> None:
    made = plan(2, 2, 2, 2, 2, 9, 40)
    decision = decide(given=made)
    assert (decision.replicas, decision.reason, decision.plan_problem) == (9, "Plan", "")
    assert "within 300 s at quantile 0.99" in decision.message
    assert decide(policy(prewarm={"leadSeconds": 60}), given=made).replicas == 2
    assert decide(policy(prewarm={"leadSeconds": 360}), given=made).replicas == 40


def test_what_a_boot_comes_too_late_for_is_kept_and_not_ordered() -> None:
    booted = msgspec.structs.replace(POOL, boot_p50_s=180.0)
    made = plan(12, 12, 12, 5, 7, 6, 0, 0, 0)
    decision = decide(given=made, pool=booted)
    assert decision.replicas == 7, "the most from the fourth minute to the sixth"
    assert "the plan asks for 7 in 180 to 300 s at quantile 0.99" in decision.message
    warm = DecisionMemory(replicas=12, changed_at=NOW - 5000)
    assert decide(given=made, pool=booted, memory=warm).replicas == 12
    assert decide(given=plan(12, 5), pool=booted).replicas == 5, "a plan that ends sooner is read to its end"
    assert decide(given=made, pool=booted, jobs=80).replicas == 20, "what waits is served, however late"


def test_a_capacity_is_ordered_for_the_boot_that_its_price_was_found_for() -> None:
    booted = msgspec.structs.replace(POOL, boot_p50_s=180.0)
    made = priced(late_share=0.008)
    assert decide(given=made, pool=booted).replicas == 14
    assert decide(policy(prewarm={"leadSeconds": 300}), given=made, pool=booted).replicas == 16, "stated"
    warm = DecisionMemory(replicas=16, changed_at=NOW - 5000, lower_since=NOW - 5000, lower_peak=14)
    assert decide(given=made, pool=booted, memory=warm).replicas == 16


def test_a_replica_takes_several_jobs() -> None:
    pool = msgspec.structs.replace(POOL, jobs_per_replica=4)
    assert decide(given=plan(9.0), pool=pool).replicas == 3


def test_the_quantile_follows_from_what_the_policy_wants() -> None:
    assert wanted_quantile(Objective()) == 0.99
    assert wanted_quantile(Objective(quantile=0.9)) == 0.9
    assert wanted_quantile(Objective(late_share=0.02)) == pytest.approx(0.98)
    assert wanted_quantile(Objective(costs=Costs(idle_replica_minute=1, late_replica_minute=19))) == pytest.approx(0.95)
    made = plan(0, series=(DemandSeries(busy=((3.0, 8.0),)),))
    assert decide(policy(objective={"quantile": 0.5}), given=made).replicas == 3
    assert decide(policy(objective={"quantile": 0.9}), given=made).replicas == 8, "the next quantile that is given"
    assert decide(policy(objective={"quantile": 0.999}), given=made).replicas == 8, "the largest that is given"


def priced(**chosen_for: object) -> DemandPlan:
    """A plan whose quantiles ask for 20 and whose capacity asks for 14, then 16."""
    series = DemandSeries(busy=((9.0, 20.0),) * 6, capacity=(13.2, 14.0, 14.0, 14.0, 14.0, 16.0))
    return plan(series=(series,), capacity_for=msgspec.convert({"price": 3.1} | chosen_for, CapacityFor))


@pytest.mark.parametrize(
    ("objective", "chosen_for", "replicas"),
    [
        ({}, {"late_share": 0.008}, 16),
        ({"lateShare": 0.008}, {"late_share": 0.008}, 16),
        ({"lateShare": 0.02}, {"late_share": 0.008}, 16),  # stricter than it need be
        ({"lateShare": 0.001}, {"late_share": 0.008}, 20),  # not strict enough: its own quantile
        ({"lateShare": 0.008}, {}, 20),  # lateness had no say in that capacity
        ({"costs": {"idleReplicaMinute": 1, "lateReplicaMinute": 3.1}}, {}, 16),
        ({"costs": {"idleReplicaMinute": 1, "lateReplicaMinute": 3.1}}, {"late_share": 0.008}, 20),
        ({"costs": {"idleReplicaMinute": 1, "lateReplicaMinute": 19}}, {}, 20),
        ({"quantile": 0.5}, {"late_share": 0.008}, 9),  # stated: whatever is cheapest
        ({}, {"quantile": 0.9}, 16),
    ],
)
def test_the_plans_capacity_is_read_where_it_is_what_the_policy_wants(
    objective: dict[str, object], chosen_for: dict[str, object], replicas: int
) -> None:
    decision = decide(policy(objective=objective), given=priced(**chosen_for))
    assert decision.replicas == replicas
    if replicas == 16 and "quantile" not in chosen_for:
        assert "the plan asks for 16 within 300 s where late work costs 3.1 times an idle replica" in decision.message


def test_classes_are_summed_unless_the_whole_is_asked_for() -> None:
    series = tuple(
        DemandSeries(job_class=name, busy=((value, value),))  # type: ignore[arg-type]
        for name, value in {"all": 10.0, "realtime": 4.0, "standard": 5.0, "bulk": 6.0}.items()
    )
    made = plan(0, series=series)
    assert decide(given=made).replicas == 10
    assert decide(policy(jobClasses=["realtime", "bulk"]), given=made).replicas == 10
    assert decide(policy(jobClasses=["realtime"]), given=made).replicas == 4


def test_minimum_and_maximum_bound_the_plan() -> None:
    decision = decide(policy(maxReplicas=7), given=plan(30))
    assert (decision.replicas, decision.reason) == (7, "Maximum")
    assert "the plan asks for 30" in decision.message
    assert "the maximum is 7" in decision.message
    assert decide(given=plan(30), replicas_max=5).replicas == 5
    decision = decide(policy(minReplicas=3), given=plan(1))
    assert (decision.replicas, decision.reason) == (3, "Minimum")


def test_a_budget_bounds_what_is_added_and_never_the_minimum() -> None:
    pool = msgspec.structs.replace(POOL, cost_per_replica_hour=2.5)
    decision = decide(given=plan(30), budget=BudgetLeft(per_hour=26.0), pool=pool)
    assert (decision.replicas, decision.reason) == (10, "Budget")
    assert "26.00 left" in decision.message
    assert decide(given=plan(30), budget=BudgetLeft(per_hour=26.0, per_month=5.0), pool=pool).replicas == 2
    assert decide(policy(minReplicas=4), given=plan(30), budget=BudgetLeft(per_month=-1.0), pool=pool).replicas == 4
    assert decide(given=plan(30), jobs=500, budget=BudgetLeft(per_hour=5.0), pool=pool).replicas == 2


def test_what_waits_asks_for_replicas_whatever_is_forecast() -> None:
    decision = decide(given=plan(1), jobs=41)
    assert (decision.replicas, decision.reason, decision.reactive_floor) == (11, "ReactiveFloor", 11)
    assert decide(policy(reactive={"jobsPerSlot": 1}), given=plan(1), jobs=41).replicas == 41


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "PlanMissing"),
        (plan(9, made_at=NOW - 301), "PlanStale"),
        (plan(9, starts_at=NOW - 60), "PlanStale"),
        (plan(float("nan")), "PlanAbsurd"),
    ],
)
def test_without_a_plan_to_be_believed_observation_alone_decides(given: DemandPlan | None, reason: str) -> None:
    decision = decide(policy(minReplicas=1), given=given, jobs=12)
    assert (decision.replicas, decision.plan_reason) == (3, reason)
    assert decision.plan_problem in decision.message
    quiet = decide(policy(fallback={"minReplicas": 2}), given=given)
    assert (quiet.replicas, quiet.reason) == (2, reason)


def test_a_fallback_may_hold_what_was_decided() -> None:
    memory = DecisionMemory(replicas=20, changed_at=NOW - 9000)
    assert decide(policy(fallback={"mode": "Hold"}), memory=memory).replicas == 20
    cooled = msgspec.structs.replace(memory, lower_since=NOW - 700)
    assert decide(memory=cooled).replicas == 0


def test_without_an_observation_everything_stays() -> None:
    memory = DecisionMemory(replicas=6, changed_at=5.0)
    decision = decide_replicas(policy=policy(), pool=POOL, observation=None, plan=plan(30), memory=memory, now=NOW)
    assert (decision.replicas, decision.reason, decision.memory) == (6, "NoObservation", memory)


def test_a_plan_raises_by_the_ramp_and_need_raises_at_once() -> None:
    ramped = policy(ramp={"replicas": 3, "seconds": 60})
    first = decide(ramped, given=plan(10), floor=2)
    assert (first.replicas, first.reason) == (5, "Ramp")
    second = decide(ramped, given=plan(10), memory=first.memory, now=NOW + 30)
    assert (second.replicas, second.reason) == (5, "Ramp")
    third = decide(ramped, given=plan(10, 10), memory=second.memory, now=NOW + 60)
    assert third.replicas == 8
    assert decide(ramped, given=plan(10), jobs=60, memory=first.memory, now=NOW + 1).replicas == 15


def test_lowering_waits_for_the_cooldown_and_goes_to_the_most_that_was_needed() -> None:
    memory = DecisionMemory(replicas=20, changed_at=NOW - 5000, raised_at=NOW - 5000)
    needs = [4, 9, 3, 3, 3]
    decisions = []
    for minute, need in enumerate(needs):
        now = NOW + 150 * minute
        decision = decide(given=plan(*[need] * 60, made_at=now), memory=memory, now=now)
        memory = decision.memory
        decisions.append((decision.replicas, decision.reason))
    assert decisions == [(20, "Cooldown")] * 4 + [(9, "Plan")]


def test_a_need_within_the_cooldown_keeps_what_is_warm() -> None:
    memory = DecisionMemory(replicas=20, changed_at=NOW - 5000)
    decision = decide(given=plan(*[2] * 12, 20, 2, 2), memory=memory)
    assert decision.replicas == 20
    assert decision.memory.lower_since is None


def test_a_small_difference_changes_nothing() -> None:
    memory = DecisionMemory(replicas=20, changed_at=NOW - 5000, lower_since=NOW - 5000)
    decision = decide(given=plan(*[18.5] * 60), memory=memory)
    assert (decision.replicas, decision.reason) == (20, "Hysteresis")
    assert decision.memory.lower_since is None


def test_a_lower_maximum_holds_at_once() -> None:
    memory = DecisionMemory(replicas=20, changed_at=NOW - 1)
    decision = decide(policy(maxReplicas=5), given=plan(20), memory=memory)
    assert (decision.replicas, decision.reason) == (5, "Maximum")


def test_a_freeze_holds_or_lets_only_raise() -> None:
    window = {"name": "launch", "from": "2026-11-27T11:00:00Z", "until": "2026-11-27T13:00:00Z"}
    memory = DecisionMemory(replicas=8, changed_at=NOW - 9000, lower_since=NOW - 9000)
    held = policy(freezes=[window])
    assert [decide(held, given=plan(need), memory=memory).replicas for need in (30, 1)] == [8, 8]
    assert "freeze 'launch' until 2026-11-27 13:00" in decide(held, given=plan(30), memory=memory).message
    assert decide(held, floor=6, given=plan(30)).replicas == 6
    raising = policy(freezes=[{**window, "mode": "RaiseOnly"}])
    assert [decide(raising, given=plan(need), memory=memory).replicas for need in (30, 1)] == [30, 8]
    assert decide(raising, given=plan(30), memory=memory, now=NOW + 3600).reason != "Freeze"


def test_a_schedule_moves_the_bounds_and_is_warm_when_it_begins() -> None:
    office = {"name": "office", "timeZone": "Europe/Berlin", "days": ["Fri"], "from": "13:05", "until": "18:00"}
    chosen = policy(schedules=[{**office, "minReplicas": 6, "maxReplicas": 9}])
    # 13:00 in Berlin; a boot takes five minutes
    decision = decide(chosen)
    assert (decision.replicas, decision.reason) == (6, "Minimum")
    assert decide(chosen, now=NOW - 60).replicas == 0
    assert decide(chosen, given=plan(30, 30, 30, 30, 30, 30), now=NOW + 300).replicas == 9
    night = policy(schedules=[{**office, "from": "22:00", "until": "06:00", "minReplicas": 2}])
    at = datetime(2026, 11, 28, 3, 0, tzinfo=UTC).timestamp()
    assert decide(night, now=at).replicas == 2, "Saturday at 4 belongs to Friday's night"
    assert decide(night, now=at + 86_400).replicas == 0


def test_pools_of_one_policy_look_ahead_differently_far() -> None:
    parts = [stagger_of(f"pool-{number}", 600.0) for number in range(100)]
    assert all(0 <= part < 600 for part in parts)
    assert max(parts) - min(parts) > 500
    chosen = policy(prewarm={"leadSeconds": 0, "staggerSeconds": 3600})
    made = plan(*[1] * 5, *[7] * 60)
    ahead = {name: decide(chosen, given=made, pool=PoolFacts(name=name, boot_p95_s=1)).replicas for name in "abcdefgh"}
    assert set(ahead.values()) == {1, 7} or set(ahead.values()) == {7}


def test_a_plan_that_what_is_seen_belies_is_not_followed() -> None:
    lie = decide(given=plan(300, 300), jobs=28)
    assert (lie.reason, lie.plan_reason) == ("ReactiveFloor", "PlanAbsurd")
    assert "it says 300 busy slots for now, and 28 jobs are seen" in lie.message
    campaign = decide(policy(maxReplicas=500), given=plan(28, 28, 28, 300, 300), jobs=28)
    assert campaign.plan_reason == "Followed", "what is to come may be any number"
    assert campaign.replicas == 300
    for jobs in (None, 31.0, float("nan")):
        assert decide(given=plan(300, 300), jobs=jobs).plan_reason == "Followed"
    assert decide(given=plan(19), jobs=0).plan_reason == "Followed", "small pools are empty now and then"
