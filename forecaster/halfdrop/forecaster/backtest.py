"""How good forecasts of a recorded series would have been: every minute of its last days is an origin. Pure.

Ours learns online, so that no origin is refitted: the forecast of each minute is the one that was made then. Beside
it statsforecast's models by their own rolling-origin cross-validation, with their conformal intervals, on five-minute
means an hour ahead, judged at the same origins as ours.
"""

from typing import Any

import msgspec
import numpy as np

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.calibration import JUDGED_QUANTILE, QUANTILES, coverage, pinball
from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.forecast import HORIZONS_MINUTES, SeriesForecaster
from halfdrop.forecaster.workload import FloatArray

BIN_MINUTES, BINS_AHEAD = 5, 12
WINDOWS_MAX = 48
"""Origins of the cross-validation: each costs a fit of each model."""

TRAIN_DAYS_MAX = 7
JUDGED_MIN = 60
CONFORMAL_WINDOWS = 5
FAN_MINUTES = DAY_MINUTES
FAN_QUANTILES = (0, 2, 5)
"""Indices of what a report draws: 0.5, 0.9, 0.99."""


class HorizonScore(msgspec.Struct, frozen=True, kw_only=True):
    """One horizon over all origins. Losses in mean GPUs."""

    minutes_ahead: int
    origins: int
    pinball: float
    """At q0.9."""

    pinball_ratio: float
    """Over that of the last value known."""

    mean_error: float
    """Of the median: over zero, forecasts were too low."""

    covered: tuple[float, ...]
    """Share of values under each of QUANTILES, zeros shared out (calibration.coverage)."""


class ModelScore(msgspec.Struct, frozen=True, kw_only=True):
    """One model at the origins of the cross-validation, an hour ahead, on five-minute means."""

    model: str
    pinball: float
    covered: float
    """Share of values under its q0.9."""

    mean_absolute_error: float


class Fan(msgspec.Struct, frozen=True, kw_only=True):
    """The last day of one horizon, for a plot."""

    minutes_ahead: int
    came: list[float | None]
    quantiles: list[list[float]]
    """[FAN_QUANTILES][minutes]"""


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """What `halfdrop forecast backtest` answers."""

    days: float
    minutes: int
    gaps: int
    horizons: tuple[HorizonScore, ...]
    models: tuple[ModelScore, ...]
    """Empty where the history is too short for a cross-validation."""

    fan: Fan
    weights: dict[str, float]
    """What the hedge makes of each expert at the farthest horizon, at the end."""


def backtest(
    gpus: FloatArray,
    *,
    start_minute: int,
    judged_minutes: int,
    horizons: tuple[int, ...] = HORIZONS_MINUTES,
    with_models: bool = True,
) -> Backtest:
    """Judge forecasts of the last `judged_minutes` of a series (mean GPUs per minute, NaN for a gap).

    Raises InvalidInput where there is too little to judge.
    """
    if not horizons or min(horizons) < 1 or max(horizons) > DAY_MINUTES:
        raise InvalidInput("horizons", got=str(horizons), allowed=f"1 to {DAY_MINUTES} minutes")
    least = max(horizons) + JUDGED_MIN
    if not least <= judged_minutes <= len(gpus):
        raise InvalidInput(
            "window", got=f"{judged_minutes} min", allowed=f"{least} to the {len(gpus)} minutes of history"
        )
    forecaster = SeriesForecaster(start_minute=start_minute, horizons=horizons)
    forecaster.extend(gpus[:-judged_minutes])
    window = gpus[-judged_minutes:]
    found = forecaster.extend(window)
    scores = tuple(
        _score(window, found.quantiles[:, place], found.zero_shares[:, place], horizon)
        for place, horizon in enumerate(horizons)
    )
    shown = max((horizon for horizon in horizons if horizon <= 15), default=horizons[0])
    return Backtest(
        days=judged_minutes / DAY_MINUTES,
        minutes=judged_minutes,
        gaps=int(np.isnan(window).sum()),
        horizons=scores,
        models=compare_models(gpus, start_minute=start_minute, judged_minutes=judged_minutes) if with_models else (),
        fan=_fan(window, found.quantiles[:, horizons.index(shown)], shown),
        weights=forecaster.weights(max(horizons)),
    )


def _score(window: FloatArray, quantiles: FloatArray, zero_shares: FloatArray, horizon: int) -> HorizonScore:
    last, came = window[:-horizon], window[horizon:]
    is_known = ~(np.isnan(last) | np.isnan(came))
    if not is_known.any():
        raise InvalidInput("history", got="nothing but gaps in the window", allowed="some minutes that are known")
    last, came = last[is_known], came[is_known]
    made = quantiles[:-horizon][is_known]
    level = QUANTILES[JUDGED_QUANTILE]
    loss = float(pinball(made[:, JUDGED_QUANTILE], came, level).mean())
    plain = float(pinball(last, came, level).mean())
    return HorizonScore(
        minutes_ahead=horizon,
        origins=len(came),
        pinball=loss,
        pinball_ratio=loss / plain if plain > 0 else 1.0,
        mean_error=float((came - made[:, 0]).mean()),
        covered=tuple(coverage(made, zero_shares[:-horizon][is_known], came).tolist()),
    )


