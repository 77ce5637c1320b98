"""Plans travel as JSON, and what cannot be a forecast is found out, in words."""

import math

import msgspec
import pytest

from halfdrop.contracts.plans import (
    AnnouncedDemand,
    CapacityFor,
    DemandPlan,
    DemandSeries,
    decode_announced,
    decode_plan,
    encode_announced,
    encode_plan,
    find_absurdity,
    plan_key,
)

GOLDEN = (
    b'{"type":"plan.v1","region":"local","pool":"h100","made_at":1000.0,"starts_at":1020.0,"step_s":60.0,'
    b'"quantiles":[0.5,0.99],"series":[{"job_class":"all","busy":[[3.0,7.5],[4.0,9.0]]}]}'
)
PLAN = DemandPlan(
    region="local",
    pool="h100",
    made_at=1000.0,
    starts_at=1020.0,
    quantiles=(0.5, 0.99),
    series=(DemandSeries(busy=((3.0, 7.5), (4.0, 9.0))),),
)


def test_a_plan_is_the_same_after_its_journey_and_bytes_of_the_first_release_still_are_one() -> None:
    now = GOLDEN.replace(b"9.0]]}", b'9.0]],"capacity":[]}').removesuffix(b"}") + b',"note":"","capacity_for":null}'
    assert encode_plan(PLAN) == now
    assert decode_plan(encode_plan(PLAN)) == decode_plan(GOLDEN) == PLAN
    series = msgspec.structs.replace(PLAN.series[0], capacity=(5.5, 6.0))
    priced = msgspec.structs.replace(PLAN, series=(series,), capacity_for=CapacityFor(late_share=0.008, price=3.1))
    assert decode_plan(encode_plan(priced)) == priced
    assert find_absurdity(priced, now=1030.0) == ""
    assert plan_key("eu-1", "h100") == "eu-1.h100"


def test_announced_demand_is_the_same_after_its_journey() -> None:
    demand = AnnouncedDemand(name="drop", starts_at=10.0, ends_at=20.0, uplift=3.0, pools=("h100",), note="autumn")
    assert decode_announced(encode_announced(demand)) == demand


def test_bytes_that_are_no_plan_are_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_plan(b'{"type":"plan.v2"}')


def test_a_sound_plan_is_believed() -> None:
    assert find_absurdity(PLAN, now=1030.0) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"made_at": 2000.0}, "in the future"),
        ({"made_at": math.nan}, "no numbers"),
        ({"capacity_for": CapacityFor(price=0.0)}, "price of lateness of 0.0"),
        ({"series": (DemandSeries(busy=((3.0, 7.5),), capacity=(4.0, 4.0)),)}, "capacity for 2 of 1 steps"),
        ({"series": (DemandSeries(busy=((3.0, 7.5),), capacity=(-4.0,)),)}, "capacity that is none"),
        ({"step_s": 0.0}, "step is 0.0"),
        ({"step_s": math.inf}, "step is inf"),
        ({"quantiles": (0.99, 0.5)}, "that rise between"),
        ({"quantiles": (0.5, 1.0)}, "rise between 0 and 1"),
        ({"quantiles": (0.5, 0.9, 0.99)}, "2 values for 3 quantiles"),
        ({"series": ()}, "no series"),
        ({"series": (DemandSeries(busy=()),)}, "0 steps"),
        ({"series": (DemandSeries(busy=((1.0, math.nan),)),)}, "no demand"),
        ({"series": (DemandSeries(busy=((-1.0, 2.0),)),)}, "no demand"),
        ({"series": (DemandSeries(busy=((1.0, math.inf),)),)}, "no demand"),
        ({"series": (DemandSeries(busy=((1.0, 2e9),)),)}, "no demand"),
    ],
)
def test_an_absurd_plan_says_why(change: dict[str, object], reason: str) -> None:
    assert reason in find_absurdity(msgspec.structs.replace(PLAN, **change), now=1030.0)
