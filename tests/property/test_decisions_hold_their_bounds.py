"""Whatever is forecast, seen, remembered or mistaken: a decision stays within its bounds, and floors do not flap."""

import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from halfdrop.contracts.plans import DemandPlan, DemandSeries
from halfdrop.operator.deciding import BudgetLeft, Observation, PoolFacts, ScalingDecision, decide_replicas
from halfdrop.operator.policies import CapacityPolicySpec
from halfdrop.operator.stepping import DecisionMemory

NOW = 1_800_000_000.0
COOLDOWN_S = 600

ANY_NUMBER = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
SANE = st.floats(min_value=0, max_value=1e6)
COUNT = st.integers(min_value=0, max_value=200)


@st.composite
def policies(draw: st.DrawFn, **fixed: Any) -> CapacityPolicySpec:
    low = draw(st.integers(0, 20))
    spec: dict[str, Any] = {
        "minReplicas": low,
        "maxReplicas": low + draw(COUNT),
        "objective": draw(st.sampled_from([{}, {"quantile": 0.9}, {"lateShare": 0.05}])),
        "prewarm": draw(st.sampled_from([{}, {"leadSeconds": 0}, {"staggerSeconds": 300}])),
        "scaleDown": {"hysteresis": draw(st.sampled_from([0, 0.1, 0.5])), "cooldownSeconds": COOLDOWN_S},
        "ramp": draw(st.sampled_from([None, {"replicas": 2, "seconds": 60}])),
        "fallback": draw(st.sampled_from([{}, {"mode": "Hold"}, {"minReplicas": 3}])),
        **fixed,
    }
    return msgspec.convert(spec, CapacityPolicySpec)


def plans(values: st.SearchStrategy[float], times: st.SearchStrategy[float]) -> st.SearchStrategy[DemandPlan]:
    rows = st.lists(st.tuples(values, values), min_size=1, max_size=20).map(tuple)
    return st.builds(
        DemandPlan,
        region=st.just("local"),
        pool=st.just("p"),
        made_at=times,
        starts_at=times,
        step_s=st.sampled_from([60.0, 60.0, 0.0, math.nan]) if values is ANY_NUMBER else st.just(60.0),
        quantiles=st.just((0.5, 0.99)),
        series=rows.map(lambda busy: (DemandSeries(busy=busy),)),
    )


MEMORIES = st.builds(
    DecisionMemory,
    replicas=st.none() | COUNT,
    changed_at=st.floats(NOW - 10_000, NOW + 100),
    raised_at=st.floats(NOW - 10_000, NOW + 100),
    lower_since=st.none() | st.floats(NOW - 10_000, NOW + 100),
    lower_peak=COUNT,
)
OBSERVATIONS = st.builds(
    Observation, floor=COUNT, replicas=COUNT, replicas_max=st.none() | COUNT, jobs=st.none() | ANY_NUMBER
)
BUDGETS = st.builds(BudgetLeft, per_hour=st.none() | ANY_NUMBER, per_month=st.none() | ANY_NUMBER)
POOLS = st.builds(
    PoolFacts,
    name=st.text(max_size=5),
    jobs_per_replica=st.integers(1, 8),
    boot_p95_s=ANY_NUMBER,
    cost_per_replica_hour=st.floats(min_value=0, max_value=1000),
)


def decide(policy: CapacityPolicySpec, **known: Any) -> ScalingDecision:
    usual: dict[str, Any] = {
        "pool": PoolFacts(name="p", boot_p95_s=300.0),
        "observation": Observation(floor=0),
        "plan": None,
        "memory": DecisionMemory(),
        "now": NOW,
    }
    return decide_replicas(policy=policy, **{**usual, **known})


