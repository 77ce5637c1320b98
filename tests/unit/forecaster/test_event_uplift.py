"""What is learnt from past events: a median, against the same time of weeks without one, and how many it rests on."""

import numpy as np

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.forecaster.event_uplift import learn_uplift
from halfdrop.forecaster.workload import FloatArray

DAY_S = 86_400.0
START = 1_790_000_000.0 // 604_800 * 604_800
"""The beginning of a week."""

NOW = START + 40 * 7 * DAY_S


def drop(week: int, *, hours: float = 6.0, **members: object) -> DemandEvent:
    start = START + week * 7 * DAY_S + 12 * 3_600
    given: dict[str, object] = {"id": f"drop-{week}", "kind": "drop", "uplift": 1.0, **members}
    return DemandEvent(name="drop", start=start, end=start + hours * 3_600, **given)  # type: ignore[arg-type]


class Demand:
    """Demand of a week's rhythm, times what each event really did."""

    def __init__(self, *did: tuple[DemandEvent, float]) -> None:
        self.did = did
        self.unknown: list[tuple[float, float]] = []

    async def minutes_of(self, event: DemandEvent, start: float, end: float) -> FloatArray:
        at = np.arange(start, end, 60.0)
        demand: FloatArray = 100.0 + 50.0 * np.sin(at / DAY_S * 2 * np.pi)
        for other, factor in self.did:
            demand[(at >= other.start) & (at < other.end)] *= factor
        for begin, stop in self.unknown:
            demand[(at >= begin) & (at < stop)] = np.nan
        return demand


async def test_the_median_over_past_events_and_what_it_rests_on() -> None:
    events = [drop(5), drop(15), drop(25), drop(45), drop(6, kind="sale", id="sale")]
    demand = Demand((events[0], 3.0), (events[1], 4.0), (events[2], 20.0), (events[4], 9.0))
    learnt = await learn_uplift("drop", events, demand.minutes_of, now=NOW)
    assert learnt is not None
    assert round(learnt.uplift, 6) == 4.0, "a mean would follow the one that exploded"
    assert (learnt.events, round(learnt.low, 6), round(learnt.high, 6)) == (3, 3.0, 20.0)
    assert [each.event_id for each in learnt.ratios] == ["drop-5", "drop-15", "drop-25"]
    assert [each.weeks for each in learnt.ratios] == [4, 4, 4]


async def test_weeks_with_another_event_are_no_measure() -> None:
    weekly = [drop(week) for week in (18, 19, 20, 21, 22)]
    demand = Demand(*((event, 2.0) for event in weekly))
    learnt = await learn_uplift("drop", weekly, demand.minutes_of, now=NOW)
    assert learnt is not None
    assert round(learnt.uplift, 6) == 2.0
    elsewhere = [drop(20, region="eu"), *(drop(week, region="us", id=f"us-{week}", kind="x") for week in (19, 21))]
    found = await learn_uplift("drop", elsewhere, Demand((elsewhere[0], 5.0)).minutes_of, now=NOW)
    assert found is not None
    assert round(found.uplift, 6) == 5.0


async def test_the_ramp_and_unknown_minutes_do_not_count() -> None:
    event = drop(20, ramp_s=3_600.0)
    demand = Demand((event, 3.0))
    demand.unknown = [(event.start + 7_200, event.start + 9_000)]
    learnt = await learn_uplift("drop", [event], demand.minutes_of, now=NOW)
    assert learnt is not None
    assert round(learnt.uplift, 6) == 3.0


async def test_there_is_nothing_to_learn_from_what_is_not_known() -> None:
    event = drop(20)
    demand = Demand((event, 3.0))
    assert await learn_uplift("sale", [event], demand.minutes_of, now=NOW) is None
    assert await learn_uplift("drop", [event], demand.minutes_of, now=event.end - 1) is None, "it still goes on"
    demand.unknown = [(event.start, event.start + 4 * 3_600)]
    assert await learn_uplift("drop", [event], demand.minutes_of, now=NOW) is None
    demand.unknown = [(0, event.start), (event.end, NOW)]
    assert await learn_uplift("drop", [event], demand.minutes_of, now=NOW) is None, "no week to compare with"


async def test_an_event_of_a_month_is_compared_with_weeks_beyond_itself() -> None:
    event = drop(20, hours=24 * 28)
    learnt = await learn_uplift("drop", [event], Demand((event, 1.5)).minutes_of, now=NOW)
    assert learnt is not None
    assert round(learnt.uplift, 3) == 1.5
