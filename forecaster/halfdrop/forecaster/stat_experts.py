"""statsforecast's fast models as experts for the farther horizons, fitted once an hour on five-minute means.

Both take some milliseconds; a fit each minute would change nothing that the level does not say better. Between two fits
a path moves with the level: what it foretells is the way from now on. MSTL, TBATS and AutoARIMA take seconds: out.
"""

from typing import Any

import numpy as np

from halfdrop.forecaster.workload import FloatArray

STAT_EXPERTS = ("dynamic theta", "exponential smoothing")
FROM_HORIZON_MINUTES = 30
"""Nearer than this the last value and the ridges lose less than any path does."""

REFIT_MINUTES = 60
BIN_MINUTES = 5
BINS = 288
BINS_MIN = 36


def fit_paths(roots: FloatArray, minutes: int) -> FloatArray:
    """Return what each of STAT_EXPERTS foretells for the next `minutes` minutes: [experts, minutes].

    roots: the series up to now, in square-root space, its gaps filled. With too few of them: the last ones' mean.
    """
    whole = roots[len(roots) % BIN_MINUTES :][-BINS * BIN_MINUTES :].reshape(-1, BIN_MINUTES).mean(axis=1)
    level = float(whole[-3:].mean()) if len(whole) else 0.0
    if len(whole) < BINS_MIN or float(whole.std()) < 1e-6:
        return np.full((len(STAT_EXPERTS), minutes), level)
    steps = -(-minutes // BIN_MINUTES) + 1
    middles = BIN_MINUTES * np.arange(steps) + (BIN_MINUTES - 1) / 2
    paths = np.empty((len(STAT_EXPERTS), minutes))
    for place, model in enumerate(_models()):
        foretold = np.asarray(model.forecast(y=whole, h=steps)["mean"], dtype=np.float64)
        if not np.isfinite(foretold).all():
            foretold = np.full(steps, level)
        # A drift that is followed for hours leads below zero or to the sky.
        foretold = np.clip(foretold, 0.0, 2.0 * float(whole.max()))
        paths[place] = np.interp(np.arange(minutes), middles, foretold)
    return paths


def _models() -> tuple[Any, ...]:
    # A second and a half of import, which series of near horizons only never need.
    from statsforecast.models import AutoETS, DynamicOptimizedTheta  # noqa: PLC0415

    return DynamicOptimizedTheta(season_length=1), AutoETS(season_length=1)