@given(policies(), POOLS, OBSERVATIONS, st.none() | plans(ANY_NUMBER, ANY_NUMBER), MEMORIES, BUDGETS)
@settings(max_examples=150, deadline=None)
def test_any_input_gives_a_decision_within_every_bound(  # noqa: PLR0917 - Hypothesis passes by position
    policy: CapacityPolicySpec,
    pool: PoolFacts,
    observation: Observation,
    plan: DemandPlan | None,
    memory: DecisionMemory,
    budget: BudgetLeft,
) -> None:
    decision = decide(policy, pool=pool, observation=observation, plan=plan, memory=memory, budget=budget)
    high = min(
        policy.max_replicas, policy.max_replicas if observation.replicas_max is None else observation.replicas_max
    )
    low = min(policy.min_replicas, high)
    assert decision.replicas is not None
    assert low <= decision.replicas <= high
    assert decision.reason
    assert decision.message
    for left in (budget.per_hour, budget.per_month):
        if left is not None and decision.replicas > low and pool.cost_per_replica_hour > 0:
            assert not math.isnan(left)
            assert decision.replicas * pool.cost_per_replica_hour <= max(0.0, left) * (1 + 1e-9)
    jobs = observation.jobs
    if jobs is not None and jobs > 0 and budget == BudgetLeft():
        floor = min(high, jobs / policy.reactive.jobs_per_slot / pool.jobs_per_replica)
        assert decision.replicas >= floor - 1e-6, "a forecast only adds to what observation asks for"


@given(policies(), MEMORIES, COUNT, plans(SANE, st.just(NOW)), st.floats(1, 100), st.none() | SANE, st.floats(1, 10))
@settings(max_examples=150, deadline=None)
def test_more_demand_never_means_fewer_replicas(  # noqa: PLR0917 - Hypothesis passes by position
    policy: CapacityPolicySpec,
    memory: DecisionMemory,
    floor: int,
    plan: DemandPlan,
    times: float,
    jobs: float | None,
    jobs_times: float,
) -> None:
    more = msgspec.structs.replace(
        plan,
        series=tuple(
            msgspec.structs.replace(series, busy=tuple(tuple(value * times for value in row) for row in series.busy))
            for series in plan.series
        ),
    )
    seen = Observation(floor=floor, jobs=jobs)
    busier = Observation(floor=floor, jobs=None if jobs is None else jobs * jobs_times)
    less = decide(policy, plan=plan, memory=memory, observation=seen)
    rather_more = decide(policy, plan=more, memory=memory, observation=busier)
    if rather_more.plan_reason == less.plan_reason:  # a plan that what is seen belies is not followed at all
        assert (rather_more.replicas or 0) >= (less.replicas or 0)


@given(
    policies(),
    st.lists(
        st.tuples(st.floats(1, 200), st.none() | SANE.map(lambda value: value % 250), st.none() | st.floats(0, 500)),
        min_size=2,
        max_size=60,
    ),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lowered_within_the_cooldown_of_any_change(
    policy: CapacityPolicySpec, moments: list[tuple[float, float | None, float | None]]
) -> None:
    memory, now, changed_at = DecisionMemory(), NOW, -math.inf
    for wait_s, busy, jobs in moments:
        now += wait_s
        plan = None
        if busy is not None:
            rows = ((busy, busy),) * 30
            plan = DemandPlan(
                region="local",
                pool="p",
                made_at=now,
                starts_at=now,
                quantiles=(0.5, 0.99),
                series=(DemandSeries(busy=rows),),
            )
        decision = decide(policy, plan=plan, memory=memory, now=now, observation=Observation(floor=0, jobs=jobs))
        before, after = memory.replicas or 0, decision.replicas or 0
        if after < before:
            assert now - changed_at >= COOLDOWN_S
        if after != before:
            changed_at = now
        memory = decision.memory


@given(policies(ramp=None), st.integers(20, 200), st.lists(st.floats(-1, 1), min_size=20, max_size=80))
@settings(max_examples=40, deadline=None)
def test_noise_within_the_band_changes_nothing_once_it_has_settled(
    policy: CapacityPolicySpec, level: int, noise: list[float]
) -> None:
    amplitude = policy.scale_down.hysteresis * level / 2.5
    memory, now, seen = DecisionMemory(), NOW, []
    for wobble in [1.0, *noise]:  # the top of the noise comes first; from then on it is in the band
        rows = ((0.0, max(0.0, level - amplitude + amplitude * wobble)),) * 30
        plan = DemandPlan(
            region="local",
            pool="p",
            made_at=now,
            starts_at=now,
            quantiles=(0.5, 0.99),
            series=(DemandSeries(busy=rows),),
        )
        decision = decide(policy, plan=plan, memory=memory, now=now)
        seen.append(decision.replicas)
        memory, now = decision.memory, now + 300.0
    if policy.scale_down.hysteresis:
        assert len(set(seen)) == 1
