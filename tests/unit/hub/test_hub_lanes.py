"""What a worker knows of the lanes, and when it looks at which."""

import pytest

from halfdrop.contracts.pools import DEFAULT_WEIGHTS, Pace
from halfdrop.hub.fair_order import LaneName
from halfdrop.hub.lanes import CAPPED_S, LATELY_S, LOOK_AGAIN_S, Lanes, read_lane

ANN, BOB = LaneName("standard", "ann"), LaneName("bulk", "bob")


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(DEFAULT_WEIGHTS, ("realtime", "standard", "bulk"))


def chosen(lanes: Lanes, now: float) -> LaneName | None:
    choice = lanes.choose(now)
    return None if choice is None else choice.lane


def works(lanes: Lanes) -> dict[str, float]:
    return {lane.tenant: lane.work for lane in lanes.describe()[0]}


@pytest.mark.parametrize(
    ("subject", "lane"),
    [
        ("jobs.standard.ann", ANN),
        ("jobs.standard.ann.0198f2", ANN),
        ("jobs.urgent.ann", None),
        ("jobs.standard", None),
        ("jobs.standard.ann.a.b", None),
        ("dead.standard.ann", None),
    ],
)
def test_a_subject_names_a_lane_or_none(subject: str, lane: LaneName | None) -> None:
    assert read_lane(subject) == lane


def test_a_lane_that_is_found_empty_rests_until_its_time_or_until_a_job_is_heard(lanes: Lanes) -> None:
    lanes.count({ANN: 2}, asked_at=0.0, now=0.0)
    assert chosen(lanes, 1.0) == ANN
    lanes.rest(ANN, is_capped=False, asked_at=1.0, now=1.0)
    lanes.count({ANN: 2}, asked_at=1.2, now=1.2)
    assert chosen(lanes, 1.3) is None
    assert lanes.wake_in_s(1.3) == pytest.approx(LOOK_AGAIN_S - 0.3)
    lanes.hear(ANN, 1.0, 1.4)
    assert chosen(lanes, 1.4) == ANN
    lanes.rest(ANN, is_capped=False, asked_at=1.5, now=1.5)
    assert chosen(lanes, 1.5 + LOOK_AGAIN_S) == ANN


def test_an_answer_older_than_a_job_that_was_heard_does_not_hide_the_job(lanes: Lanes) -> None:
    lanes.hear(ANN, 1.0, 2.0)
    lanes.rest(ANN, is_capped=False, asked_at=1.9, now=2.1)
    assert chosen(lanes, 2.1) == ANN
    lanes.count({}, asked_at=1.9, now=2.2)
    assert chosen(lanes, 2.2) == ANN
    lanes.count({}, asked_at=2.3, now=2.4)
    assert chosen(lanes, 2.4) is None


def test_a_capped_lane_is_woken_by_a_job_that_ends_and_not_by_one_more(lanes: Lanes) -> None:
    lanes.count({ANN: 3}, asked_at=0.0, now=0.0)
    lanes.rest(ANN, is_capped=True, asked_at=0.0, now=0.0)
    lanes.hear(ANN, 1.0, 0.01)
    assert chosen(lanes, 0.02) is None
    lanes.settle(ANN, 1, 1.0, 0.03)
    assert chosen(lanes, 0.03) == ANN
    lanes.rest(ANN, is_capped=True, asked_at=0.04, now=0.04)
    assert chosen(lanes, 0.04 + CAPPED_S) == ANN


def test_the_work_of_a_lane_is_what_its_jobs_told_and_the_mean_for_those_that_did_not(lanes: Lanes) -> None:
    lanes.count({ANN: 2, BOB: 3}, asked_at=0.0, now=0.0)
    assert works(lanes) == {"ann": 2.0, "bob": 3.0}
    lanes.hear(BOB, 4.0, 0.1)
    assert works(lanes)["bob"] == pytest.approx(4.0 + 3 * 4.0)
    lanes.settle(BOB, 3, 6.0, 0.2)  # the three that told nothing are the oldest
    assert works(lanes)["bob"] == pytest.approx(4.0)
    lanes.hear(BOB, 6.0, 0.3)
    lanes.settle(BOB, 1, 4.0, 0.4)
    assert works(lanes)["bob"] == pytest.approx(6.0)


def test_the_streams_count_sets_right_what_was_heard_wrongly(lanes: Lanes) -> None:
    for _ in range(10):
        lanes.hear(ANN, 2.0, 0.0)
    lanes.count({ANN: 4}, asked_at=1.0, now=1.0)
    assert works(lanes)["ann"] == pytest.approx(8.0)
    lanes.count({}, asked_at=2.0, now=2.0)
    assert lanes.describe() == ((), 0)


def test_a_plan_for_several_slots_shares_them_as_single_turns_would(lanes: Lanes) -> None:
    """Eight to one by the weights of the classes; what was charged for the plan alone is given back."""
    realtime = LaneName("realtime", "cid")
    lanes.count({realtime: 100, BOB: 100}, asked_at=0.0, now=0.0)
    for _ in range(4):
        for planned in lanes.plan(9, 1.0):
            lanes.give_back(planned.lane, planned.work)
    plan = {planned.lane: planned.jobs for planned in lanes.plan(18, 1.0)}
    assert plan == {realtime: 16, BOB: 2}


def test_a_plan_ends_where_no_lane_is_ready(lanes: Lanes) -> None:
    assert lanes.plan(4, 1.0) == []
    lanes.hear(ANN, 2.0, 1.0)
    (planned,) = lanes.plan(4, 1.0)
    assert (planned.lane, planned.jobs, planned.work) == (ANN, 4, 8.0)
    assert lanes.plan(0, 1.0) == []


def test_jobs_that_another_worker_heard_of_count_as_if_heard_here(lanes: Lanes) -> None:
    lanes.hear(ANN, 6.0, 1.0, jobs=3)
    assert chosen(lanes, 1.0) == ANN
    assert works(lanes) == {"ann": 6.0}
    lanes.settle(ANN, 1, 2.0, 1.1)
    assert works(lanes) == {"ann": 4.0}


def test_only_jobs_that_come_to_an_empty_lane_are_newcomers_and_they_are_forgotten(lanes: Lanes) -> None:
    pace = Pace(job_s=2.0, unit_s=3.0)
    lanes.hear(ANN, 4.0, 10.0)
    at_first = lanes.newcomers.slots(pace, 10.0)
    assert at_first == pytest.approx((2.0 + 3.0 * 4.0) / LATELY_S)
    lanes.hear(ANN, 4.0, 10.0)
    assert lanes.newcomers.slots(pace, 10.0) == pytest.approx(at_first)
    assert lanes.newcomers.slots(pace, 10.0 + 10 * LATELY_S) < at_first / 1000
    lanes.settle(ANN, 2, 8.0, 20.0)
    lanes.hear(ANN, 4.0, 20.0)  # it has none by now
    assert lanes.newcomers.slots(pace, 20.0) > 1.9 * at_first
