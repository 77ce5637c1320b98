"""One pool's plan minute by minute: the price in words, holding, and falling back when the forecast has been bad."""

import math

import numpy as np
import pytest

from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PRICES, wanted_table
from halfdrop.forecaster.service.planning import FALLBACK_HOLD_MINUTES, Planned, PoolBook
from halfdrop.forecaster.shadow_pools import Price
from halfdrop.forecaster.workload import IntArray

GOOD = Verdict(is_good=True)
COSTS = PlanPolicy(is_margin_steered=False)
FOUND = Price(log_price=math.log(3.1), blocks=20)


def wanted(*gpus: int) -> IntArray:
    """The same capacity at every price; one number for all horizons, or one for each."""
    by_horizon = gpus * len(PLAN_HORIZONS_MINUTES) if len(gpus) == 1 else gpus
    return np.repeat(np.array(by_horizon)[:, None], len(PRICES), axis=1)


def plan_once(
    book: PoolBook, table: IntArray | None, *, minute: int = 0, verdict: Verdict = GOOD, age_s: float = 0.0
) -> Planned:
    return book.plan(
        table, FOUND, minute=minute, boot_p50_s=360, boot_p95_s=468, verdict=verdict, age_s=age_s,
        missing="the forecaster is learning",
    )  # fmt: skip


def plan_minutes(
    book: PoolBook, gpus: list[int], *, busy: float = 5.0, verdict: Verdict = GOOD, begin: int = 0
) -> list[int]:
    found = []
    for place, each in enumerate(gpus):
        book.note(gpus=busy, arrived=60, late=math.nan, capacity=math.nan, boot_p95_s=420)
        found.append(plan_once(book, wanted(each), minute=begin + place, verdict=verdict).replicas)
    return found


def test_the_reason_says_what_lateness_costs_and_where_that_comes_from() -> None:
    book = PoolBook(PlanPolicy())
    found = plan_once(book, wanted(9, 14, 12, 30, 40))
    assert found.replicas == 14
    assert found.reason == (
        "late seconds cost 3.1 times an idle GPU second: 14 GPUs are cheapest for what is forecast within 6 min"
    )
    assert found.price == pytest.approx(3.1)
    assert found.price_reason == "shadow pools that served the last 5 days again, for 0.80% late jobs"
    assert [point.minutes_ahead for point in found.points] == [0, 3, 6, 9]
    assert found.wanted == (9, 14, 12, 30, 40)


@pytest.mark.parametrize("found", [None, Price(log_price=math.log(19))])
def test_where_shadow_pools_have_served_nothing_yet_the_plan_says_so(found: Price | None) -> None:
    book = PoolBook(PlanPolicy())
    made = book.plan(wanted(9), found, minute=0, boot_p50_s=360, boot_p95_s=468, verdict=GOOD)
    assert made.price == pytest.approx(19)
    assert "fewer than six hours of this pool are kept" in made.price_reason


def test_costs_that_lateness_may_not_move_are_the_price() -> None:
    made = plan_once(PoolBook(COSTS), wanted(9))
    assert made.price == pytest.approx(19)
    assert made.price_reason == "the policy's costs, which lateness is not to move"


def test_a_stated_quantile_is_named_instead_of_a_price() -> None:
    made = plan_once(PoolBook(PlanPolicy(quantile=0.95)), wanted(9))
    assert made.reason == "the policy states the quantile 0.95: demand within 3 min asks for 9 GPUs"
    assert made.quantile == 0.95


def test_what_a_boot_cannot_help_any_more_is_kept_but_not_ordered() -> None:
    book = PoolBook(COSTS)
    assert plan_once(book, wanted(30, 12, 11, 9, 9)).replicas == 12
    plan_once(book, wanted(30, 30, 11, 9, 9), minute=1)
    assert plan_once(book, wanted(30, 12, 11, 9, 9), minute=2).replicas == 30


