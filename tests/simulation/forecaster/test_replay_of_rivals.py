"""Rivals and the oracle on a day that the test draws itself: the order in which they must come out."""

import numpy as np
import pytest

from halfdrop.forecaster.oracle import find_oracle
from halfdrop.forecaster.queue_simulator import PoolRules, Timeline, simulate
from halfdrop.forecaster.rivals_reactive import HpaUtilisation, KedaQueue
from halfdrop.forecaster.workload import draw_jobs

SEED = 20261127


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    minute = np.arange(1_440)
    return Timeline(draw_jobs(14 - 10 * np.cos(minute * 2 * np.pi / 1_440), seed=SEED))


def test_the_oracle_keeps_its_budget_and_nobody_who_keeps_it_is_cheaper(timeline: Timeline) -> None:
    rules = PoolRules()
    oracle = find_oracle(timeline, rules=rules, late_budget=0.01)
    assert oracle.late_share <= 0.01
    assert oracle.gpu_hours > oracle.work_hours
    for knob in (0.3, 0.5, 0.7, 0.9):
        for policy in (HpaUtilisation(knob), KedaQueue(knob)):
            rival = simulate(timeline, policy, rules=rules, replicas=6)
            assert rival.late_share > 0.01 or rival.gpu_hours > oracle.gpu_hours


def test_a_lower_target_is_dearer_and_less_late(timeline: Timeline) -> None:
    tight, loose = (simulate(timeline, HpaUtilisation(knob), rules=PoolRules(), replicas=6) for knob in (0.8, 0.4))
    assert loose.gpu_hours > tight.gpu_hours
    assert loose.late_jobs < tight.late_jobs


def test_longer_boots_cost_more_than_short_ones(timeline: Timeline) -> None:
    short, long = (
        simulate(timeline, KedaQueue(0.6), rules=PoolRules(boot_min_s=low, boot_max_s=high), replicas=6)
        for low, high in ((60, 120), (480, 900))
    )
    assert short.late_jobs < long.late_jobs
