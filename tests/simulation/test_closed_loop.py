"""Forecaster, operator and pool over a drawn week on a virtual clock: as good as the replay, whatever is forecast."""

import numpy as np
import pytest

from halfdrop.deploy.closed_loop import FAULTS, OperatedPool, make_policy
from halfdrop.forecaster.forecast import HORIZONS_MINUTES, SeriesForecaster
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.quantile_policy import QuantilePolicy
from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, Timeline, simulate
from halfdrop.forecaster.replay import first_replicas
from halfdrop.forecaster.workload import FloatArray, draw_jobs

DAY_MINUTES = 1_440
HISTORY_DAYS, DAYS = 3, 7
SEED = 20261128
RULES = PoolRules()
BOOT_P95_S = RULES.boot_quantile_s(0.95)


class Week:
    """A drawn week, forecast minute by minute, and what the replay's own policy makes of it."""

    def __init__(self) -> None:
        minutes = np.arange((HISTORY_DAYS + DAYS) * DAY_MINUTES)
        dice = np.random.default_rng(SEED)
        weekend = np.where(minutes // DAY_MINUTES % 7 >= 5, 0.6, 1.0)
        day = 10 + 6 * np.sin(2 * np.pi * (minutes / DAY_MINUTES - 0.3))
        demand = np.maximum(0.5, weekend * day + 4.0 * (minutes % 60 < 5) + dice.normal(0, 1.5, len(minutes)))
        history, window = demand[: HISTORY_DAYS * DAY_MINUTES], demand[HISTORY_DAYS * DAY_MINUTES :]
        workload = draw_jobs(window, seed=SEED, start_minute=len(history))
        forecaster = SeriesForecaster()
        forecaster.extend(history)
        self.forecasts: FloatArray = forecaster.extend(workload.work_per_minute()).quantiles
        self.timeline = Timeline(workload)
        self.replicas = first_replicas(history)
        policy = QuantilePolicy(self.forecasts, HORIZONS_MINUTES, policy=PlanPolicy(), boot_p95_s=BOOT_P95_S)
        self.replay = simulate(self.timeline, policy, rules=RULES, replicas=self.replicas)
        self.maximum = 4 * int(self.replay.replicas.max())

    def run(self, fault: str) -> tuple[Outcome, OperatedPool]:
        pool = OperatedPool(
            self.forecasts,
            HORIZONS_MINUTES,
            policy=make_policy(self.maximum),
            boot_p95_s=BOOT_P95_S,
            fault=FAULTS[fault],
        )
        return simulate(self.timeline, pool, rules=RULES, replicas=self.replicas), pool


@pytest.fixture(scope="module")
def week() -> Week:
    return Week()


@pytest.mark.parametrize("fault", ["right", "times_100"])  # bench/closed_loop.py has all
def test_whatever_the_forecaster_does_floors_do_not_flap_and_hold(week: Week, fault: str) -> None:
    outcome, pool = week.run(fault)
    counted = pool.counted
    assert counted.decisions == DAYS * 86_400 // 15
    assert (counted.flaps, counted.below_floor, counted.over_maximum) == (0, 0, 0)
    if fault == "right":
        assert outcome.gpu_hours == pytest.approx(week.replay.gpu_hours, rel=0.05)
        assert outcome.late_share <= max(0.01, 1.05 * week.replay.late_share)
        assert counted.reasons["Plan"] > counted.decisions / 5
    else:
        # What is seen alone serves nobody for more than a plan does by a quarter: a lie costs what silence costs.
        assert outcome.late_share <= 0.2
        assert outcome.gpu_hours <= 1.25 * week.replay.gpu_hours
