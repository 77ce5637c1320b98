"""A plan: what it orders and why, and the floor that it never goes below."""

import msgspec
import numpy as np
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import (
    CORRECTION_MAX,
    PRICES,
    PlannedPolicy,
    PriceSteering,
    at_price,
    horizons_until,
    wanted_table,
)
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.scaling import Observation, reactive_floor

FIXED = PlanPolicy(is_margin_steered=False)


def see(now_s: int, **known: float) -> Observation:
    base: dict[str, float] = {
        "ready": 10, "booting": 0, "busy": 5, "queued": 0, "mean_busy": 5.0, "mean_concurrency": 5.0,
        "arrived": 3, "offered_gpu_s": 75.0,
    }  # fmt: skip
    return Observation(now_s=now_s, **(base | known))  # type: ignore[arg-type]


def test_the_costs_say_where_the_price_begins() -> None:
    assert np.exp(PlanPolicy(idle_cost=2, late_cost=38).log_price) == pytest.approx(19.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"late_cost": 0.5},
        {"idle_cost": 0},
        {"late_cost": float("nan")},
        {"replicas_min": 9, "replicas_max": 8},
        {"late_share_target": 0},
        {"hold_minutes": -1},
        {"hysteresis": 1.0},
        {"quantile": 0.3},
        {"quantile": 1.0},
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        msgspec.convert(wrong, PlanPolicy).check()


def wanted(*by_horizon: tuple[int, int, int], prices: int = len(PRICES)) -> np.ndarray:
    """The same capacity at every price, for each minute three horizons."""
    return np.repeat(np.array(by_horizon)[:, :, None], prices, axis=2)


def pool(table: np.ndarray, **known: bool) -> PlannedPolicy:
    return PlannedPolicy(table, policy=FIXED, rules=PoolRules(), log_prices=np.array([np.log(20.0)]), **known)


def test_what_was_wanted_a_moment_ago_is_held_then_given_back_in_one_go() -> None:
    policy = pool(wanted((23, 23, 23), *[(8, 8, 8)] * 30))
    times = range(60, 15 * 60, 15)
    decisions = [policy.decide(see(now, ready=23, busy=4, mean_concurrency=4.0)) for now in times]
    numbers = [decision.replicas for decision in decisions]
    assert sorted(set(numbers)) == [8, 23]
    first_down = numbers.index(8)
    assert (first_down - 4) * 15 / 60 == pytest.approx(FIXED.hold_minutes, abs=0.5)
    assert decisions[first_down].reason == "given back: not wanted for long enough"


def test_only_what_a_boot_can_still_help_is_ordered_and_what_is_needed_sooner_is_kept() -> None:
    assert pool(wanted((30, 12, 11))).decide(see(60)).replicas == 12
    kept = pool(wanted((30, 12, 11))).decide(see(60, ready=30))
    assert (kept.replicas, kept.reason) == (30, "kept: wanted within a boot, or a moment ago")


def test_a_higher_price_for_late_work_never_wants_fewer_gpus() -> None:
    table = np.arange(10, 10 + 3 * len(PRICES)).reshape(3, -1)
    numbers = [at_price(table, log_price)[1] for log_price in np.linspace(-1, 8, 40)]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (table[1, 0], table[1, -1])


def test_late_jobs_raise_the_price_at_once_and_only_so_far() -> None:
    steering = PriceSteering(late_share_target=0.005)
    for _ in range(5_760):
        steering.note(20, 0)
    assert steering.correction == pytest.approx(-0.25, abs=0.01)
    for _ in range(300):
        steering.note(20, 20)
    assert steering.correction == CORRECTION_MAX


def test_a_pool_without_forecasts_follows_its_queue() -> None:
    policy = pool(np.empty((0, 3, len(PRICES)), dtype=np.int64))
    decision = policy.decide(see(60, ready=10, busy=10, queued=7, mean_concurrency=14.0))
    assert (decision.replicas, decision.reason) == (17, "reactive floor")
    assert reactive_floor(see(60, mean_concurrency=4.2)) == 5


def test_no_plan_is_below_the_reactive_floor_or_above_the_limit() -> None:
    low = pool(wanted((1, 1, 1)))
    assert low.decide(see(60, ready=30, busy=25, mean_concurrency=25.0)).replicas >= 25
    limited = msgspec.structs.replace(FIXED, replicas_max=15)
    policy = PlannedPolicy(wanted((40, 40, 40)), policy=limited, rules=PoolRules(), log_prices=np.array([3.0]))
    assert policy.decide(see(60, queued=90, busy=10)).replicas == 15


def test_a_stated_quantile_is_wanted_at_every_price() -> None:
    fan = np.tile(np.arange(10.0, 10.0 + len(QUANTILES)), (1, 3, 1))  # q0.9 is 12, q0.99 is 15
    for quantile, replicas in ((0.5, 10), (0.9, 12), (0.99, 15)):
        table = wanted_table(fan, policy=PlanPolicy(quantile=quantile), service_s=20.0)
        assert table.shape == (1, 3, len(PRICES))
        assert (table == replicas).all()
    beyond = wanted_table(fan, policy=PlanPolicy(quantile=0.9999), service_s=20.0)
    assert beyond[0, 0, 0] > 16, "beyond the last quantile it goes on"


def test_a_plan_looks_until_a_boot_is_over_and_nine_minutes_at_least() -> None:
    assert horizons_until(30.0) == horizons_until(468.0) == (3, 6, 9)
    assert horizons_until(541.0) == (3, 6, 9, 15)
    assert horizons_until(7200.0) == (3, 6, 9, 15, 25)
