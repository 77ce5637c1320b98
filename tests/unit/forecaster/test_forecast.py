"""Forecasts on series that the tests draw themselves: causal, calibrated, and none the worse for bad input."""

import numpy as np
import pytest

from halfdrop.forecaster.calibration import QUANTILES, pinball, weighted_quantiles
from halfdrop.forecaster.experts import Hedge
from halfdrop.forecaster.features import DAY_MINUTES, clean_demand
from halfdrop.forecaster.forecast import SeriesForecaster

SEED = 20261127
HORIZONS = (3, 9)


def daily(days: int, *, noise: float = 4.0) -> np.ndarray:
    """A daily season around 25 GPUs, with the noise of arrivals."""
    dice = np.random.default_rng(SEED)
    minute = np.arange(days * DAY_MINUTES)
    mean = 25 - 18 * np.cos(minute * 2 * np.pi / DAY_MINUTES)
    return dice.poisson(mean * noise) / noise


def forecaster() -> SeriesForecaster:
    return SeriesForecaster(horizons=HORIZONS)


def test_a_block_and_single_minutes_give_the_same_forecasts() -> None:
    series = daily(1)[:700]
    series[300:320] = np.nan
    whole = forecaster().extend(series)
    single = forecaster()
    parts = [single.extend(series[:455]), *(single.extend(series[place : place + 1]) for place in range(455, 700))]
    np.testing.assert_allclose(np.concatenate([part.quantiles for part in parts]), whole.quantiles, rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([part.points for part in parts]), whole.points, rtol=1e-9)


def test_no_forecast_knows_what_came_after_it() -> None:
    series = daily(2)
    other = series.copy()
    other[2_000:] *= 7
    before, after = forecaster().extend(series), forecaster().extend(other)
    np.testing.assert_array_equal(before.quantiles[:2_000], after.quantiles[:2_000])
    assert (before.quantiles[2_010:] != after.quantiles[2_010:]).any()


def test_quantiles_cover_what_they_say_and_do_not_cross() -> None:
    series = daily(6)
    found = forecaster().extend(series)
    for place, horizon in enumerate(HORIZONS):
        origins = np.arange(3 * DAY_MINUTES, len(series) - horizon)
        covered = series[origins + horizon][:, None] <= found.quantiles[origins, place]
        assert covered.mean(axis=0)[1:] == pytest.approx(QUANTILES[1:], abs=0.025)
    assert (np.diff(found.quantiles, axis=2) >= 0).all()


def test_the_forecast_loses_less_than_the_last_value_does() -> None:
    series = daily(3)
    found = forecaster().extend(series)
    origins = np.arange(2 * DAY_MINUTES, len(series) - 9)
    came = series[origins + 9]
    ours = pinball(found.quantiles[origins, 1, 2], came, 0.9).mean()
    assert ours < 0.6 * pinball(series[origins], came, 0.9).mean()


def test_bad_values_are_gaps_and_gaps_are_not_zeros() -> None:
    series = daily(2)
    bad = series.copy()
    bad[2_700:2_720:4], bad[2_701:2_720:4], bad[2_702:2_720:4], bad[2_703:2_720:4] = -3, np.inf, 1e12, np.nan
    assert np.isnan(clean_demand(bad)[2_700:2_720]).all()
    found = forecaster().extend(bad)
    assert np.isfinite(found.quantiles).all()
    assert found.points[2_719, 0] > 0.5 * found.points[2_699, 0]


def test_a_series_of_nothing_but_gaps_and_one_of_zeros_are_answered() -> None:
    for series in (np.full(90, np.nan), np.zeros(90)):
        found = forecaster().extend(series)
        assert np.isfinite(found.quantiles).all()
        assert (found.points == 0).all()


def test_the_first_minutes_are_answered_with_a_wide_margin() -> None:
    found = forecaster().extend(np.full(5, 16.0))
    assert found.points[-1, 0] == pytest.approx(16.0)
    assert found.quantiles[-1, 0, -1] > 30


def test_the_hedge_follows_the_better_expert_and_ignores_gaps() -> None:
    hedge = Hedge(2)
    assert hedge.weights.tolist() == [0.5, 0.5]
    targets = np.array([1.0, 2.0, np.nan, 3.0])
    hedge.learn(np.column_stack([targets + 0.1, targets + 1.0]), targets)
    assert hedge.weights[0] > 0.99


def test_a_batchy_client_every_half_hour_is_foreseen() -> None:
    dice = np.random.default_rng(SEED)
    minute = np.arange(3 * DAY_MINUTES)
    series = np.where(minute % 30 == 0, 60.0, 6.0) * dice.uniform(0.9, 1.1, len(minute))
    found = forecaster().extend(series)
    last_day = np.arange(2 * DAY_MINUTES, 3 * DAY_MINUTES - 9)
    at_spike = last_day[(last_day + 9) % 30 == 0]
    elsewhere = last_day[(last_day + 9) % 30 == 15]
    assert found.quantiles[at_spike, 1, 2].mean() > 50
    assert found.quantiles[elsewhere, 1, 2].mean() < 12


def test_weighted_quantiles_equal_plain_ones_for_equal_weights() -> None:
    values = np.arange(1_000.0)[::-1, None]
    found = weighted_quantiles(values, np.ones((1_000, 1)), np.array([0.1, 0.5, 0.9]))[0]
    assert found == pytest.approx([99.0, 499.0, 900.0], abs=1.0)
