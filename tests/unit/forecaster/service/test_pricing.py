"""Prices in a shard: found as minutes come, found again from what is kept when a policy or the process is another."""

import msgspec
import numpy as np
import pytest

from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PRICES
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.service.shards import NodeForecast, NodeMinutes, PoolAsk, extend_nodes
from halfdrop.forecaster.workload import FloatArray

START = 29_000_000
WARM = 200
"""Minutes before shadow pools serve anything; a day in life."""

ASK = PoolAsk(key="eu.all", policy=PlanPolicy(), rules=PoolRules(), service_s=20.0)
STRICT = msgspec.structs.replace(ASK, policy=PlanPolicy(late_share_target=0.0005))


@pytest.fixture(scope="module")
def demand() -> FloatArray:
    dice = np.random.default_rng(21)
    minutes = np.arange(WARM + 740)
    gpus = 10 + 4 * np.sin(minutes / 220) + 8 * (minutes % 180 < 12) + dice.normal(0, 1.2, len(minutes))
    gpus[300:320] = np.nan
    return np.maximum(gpus, 0.0)


def extend(node: int, gpus: FloatArray, ask: PoolAsk, *, start: int = 0, is_first: bool = False) -> NodeForecast:
    asked = NodeMinutes(
        node=node, start_minute=START + start, gpus=gpus, horizons=(1, 9), judged_horizon=9, is_first=is_first,
        is_recorded=True, pools=(ask,), shadows_from=START + WARM,
    )  # fmt: skip
    (found,) = extend_nodes([asked])
    return found


def test_minutes_that_come_one_by_one_have_the_price_that_the_same_minutes_have_together(demand: FloatArray) -> None:
    whole = extend(1, demand, ASK, is_first=True)
    extend(2, demand[: WARM + 715], ASK, is_first=True)
    for minute in range(WARM + 715, WARM + 725):
        bit = extend(2, demand[minute : minute + 1], ASK, start=minute)
        np.testing.assert_array_equal(bit.priced[0].wanted[0], whole.priced[0].wanted[minute])
        assert bit.priced[0].log_prices[0] == whole.priced[0].log_prices[minute]
    assert whole.priced[0].wanted.shape == (len(demand), len(PLAN_HORIZONS_MINUTES), len(PRICES))
    assert set(whole.priced[0].log_prices[: WARM + 360]) == {ASK.policy.log_price}, "the costs', till a block is served"
    assert whole.priced[0].price.blocks == bit.priced[0].price.blocks == 2
    assert whole.plan_quantiles is not None
    assert whole.plan_quantiles.shape == (len(PLAN_HORIZONS_MINUTES), 7)


def test_another_policy_has_the_price_that_it_would_have_found_from_the_start(demand: FloatArray) -> None:
    before = extend(3, demand, ASK, is_first=True)
    after = extend(3, demand[:0], STRICT, start=len(demand))
    fresh = extend(4, demand, STRICT, is_first=True)
    assert after.priced[0].price == fresh.priced[0].price
    assert after.priced[0].price.log_price > before.priced[0].price.log_price
    assert after.end_minute == before.end_minute
    np.testing.assert_array_equal(after.priced[0].wanted[0], before.priced[0].wanted[-1])
    assert after.record is None


def test_a_stated_quantile_is_wanted_at_once_and_leaves_no_shadows(demand: FloatArray) -> None:
    stated = msgspec.structs.replace(ASK, policy=PlanPolicy(quantile=0.9))
    found = extend(5, demand[:400], stated, is_first=True)
    assert found.plan_quantiles is not None
    assert found.priced[0].wanted[-1, 0].tolist() == [np.ceil(found.plan_quantiles[0, 2])] * len(PRICES)
    assert found.priced[0].price.blocks == 0
