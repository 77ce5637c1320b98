"""Workloads: work is kept, gaps draw nothing, wrong input is named."""

import numpy as np
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.workload import draw_jobs, make_workload


def test_drawn_jobs_offer_the_work_they_were_drawn_from() -> None:
    gpus = np.concatenate([np.full(600, 30.0), np.full(600, 5.0)])
    drawn = draw_jobs(gpus, seed=3).work_per_minute()
    assert drawn[:600].mean() == pytest.approx(30.0, rel=0.03)
    assert drawn[600:].mean() == pytest.approx(5.0, rel=0.06)


def test_a_gap_and_a_negative_rate_draw_no_jobs() -> None:
    assert len(draw_jobs(np.array([np.nan, -5.0, 0.0]), seed=3).arrivals_s) == 0


def test_jobs_come_in_order_and_those_outside_are_left_out() -> None:
    workload = make_workload(np.array([70, -1, 5, 130]), np.array([2.4, 9.0, 0.0, 4.0]), length_s=120)
    assert workload.arrivals_s.tolist() == [5, 70]
    assert workload.service_s.tolist() == [1, 2], "no job takes less than a tick"


@pytest.mark.parametrize("length_s", [0, 59, 90])
def test_a_length_is_in_whole_minutes(length_s: int) -> None:
    with pytest.raises(InvalidInput, match="length_s"):
        make_workload(np.array([1]), np.array([1]), length_s=length_s)