def test_a_rise_is_planned_at_once_and_a_fall_after_the_hold() -> None:
    book = PoolBook(PlanPolicy(hold_minutes=3, is_margin_steered=False))
    assert plan_minutes(book, [10, 15, 9, 9, 9, 9]) == [10, 15, 15, 15, 9, 9]
    assert [(change.before, change.replicas) for change in book.changes] == [(0, 10), (10, 15), (15, 9)]
    assert book.changes[1].reason == "15 within 3 min are cheapest, late at 19 × idle"
    assert book.changes[2].reason.startswith("given back, not wanted for 3 min")


def test_a_small_fall_stays_within_the_hysteresis() -> None:
    book = PoolBook(PlanPolicy(hold_minutes=1, hysteresis=0.1, is_margin_steered=False))
    assert plan_minutes(book, [100, 95, 80]) == [100, 100, 80]


def test_without_a_forecast_the_reactive_floor_holds_and_says_so() -> None:
    book = PoolBook(PlanPolicy())
    book.note(gpus=7.3, arrived=22, late=0, capacity=math.nan, boot_p95_s=420)
    found = plan_once(book, None)
    assert found.replicas == 8
    assert found.fallback == "the forecaster is learning"
    assert "reactive floor: 8 GPUs" in found.reason
    assert "the forecaster is learning" in found.reason


def test_a_stale_forecast_plans_nothing() -> None:
    book = PoolBook(PlanPolicy())
    book.note(gpus=3.0, arrived=9, late=0, capacity=math.nan, boot_p95_s=420)
    found = plan_once(book, wanted(50), age_s=601)
    assert found.replicas == 3
    assert found.reason.startswith("no usable forecast, reactive floor: 3 GPUs")
    assert found.reason.endswith("the newest minute is 10 min old")


@pytest.mark.parametrize("policy", [PlanPolicy(), PlanPolicy(quantile=0.9)])
def test_a_forecast_that_is_no_number_plans_nothing_and_says_so(policy: PlanPolicy) -> None:
    fan = np.full((1, len(PLAN_HORIZONS_MINUTES), len(QUANTILES)), 50.0)
    fan[0, 2, 6] = math.nan
    book = PoolBook(policy)
    book.note(gpus=3.0, arrived=9, late=0, capacity=math.nan, boot_p95_s=420)
    found = plan_once(book, wanted_table(fan, policy=policy, service_s=20.0)[0])
    assert found.replicas == 3
    assert found.fallback == "the forecast is no number"


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


def test_only_lateness_under_the_planned_capacity_moves_the_price() -> None:
    others, own, untold = PoolBook(PlanPolicy()), PoolBook(PlanPolicy()), PoolBook(PlanPolicy())
    for minute in range(300):
        for book, capacity in ((others, 4.0), (own, 20.0), (untold, math.nan)):
            book.note(gpus=15.0, arrived=45, late=20, capacity=capacity, boot_p95_s=420)
            plan_once(book, wanted(20), minute=minute)
    prices = [book.planned.price for book in (others, own, untold) if book.planned]
    assert prices[0] == prices[2] == pytest.approx(3.1)  # shadow pools alone say what it is
    assert prices[1] > 10
    assert own.planned is not None
    assert "by this pool's own lateness" in own.planned.price_reason


def test_another_policy_is_taken_up_at_once() -> None:
    book = PoolBook(COSTS)
    plan_minutes(book, [10])
    book.apply(PlanPolicy(replicas_min=25, is_margin_steered=False))
    assert plan_minutes(book, [10], begin=1) == [25]
    book.apply(PlanPolicy(replicas_max=7, is_margin_steered=False))
    assert plan_minutes(book, [10], begin=2) == [7]
    assert book.changes[-1].reason.startswith("replicas_max, instead of 10")


@pytest.mark.parametrize("arrived", [0, 1, 3, 240])
def test_few_jobs_do_not_confuse_the_steering(arrived: int) -> None:
    book = PoolBook(PlanPolicy())
    for minute in range(5):
        book.note(gpus=1.0, arrived=arrived, late=0, capacity=2.0, boot_p95_s=420)
        assert PRICES[0] <= plan_once(book, wanted(2), minute=minute).price <= PRICES[-1]
