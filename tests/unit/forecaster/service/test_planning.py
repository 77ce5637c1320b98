"""One pool's plan minute by minute: reasons, holding, and falling back when the forecast has been bad."""

import math

import numpy as np
import pytest

from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.plan import PlanPolicy, score_of
from halfdrop.forecaster.service.planning import FALLBACK_HOLD_MINUTES, PoolBook, requirement
from halfdrop.forecaster.workload import FloatArray

GOOD = Verdict(is_good=True)
HORIZONS = (1, 3, 6, 9)


def fan(gpus: float) -> FloatArray:
    """The same quantiles at every horizon, all of them `gpus`."""
    return np.full((len(HORIZONS), len(QUANTILES)), float(gpus))


def plan_minutes(
    book: PoolBook, gpus: list[float], *, busy: float = 5.0, verdict: Verdict = GOOD, begin: int = 0
) -> list[int]:
    found = []
    for place, each in enumerate(gpus):
        book.note(gpus=busy, arrived=60, late=math.nan, capacity=math.nan, boot_p95_s=420)
        found.append(book.plan(fan(each), HORIZONS, minute=begin + place, boot_p95_s=420, verdict=verdict).replicas)
    return found


def test_a_rise_is_planned_at_once_and_a_fall_after_the_hold() -> None:
    book = PoolBook(PlanPolicy(hold_minutes=3, is_margin_steered=False))
    assert plan_minutes(book, [10, 14.2, 9, 9, 9, 9]) == [10, 15, 15, 15, 9, 9]
    assert [(change.before, change.replicas) for change in book.changes] == [(0, 10), (10, 15), (15, 9)]
    assert book.changes[1].reason == "forecast, in 1 min"
    assert book.changes[2].reason.startswith("given back, not wanted for 3 min")


def test_a_small_fall_stays_within_the_hysteresis() -> None:
    book = PoolBook(PlanPolicy(hold_minutes=1, hysteresis=0.1, is_margin_steered=False))
    assert plan_minutes(book, [100, 95, 80]) == [100, 100, 80]


def test_without_a_forecast_the_reactive_floor_holds_and_says_so() -> None:
    book = PoolBook(PlanPolicy())
    book.note(gpus=7.3, arrived=22, late=0, capacity=math.nan, boot_p95_s=420)
    found = book.plan(None, (), minute=0, boot_p95_s=420, verdict=GOOD, missing="the forecaster is learning")
    assert found.replicas == 8
    assert found.fallback == "the forecaster is learning"
    assert "the forecaster is learning" in found.reason


def test_a_stale_forecast_plans_nothing() -> None:
    book = PoolBook(PlanPolicy())
    book.note(gpus=3.0, arrived=9, late=0, capacity=math.nan, boot_p95_s=420)
    found = book.plan(fan(50), HORIZONS, minute=0, boot_p95_s=420, verdict=GOOD, age_s=301)
    assert found.replicas == 3
    assert "no usable forecast" in found.reason


def test_a_forecast_that_was_too_high_plans_no_more_until_it_has_been_good_for_a_while() -> None:
    book = PoolBook(PlanPolicy(hold_minutes=1, hysteresis=0, is_margin_steered=False))
    plan_minutes(book, [30])
    bad = Verdict(is_good=False, reason="its loss was 2.00 × the last value's")
    assert plan_minutes(book, [30], verdict=bad, begin=1) == [5]
    assert book.planned is not None
    assert "its loss was 2.00" in book.planned.reason
    assert plan_minutes(book, [30] * (FALLBACK_HOLD_MINUTES - 1), begin=2)[-1] == 5
    assert plan_minutes(book, [30], begin=1 + FALLBACK_HOLD_MINUTES) == [30]


def test_a_forecast_that_was_too_low_still_adds_but_to_the_peak_of_the_half_hour() -> None:
    book = PoolBook(PlanPolicy(hold_minutes=1, hysteresis=0, is_margin_steered=False))
    low = Verdict(is_good=False, is_low=True, reason="demand has run above")
    plan_minutes(book, [10], busy=40.0)
    assert plan_minutes(book, [10, 60], verdict=low, begin=1) == [40, 60]  # never less than without the verdict


def test_lateness_under_other_capacity_than_planned_does_not_steer_the_margin() -> None:
    policy = PlanPolicy()
    others, own = PoolBook(policy), PoolBook(policy)
    for minute in range(300):
        for book, capacity in ((others, 4.0), (own, 20.0)):
            book.note(gpus=15.0, arrived=45, late=20, capacity=capacity, boot_p95_s=420)
            book.plan(fan(20), HORIZONS, minute=minute, boot_p95_s=420, verdict=GOOD)
    assert others.planned is not None
    assert own.planned is not None
    assert others.planned.score < score_of(policy.quantile)  # the plan itself would have been in time
    assert own.planned.score > score_of(policy.quantile)


def test_another_policy_is_taken_up_at_once() -> None:
    book = PoolBook(PlanPolicy(is_margin_steered=False))
    plan_minutes(book, [10])
    book.apply(PlanPolicy(replicas_min=25, is_margin_steered=False))
    assert plan_minutes(book, [10], begin=1) == [25]


def test_the_requirement_is_the_largest_until_a_boot_is_over() -> None:
    record = np.zeros((1, len(HORIZONS), len(QUANTILES)))
    record[0, :, 3] = [1, 5, 3, 9]
    assert requirement(record, HORIZONS, boot_p95_s=420)[0, 3] == 9  # 7 minutes: the ninth is the first that covers it
    assert requirement(record, HORIZONS, boot_p95_s=180)[0, 3] == 5


@pytest.mark.parametrize("arrived", [0, 1, 3, 240])
def test_few_jobs_do_not_confuse_the_steering(arrived: int) -> None:
    book = PoolBook(PlanPolicy())
    for minute in range(5):
        book.note(gpus=1.0, arrived=arrived, late=0, capacity=math.nan, boot_p95_s=420)
        found = book.plan(fan(2), HORIZONS, minute=minute, boot_p95_s=420, verdict=GOOD)
        assert 0 < found.quantile < 1