def compare_models(gpus: FloatArray, *, start_minute: int, judged_minutes: int) -> tuple[ModelScore, ...]:
    """Cross-validate statsforecast's models, and judge ours at the same origins."""
    skip = len(gpus) % BIN_MINUTES
    filled = _filled(gpus[skip:])
    bins = filled.reshape(-1, BIN_MINUTES).mean(axis=1)
    windows = min(WINDOWS_MAX, judged_minutes // (BIN_MINUTES * BINS_AHEAD))
    train = min(len(bins) - windows * BINS_AHEAD, TRAIN_DAYS_MAX * DAY_MINUTES // BIN_MINUTES)
    if windows < 1 or train < (CONFORMAL_WINDOWS + 2) * BINS_AHEAD:
        return ()
    found = _cross_validate(bins[-(train + windows * BINS_AHEAD) :], windows, train)
    came = bins[len(bins) - windows * BINS_AHEAD + BINS_AHEAD - 1 :: BINS_AHEAD]
    scores = [
        _model_score(name, points[BINS_AHEAD - 1 :: BINS_AHEAD], highs[BINS_AHEAD - 1 :: BINS_AHEAD], came)
        for name, (points, highs) in found.items()
    ]
    # Five minutes around the 58th are the twelfth bin from an origin at the end of a bin.
    ours = SeriesForecaster(
        start_minute=start_minute + skip,
        horizons=(BIN_MINUTES * BINS_AHEAD - BIN_MINUTES // 2,),
        smooth_minutes=BIN_MINUTES,
    ).extend(gpus[skip:])
    origins = BIN_MINUTES * (len(bins) - BINS_AHEAD * np.arange(windows, 0, -1)) - 1
    made = ours.quantiles[origins, 0]
    scores.append(_model_score("halfdrop", made[:, 0], made[:, JUDGED_QUANTILE], came))
    last = bins[(origins + 1) // BIN_MINUTES - 1]
    scores.append(_model_score("last value", last, last, came))
    return tuple(sorted(scores, key=lambda score: score.pinball))


def _cross_validate(bins: FloatArray, windows: int, train: int) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return points and q0.9 of each model, in the order of the origins."""
    import pandas as pd  # noqa: PLC0415  a second of imports that a forecast has not
    from statsforecast import StatsForecast  # noqa: PLC0415
    from statsforecast.models import AutoETS, DynamicOptimizedTheta, SeasonalNaive  # noqa: PLC0415
    from statsforecast.utils import ConformalIntervals  # noqa: PLC0415

    intervals = ConformalIntervals(n_windows=CONFORMAL_WINDOWS, h=BINS_AHEAD)
    models: list[Any] = [
        DynamicOptimizedTheta(season_length=1, prediction_intervals=intervals),
        AutoETS(season_length=1, prediction_intervals=intervals),
    ]
    day = DAY_MINUTES // BIN_MINUTES
    if train >= day + (CONFORMAL_WINDOWS + 1) * BINS_AHEAD:
        models.append(SeasonalNaive(season_length=day, prediction_intervals=intervals))
    frame = pd.DataFrame({"unique_id": "demand", "ds": np.arange(len(bins)), "y": bins})
    table = StatsForecast(models=models, freq=1).cross_validation(
        df=frame, h=BINS_AHEAD, n_windows=windows, step_size=BINS_AHEAD, input_size=train, level=[80]
    )
    table = table.sort_values(["cutoff", "ds"])
    return {
        str(model): (
            table[str(model)].to_numpy(dtype=np.float64),
            table[f"{model}-hi-80"].to_numpy(dtype=np.float64),
        )
        for model in models
    }


def _model_score(name: str, points: FloatArray, highs: FloatArray, came: FloatArray) -> ModelScore:
    return ModelScore(
        model=name,
        pinball=float(pinball(highs, came, 0.9).mean()),
        covered=float((came <= highs).mean()),
        mean_absolute_error=float(np.abs(came - points).mean()),
    )


def _filled(gpus: FloatArray) -> FloatArray:
    """Fill gaps by what was known last: statsforecast's models take none."""
    is_known = ~np.isnan(gpus)
    if not is_known.any():
        return np.zeros(len(gpus))
    places = np.maximum.accumulate(np.where(is_known, np.arange(len(gpus)), -1))
    filled: FloatArray = gpus[np.where(places >= 0, places, int(is_known.argmax()))]
    return filled


def _fan(window: FloatArray, quantiles: FloatArray, horizon: int) -> Fan:
    came = window[horizon:][-FAN_MINUTES:]
    made = quantiles[:-horizon][-FAN_MINUTES:]
    return Fan(
        minutes_ahead=horizon,
        came=[None if np.isnan(value) else round(float(value), 4) for value in came],
        quantiles=[[round(value, 4) for value in made[:, index].tolist()] for index in FAN_QUANTILES],
    )
