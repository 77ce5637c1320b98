"""Forecaster, operator and pool over drawn days on a virtual clock: as good as the replay, whatever is forecast."""

import numpy as np
import pytest

from halfdrop.deploy.closed_loop import FAULTS, OperatedPool, make_policy
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PlannedPolicy
from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, Timeline, simulate
from halfdrop.forecaster.replay import first_replicas, learn_plan, price_window
from halfdrop.forecaster.workload import draw_jobs
from halfdrop.operator.policies import CapacityPolicySpec, ScaleDown

DAY_MINUTES = 1_440
HISTORY_DAYS, DAYS = 3, 4
SEED = 20261128
RULES = PoolRules()


class Days:
    """Drawn days, forecast minute by minute, and what the replay's own policy makes of it."""

    def __init__(self) -> None:
        minutes = np.arange((HISTORY_DAYS + DAYS) * DAY_MINUTES)
        dice = np.random.default_rng(SEED)
        weekend = np.where(minutes // DAY_MINUTES % 7 >= 5, 0.6, 1.0)
        day = 10 + 6 * np.sin(2 * np.pi * (minutes / DAY_MINUTES - 0.3))
        demand = np.maximum(0.5, weekend * day + 4.0 * (minutes % 60 < 5) + dice.normal(0, 1.5, len(minutes)))
        history, window = demand[: HISTORY_DAYS * DAY_MINUTES], demand[HISTORY_DAYS * DAY_MINUTES :]
        workload = draw_jobs(window, seed=SEED, start_minute=len(history))
        demand = np.concatenate([history, workload.work_per_minute()])
        self.timeline = Timeline(workload)
        self.replicas = first_replicas(history)
        learnt = learn_plan(
            history, demand[len(history) :], start_minute=0, service_s=20.0, horizons=PLAN_HORIZONS_MINUTES
        )
        window, policy = demand[len(history) :], PlanPolicy()
        self.quantiles = learnt.quantiles[-len(window) :]
        self.wanted, self.log_prices = price_window(
            history[learnt.known_from :], window, learnt=learnt, rules=RULES, policy=policy, service_s=20.0
        )
        planned = PlannedPolicy(self.wanted, policy=policy, rules=RULES, log_prices=self.log_prices, is_corrected=True)
        self.replay = simulate(self.timeline, planned, rules=RULES, replicas=self.replicas)
        self.maximum = 4 * int(self.replay.replicas.max())

    def run(self, fault: str, policy: CapacityPolicySpec) -> tuple[Outcome, OperatedPool]:
        pool = OperatedPool(
            self.quantiles,
            self.wanted,
            self.log_prices,
            policy=policy,
            rules=RULES,
            fault=FAULTS[fault],
        )
        return simulate(self.timeline, pool, rules=RULES, replicas=self.replicas), pool


@pytest.fixture(scope="module")
def days() -> Days:
    return Days()


@pytest.mark.parametrize("fault", ["right", "times_100"])  # bench/closed_loop.py has all
def test_whatever_the_forecaster_does_floors_do_not_flap_and_hold(days: Days, fault: str) -> None:
    # Patient as the replay where both are compared, and as policies are by default where no plan is to be believed.
    cooldown_s = 60 if fault == "right" else ScaleDown().cooldown_seconds
    outcome, pool = days.run(fault, make_policy(days.maximum, cooldown_s=cooldown_s))
    counted = pool.counted
    assert counted.decisions == DAYS * 86_400 // 15
    assert (counted.flaps, counted.below_floor, counted.over_maximum) == (0, 0, 0)
    if fault == "right":
        assert outcome.gpu_hours == pytest.approx(days.replay.gpu_hours, rel=0.05)
        assert outcome.late_share <= max(0.01, 1.05 * days.replay.late_share)
        assert counted.reasons["Plan"] > counted.decisions / 5
    else:
        # What is seen alone serves nobody for more than a plan does by a quarter: a lie costs what silence costs.
        assert outcome.late_share <= 0.2
        assert outcome.gpu_hours <= 1.25 * days.replay.gpu_hours
