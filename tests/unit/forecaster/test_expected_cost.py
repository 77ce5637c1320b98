"""The cheapest capacity: what a queue of many servers says, and shadow pools that find the price of a promise."""

from itertools import pairwise

import numpy as np
import pytest

from halfdrop.forecaster.expected_cost import late_share, wanted_capacity
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PRICES
from halfdrop.forecaster.queue_simulator import PoolRules, Timeline, simulate
from halfdrop.forecaster.scaling import Observation, ScalingDecision
from halfdrop.forecaster.shadow_pools import BLOCK_MINUTES, PriceBook, ShadowPools
from halfdrop.forecaster.workload import draw_jobs

HORIZONS = (3, 6, 9)


class Fixed:
    """A pool that never changes."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def decide(self, seen: Observation) -> ScalingDecision:
        return ScalingDecision(replicas=self._replicas, reason="fixed")


def certain(gpus: float, minutes: int = 1) -> np.ndarray:
    return np.full((minutes, len(HORIZONS), 7), gpus)


@pytest.mark.parametrize(("gpus", "capacity"), [(39.0, 40), (39.0, 43), (39.0, 45), (5.0, 6), (5.0, 7), (120.0, 123)])
def test_the_formula_says_what_a_simulated_queue_does(gpus: float, capacity: int) -> None:
    said = float(late_share(np.array(float(capacity)), np.array(gpus), service_s=20.0))
    timeline = Timeline(draw_jobs(np.full(1_440, gpus), seed=1))
    seen = simulate(timeline, Fixed(capacity), rules=PoolRules(), replicas=capacity).late_share
    assert said == pytest.approx(seen, rel=0.4, abs=0.01)


def test_a_large_certain_pool_needs_a_thin_margin_and_a_small_one_a_wide_one() -> None:
    large, small = (
        int(wanted_capacity(certain(gpus), service_s=20.0, prices=np.array([20.0]))[0, 0, 0]) for gpus in (200, 3)
    )
    assert 201 <= large <= 215
    assert 5 <= small <= 8


def test_a_higher_price_wants_more_and_nothing_foreseen_wants_little() -> None:
    spread = np.sort(np.random.default_rng(1).uniform(10, 60, (5, len(HORIZONS), 7)), axis=2)
    found = wanted_capacity(spread, service_s=20.0, prices=PRICES)
    assert (np.diff(found, axis=2) >= 0).all()
    assert found[..., 0].min() >= 10
    assert wanted_capacity(certain(0.0), service_s=20.0, prices=PRICES).max() <= 4


def learnt(policy: PlanPolicy, demand: np.ndarray) -> ShadowPools:
    """Shadows that saw one block, always planned for twenty GPUs and up to sixty."""
    wanted = wanted_capacity(certain(20.0, BLOCK_MINUTES) * np.linspace(1, 3, 7), service_s=20.0, prices=PRICES)
    shadows = ShadowPools(rules=PoolRules(), policy=policy, service_s=20.0)
    shadows.learn(demand, wanted)
    return shadows


def test_before_anything_came_the_price_is_that_of_the_costs() -> None:
    policy = PlanPolicy()
    shadows = ShadowPools(rules=PoolRules(), policy=policy, service_s=20.0)
    assert shadows.log_price() == pytest.approx(policy.log_price)


def test_bursts_that_the_margin_did_not_hold_raise_the_price_and_quiet_days_lower_it() -> None:
    policy = PlanPolicy()
    quiet = np.full(BLOCK_MINUTES, 20.0)
    bursts = quiet.copy()
    for begin in (50, 150, 250):
        bursts[begin : begin + 20] *= 2.8
    bursts[300:310] = np.nan
    costs = policy.log_price
    assert learnt(policy, quiet).log_price() < costs < learnt(policy, bursts).log_price()


def test_a_stricter_promise_has_a_higher_price() -> None:
    bursts = np.full(BLOCK_MINUTES, 20.0)
    bursts[100:130] *= 1.8
    prices = [learnt(PlanPolicy(late_share_target=target), bursts).log_price() for target in (0.2, 0.02)]
    assert prices[1] > prices[0]


def book_of(policy: PlanPolicy) -> PriceBook:
    return PriceBook(policy=policy, rules=PoolRules(), service_s=20.0)


def test_the_price_of_a_block_is_found_in_those_before_however_its_minutes_come() -> None:
    dice = np.random.default_rng(11)
    demand = np.maximum(dice.normal(20.0, 3.0, 2 * BLOCK_MINUTES + 60), 0.0)
    demand[100:104] = np.nan
    wanted = wanted_capacity(certain(20.0, len(demand)) * np.linspace(1, 1.6, 7), service_s=20.0, prices=PRICES)
    at_once, bit_by_bit = book_of(PlanPolicy()), book_of(PlanPolicy())
    found = at_once.extend(demand, wanted)
    edges = [0, 1, 2, 350, 361, 719, 721, len(demand)]
    pieces = [bit_by_bit.extend(demand[a:b], wanted[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces), found)
    assert at_once.price == bit_by_bit.price
    assert at_once.price.blocks == 2
    assert set(found[:BLOCK_MINUTES]) == {PlanPolicy().log_price}
    assert len(set(found)) == 3, "each block has the price that those before it gave"


@pytest.mark.parametrize("policy", [PlanPolicy(is_margin_steered=False), PlanPolicy(quantile=0.9)])
def test_where_lateness_has_no_say_no_shadow_serves_and_the_costs_hold(policy: PlanPolicy) -> None:
    book = book_of(policy)
    wanted = wanted_capacity(certain(20.0, BLOCK_MINUTES), service_s=20.0, prices=PRICES)
    assert set(book.extend(np.full(BLOCK_MINUTES, 90.0), wanted)) == {policy.log_price}
    assert (book.price.blocks, book.price.log_price) == (0, policy.log_price)
