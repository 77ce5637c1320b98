"""How fast a worker says that it is: a line through the jobs that it did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.pools import Pace
from halfdrop.hub.pool_state import PaceMeter

jobs = st.lists(st.tuples(st.floats(0.05, 1e4), st.floats(1e-3, 1e4)), min_size=1, max_size=60)


def measured(*done: tuple[float, float]) -> PaceMeter:
    meter = PaceMeter()
    for work, seconds in done:
        meter.add(work, seconds)
    return meter


def test_nothing_is_said_before_the_first_job() -> None:
    assert (measured().pace, measured().units_per_s) == (None, 0.0)


def test_what_every_job_costs_is_told_from_what_its_work_costs() -> None:
    pace = measured(*[(work, 2.0 + 0.5 * work) for work in (1.0, 4.0, 16.0, 64.0) for _ in range(10)]).pace
    assert pace is not None
    assert pace.job_s == pytest.approx(2.0, rel=0.1)
    assert pace.unit_s == pytest.approx(0.5, rel=0.02)
    assert pace.seconds(8.0) == pytest.approx(6.0, rel=0.05)
    assert pace.seconds(8.0, jobs=4) == pytest.approx(12.0, rel=0.05)


def test_while_all_jobs_are_of_one_size_their_time_is_that_of_their_work() -> None:
    pace = measured(*[(16.0, 4.0)] * 20).pace
    assert pace is not None
    assert pace.seconds(16.0) == pytest.approx(4.0)
    assert pace.seconds(32.0) == pytest.approx(8.0)


def test_a_worker_that_becomes_slow_says_so() -> None:
    quick = measured(*[(work, work) for work in (1.0, 2.0, 3.0)] * 20)
    for work in (1.0, 2.0, 3.0) * 60:
        quick.add(work, 5 * work)
    assert quick.pace is not None
    assert quick.pace.seconds(2.0) == pytest.approx(10.0, rel=0.1)


@given(jobs)
def test_no_part_of_a_pace_is_negative_and_some_part_is_not_zero(done: list[tuple[float, float]]) -> None:
    pace = measured(*done).pace
    assert pace is not None
    assert pace.job_s >= 0 <= pace.unit_s
    assert pace != Pace()
