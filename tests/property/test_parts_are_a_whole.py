"""A plan that two pools split: the parts are the whole, neither falls while it rises, and spot has its share."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.plans import DemandPlan, DemandSeries
from halfdrop.operator.deciding import Observation, PoolFacts, decide_replicas
from halfdrop.operator.policies import Capacity, CapacityPolicySpec, GPUPoolSpec, Spot
from halfdrop.operator.splitting import Part, find_part
from halfdrop.operator.stepping import DecisionMemory

NOW = 1_800_000_000.0
SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 10_000)


def parts(share: float, low: int) -> tuple[Part, Part]:
    return (
        Part(capacity="Spot", max_share=share, min_on_demand=low),
        Part(capacity="OnDemand", max_share=share, min_on_demand=low),
    )


@given(total=COUNTS, more=COUNTS, share=SHARES, low=st.integers(0, 50))
def test_parts_are_a_whole_and_neither_falls_while_it_rises(total: int, more: int, share: float, low: int) -> None:
    spot, steady = parts(share, low)
    assert spot.of(total) + steady.of(total) == total
    assert spot.of(total) <= total * share + 1e-6
    assert steady.of(total) >= min(total, low)
    assert spot.of(total + more) >= spot.of(total) >= 0
    assert steady.of(total + more) >= steady.of(total) >= 0


def pool(capacity: Capacity, **given_: Any) -> GPUPoolSpec:
    spec = {"target": {"kind": "Deployment", "name": "hub"}, "capacity": capacity, **given_}
    return msgspec.convert(spec, GPUPoolSpec)


@pytest.mark.parametrize(
    ("others", "is_split"),
    [
        ([("gpu", pool("Spot"))], True),
        ([("gpu", pool("OnDemand"))], False),
        ([("other", pool("Spot"))], False),
        ([("gpu", pool("Spot", region="us"))], False),
        ([], False),
    ],
)
def test_a_plan_is_split_between_two_halves_and_else_is_all_its_pools(
    others: list[tuple[str, GPUPoolSpec]], is_split: bool
) -> None:
    part = find_part(Spot(), pool("OnDemand"), "gpu", others)
    assert (part is not None) == is_split
    assert find_part(None, pool("OnDemand"), "gpu", others) is None


def decide(part: Part | None, *, busy: float, jobs: float | None, plan: bool = True) -> int:
    policy = CapacityPolicySpec(max_replicas=1000, spot=Spot(max_share=0.6, min_on_demand=2))
    made = DemandPlan(
        region="local",
        pool="gpu",
        made_at=NOW,
        starts_at=NOW,
        quantiles=(0.5, 0.99),
        series=(DemandSeries(busy=((busy, busy),) * 30),),
    )
    decision = decide_replicas(
        policy=policy,
        pool=PoolFacts(name="p", boot_p95_s=300.0, part=part),
        observation=Observation(floor=0, jobs=jobs),
        plan=made if plan else None,
        memory=DecisionMemory(),
        now=NOW,
    )
    assert decision.replicas is not None
    return decision.replicas


@given(busy=st.integers(0, 500))
def test_what_is_planned_is_split_and_both_together_are_as_many_as_one_would_be(busy: int) -> None:
    spot, steady = parts(0.6, 2)
    seen = {"busy": busy, "jobs": busy / 4}
    assert decide(spot, **seen) + decide(steady, **seen) >= decide(None, **seen) >= busy
    unseen: dict[str, Any] = {"busy": busy, "jobs": None}
    assert decide(spot, **unseen) + decide(steady, **unseen) == decide(None, **unseen)


@given(jobs=st.integers(1, 2000))
def test_what_waits_is_asked_of_both_whole(jobs: int) -> None:
    spot, steady = parts(0.6, 2)
    alone = decide(None, busy=0, jobs=jobs, plan=False)
    assert decide(spot, busy=0, jobs=jobs, plan=False) == alone
    assert decide(steady, busy=0, jobs=jobs, plan=False) == alone
