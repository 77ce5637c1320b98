"""Whatever is forecast, priced, stale or bad: a pool's plan is never below what is at work, nor outside its bounds."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.plan import STALE_AFTER_S, PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PRICES, PlannedPolicy
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.scaling import Observation, reactive_floor
from halfdrop.forecaster.service.planning import FALLBACK_MINUTES, PoolBook
from halfdrop.forecaster.shadow_pools import Price
from halfdrop.forecaster.workload import IntArray

HORIZONS = len(PLAN_HORIZONS_MINUTES)


@st.composite
def policies(draw: st.DrawFn) -> PlanPolicy:
    low = draw(st.integers(1, 30))
    return PlanPolicy(
        late_cost=draw(st.floats(1, 500)),
        late_share_target=draw(st.floats(0.0001, 0.5)),
        is_margin_steered=draw(st.booleans()),
        quantile=draw(st.none() | st.floats(0.5, 0.999)),
        replicas_min=low,
        replicas_max=draw(st.integers(low, 120)),
        hold_minutes=draw(st.integers(0, 8)),
        hysteresis=draw(st.floats(0, 0.9)),
    )


@st.composite
def tables(draw: st.DrawFn) -> IntArray:
    """What is wanted at each price: a dearer lateness never wants fewer."""
    rows = draw(st.lists(st.lists(st.integers(0, 60), min_size=7, max_size=7), min_size=HORIZONS, max_size=HORIZONS))
    return np.cumsum(np.array(rows), axis=1)


minutes = st.fixed_dictionaries(
    {
        "gpus": st.floats(0, 150) | st.just(math.nan),
        "arrived": st.floats(0, 400) | st.just(math.nan),
        "late": st.floats(0, 400) | st.just(math.nan),
        "capacity": st.floats(0, 200) | st.just(math.nan),
        "wanted": st.none() | tables(),
        "found": st.none() | st.builds(Price, log_price=st.floats(-5, 9), blocks=st.integers(0, 80)),
        "age_s": st.sampled_from([0.0, STALE_AFTER_S + 1.0]),
        "verdict": st.sampled_from(
            [
                Verdict(is_good=True),
                Verdict(is_good=False, reason="too high"),
                Verdict(is_good=False, is_low=True, reason="too low"),
            ]
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(policy=policies(), other=policies(), days=st.lists(minutes, min_size=1, max_size=25))
def test_a_live_plan_holds_the_floor_and_its_bounds(
    policy: PlanPolicy, other: PlanPolicy, days: list[dict[str, object]]
) -> None:
    book = PoolBook(policy)
    known: list[float] = []
    for place, seen in enumerate(days):
        if place == len(days) // 2:
            book.apply(policy := other)
        gpus = float(seen["gpus"])  # type: ignore[arg-type]
        known += [] if math.isnan(gpus) else [gpus]
        book.note(gpus=gpus, arrived=seen["arrived"], late=seen["late"], capacity=seen["capacity"], boot_p95_s=420)  # type: ignore[arg-type]
        found = book.plan(
            seen["wanted"], seen["found"], minute=place, boot_p50_s=360, boot_p95_s=468,  # type: ignore[arg-type]
            verdict=seen["verdict"], age_s=seen["age_s"],  # type: ignore[arg-type]
        )  # fmt: skip
        floor = math.ceil(known[-1]) if known else 0
        assert found.replicas >= min(floor, policy.replicas_max)
        assert policy.replicas_min <= found.replicas <= policy.replicas_max
        assert found.reason
        if found.fallback:
            peak = math.ceil(max(known[-FALLBACK_MINUTES:], default=0.0))
            assert found.replicas >= min(peak, policy.replicas_max)
            assert found.fallback in found.reason
        if seen["wanted"] is None or seen["age_s"]:
            assert not found.wanted
            assert found.fallback
        if policy.quantile is None:
            assert PRICES[0] - 1e-9 <= found.price <= PRICES[-1] + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    policy=policies(),
    table=st.lists(tables(), max_size=6),
    seen=st.lists(
        st.builds(
            Observation,
            now_s=st.just(0),
            ready=st.integers(0, 120),
            booting=st.integers(0, 40),
            busy=st.integers(0, 120),
            queued=st.integers(0, 80),
            mean_busy=st.floats(0, 120),
            mean_concurrency=st.floats(0, 200),
            arrived=st.integers(0, 300),
            offered_gpu_s=st.floats(0, 9000),
            late=st.integers(0, 300),
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_a_replayed_policy_holds_the_same_floor_and_bounds(
    policy: PlanPolicy, table: list[IntArray], seen: list[Observation]
) -> None:
    wanted = np.array(table) if table else np.empty((0, HORIZONS, len(PRICES)), dtype=np.int64)
    planned = PlannedPolicy(
        wanted, policy=policy, rules=PoolRules(), log_prices=np.array([1.0, 3.0]), is_corrected=policy.is_price_sought
    )
    for place, each in enumerate(seen):
        known = {name: getattr(each, name) for name in each.__struct_fields__}
        now = Observation(**(known | {"now_s": 15 * (place + 1)}))
        decision = planned.decide(now)
        assert decision.replicas >= min(reactive_floor(now), policy.replicas_max)
        if place >= 3:  # before the first minute nothing is planned, nor given back
            assert policy.replicas_min <= decision.replicas <= policy.replicas_max
