"""Forecasts are judged when the minute that was forecast has come, and a bad one loses its say."""

import numpy as np
import pytest

from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.forecast import Forecasts
from halfdrop.forecaster.honesty import DRIFT_ALARM_MINUTES, Judge
from halfdrop.forecaster.workload import FloatArray

NORMAL = np.array([0.0, 0.674, 1.282, 1.645, 1.960, 2.326, 2.576])
HOUR = 60


def forecasts_of(centre: FloatArray, spread: float, horizon: int) -> Forecasts:
    """Forecasts, one for each origin, of a normal value around `centre`."""
    quantiles = (centre[:, None] + spread * NORMAL)[:, None, :]
    points, zeros = centre[:, None], np.zeros((len(centre), 1))
    return Forecasts(first_minute=0, horizons=(horizon,), quantiles=quantiles, points=points, zero_shares=zeros)


def judge_in_pieces(demand: FloatArray, made: Forecasts, horizon: int, pieces: list[int]) -> Judge:
    judge = Judge((horizon,))
    begin = 0
    for size in pieces:
        part = slice(begin, begin + size)
        piece = Forecasts(
            first_minute=begin,
            horizons=(horizon,),
            quantiles=made.quantiles[part],
            points=made.points[part],
            zero_shares=made.zero_shares[part],
        )
        judge.extend(demand[part], piece, start_minute=begin)
        begin += size
    return judge


def test_a_forecast_is_compared_with_the_minute_that_it_is_of() -> None:
    horizon, count = 3, 40
    demand = np.arange(count, dtype=np.float64)
    # At each origin the truth three minutes ahead is known: every value lies exactly on its forecast.
    made = forecasts_of(demand + horizon, 0.0, horizon)
    judge = judge_in_pieces(demand, made, horizon, [1, 1, 5, 13, 20])
    score = judge.score(horizon, hours=6)
    assert score.minutes == count - horizon
    assert score.coverage == tuple([1.0] * len(QUANTILES))
    assert score.pinball == 0.0
    assert score.last_value_pinball == pytest.approx(0.9 * horizon)  # the last value is three under, always


def test_pieces_say_the_same_as_the_whole() -> None:
    dice = np.random.default_rng(3)
    demand = 20 + dice.normal(0, 3, 900)
    demand[200:230] = np.nan
    made = forecasts_of(np.full(900, 20.0), 3.0, 9)
    whole = judge_in_pieces(demand, made, 9, [900]).score(9, hours=24)
    parts = judge_in_pieces(demand, made, 9, [1, 4, 200, 7, 288, 400]).score(9, hours=24)
    assert whole.minutes == parts.minutes == 900 - 30 - 9
    assert whole.coverage == parts.coverage
    assert whole.pinball == pytest.approx(parts.pinball)
    assert whole.last_value_pinball == pytest.approx(parts.last_value_pinball)


def test_coverage_is_what_was_promised_of_an_honest_forecast_which_stays_believed() -> None:
    demand = 20 + np.random.default_rng(1).normal(0, 3, 1440)
    judge = judge_in_pieces(demand, forecasts_of(np.full(1440, 20.0), 3.0, 9), 9, [1440])
    score = judge.score(9, hours=24)
    assert np.abs(np.array(score.coverage) - QUANTILES).max() < 0.05
    assert score.pinball_ratio < 0.8
    assert judge.verdict(9).is_good
    assert judge.drift(9) == ""


def test_demand_that_outruns_the_forecast_raises_the_alarm_and_is_told_as_too_low() -> None:
    demand = np.concatenate([np.full(600, 20.0), np.full(90, 60.0)])
    judge = judge_in_pieces(demand, forecasts_of(np.full(690, 20.0), 3.0, 9), 9, [600, 90])
    assert judge.drift(9) == "above"
    verdict = judge.verdict(9)
    assert not verdict.is_good
    assert verdict.is_low
    assert "q0.9" in verdict.reason


def test_the_alarm_ends_when_the_forecast_is_right_again() -> None:
    demand = np.concatenate([np.full(300, 20.0), np.full(int(DRIFT_ALARM_MINUTES) + 20, 60.0), np.full(600, 20.0)])
    demand += np.random.default_rng(2).normal(0, 3, len(demand))
    judge = judge_in_pieces(demand, forecasts_of(np.full(len(demand), 20.0), 3.0, 9), 9, [len(demand)])
    assert judge.drift(9) == ""
    assert judge.verdict(9).is_good


def test_a_forecast_that_is_worse_than_looking_is_bad_but_not_low() -> None:
    demand = 20 + np.random.default_rng(1).normal(0, 0.5, 12 * HOUR)
    judge = judge_in_pieces(demand, forecasts_of(np.full(12 * HOUR, 40.0), 1.0, 9), 9, [12 * HOUR])
    verdict = judge.verdict(9)
    assert not verdict.is_good
    assert not verdict.is_low
    assert "last value" in verdict.reason


def test_nothing_is_said_of_what_was_never_judged() -> None:
    judge = judge_in_pieces(np.full(300, np.nan), forecasts_of(np.full(300, 20.0), 3.0, 9), 9, [300])
    assert judge.score(9, hours=24).minutes == 0
    assert judge.verdict(9).is_good


def test_hours_fade_from_the_score() -> None:
    bad, good = 10 * HOUR, 8 * HOUR
    demand = np.concatenate([np.full(bad, 50.0), np.full(good, 20.0)])
    judge = judge_in_pieces(demand, forecasts_of(np.full(bad + good, 20.0), 3.0, 9), 9, [bad, good])
    assert judge.score(9, hours=6).coverage[2] == 1.0
    assert judge.score(9, hours=24).coverage[2] < 0.6
