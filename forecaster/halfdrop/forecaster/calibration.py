"""Online conformal calibration: quantiles of what the hedge got wrong, normalised by how wrong it is nowadays. Pure.

Two calibrators, chosen between by trailing pinball loss. One weighs past residuals by age and by their distance in the
time of day, and keeps apart those of forecasts that nobody comes, of low ones and of high ones: nights of zeros would
make a busy hour's quantiles too narrow in the middle and too wide outside. The other groups residuals by minute of the
half-hour, for clients that come in batches. Each knows residuals only up to the minute it is asked at.
"""

import numpy as np

from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.workload import FloatArray

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995)
JUDGED_QUANTILE = 2
"""Index of the quantile whose pinball loss chooses the calibrator."""

GROUP_MINUTES = 30
MEMORY_MINUTES = 8 * DAY_MINUTES
AGE_HALF_LIFE_MINUTES = 3.0 * DAY_MINUTES
TIME_OF_DAY_WIDTH_MINUTES = 150.0
FAR_TIME_WEIGHT = 0.15
"""What a residual from the other side of the day still counts: with few days, better than nothing."""

MINIMUM_RESIDUALS = 60
IDLE_ROOT = 0.35
"""Square-root units: a forecast below an eighth of a GPU says that probably nobody comes."""

REGIMES = 3
UNKNOWN_SPREAD = 1.0
"""Spread in square-root space while too little is known: about two GPUs' worth at one, ten at thirty."""

NORMAL_QUANTILES = np.array([0.0, 0.674, 1.282, 1.645, 1.960, 2.326, 2.576])


class Calibration:
    """Quantiles of normalised residuals for one horizon, renewed every GROUP_MINUTES."""

    def __init__(self) -> None:
        self._losses = np.zeros(2)
        self.chosen = 0
        self.edges = (IDLE_ROOT, IDLE_ROOT)
        """Where a forecast, in square-root space, passes from one of REGIMES to the next."""

    def quantiles(self, residuals: FloatArray, points: FloatArray, horizon: int) -> FloatArray:
        """Return [2, REGIMES, GROUP_MINUTES, quantiles] for the next GROUP_MINUTES minutes, both calibrators' answers.

        residuals: normalised, one per minute up to now, NaN where unknown; points: the forecasts that they are of.
        horizon: how far after now those minutes begin.
        """
        memory = (MEMORY_MINUTES // GROUP_MINUTES) * GROUP_MINUTES
        recent, recent_points = residuals[-memory:], points[-memory:]
        recent, recent_points = recent[len(recent) % GROUP_MINUTES :], recent_points[len(recent) % GROUP_MINUTES :]
        is_known = ~np.isnan(recent)
        shape = (REGIMES, GROUP_MINUTES, len(QUANTILES))
        if int(is_known.sum()) < MINIMUM_RESIDUALS:
            return np.broadcast_to(NORMAL_QUANTILES * UNKNOWN_SPREAD, (2, *shape)).copy()
        age = np.arange(len(recent), 0, -1)
        ahead = horizon + GROUP_MINUTES / 2
        apart = np.abs((age + ahead + DAY_MINUTES / 2) % DAY_MINUTES - DAY_MINUTES / 2)
        near = np.exp(-0.5 * (apart / TIME_OF_DAY_WIDTH_MINUTES) ** 2)
        fading = 0.5 ** (age / AGE_HALF_LIFE_MINUTES) * is_known
        weights = fading * (FAR_TIME_WEIGHT + near)
        busy = recent_points[is_known & (recent_points >= IDLE_ROOT)]
        self.edges = (IDLE_ROOT, float(np.median(busy)) if len(busy) else IDLE_ROOT)
        regimes = np.searchsorted(self.edges, recent_points, side="right")
        by_regime = np.where(regimes[:, None] == np.arange(REGIMES)[None, :], weights[:, None], 0.0)
        is_few = ((by_regime > 0).sum(axis=0) < MINIMUM_RESIDUALS)[None, :]
        by_regime = np.where(is_few, weights[:, None], by_regime)
        order = np.argsort(recent)  # NaN sorts last
        by_time = _read_ordered(recent[order][:, None], by_regime[order], np.array(QUANTILES))
        groups = (-1, GROUP_MINUTES)
        by_minute = weighted_quantiles(recent.reshape(groups), fading.reshape(groups), np.array(QUANTILES))
        return np.stack([np.broadcast_to(by_time[:, None, :], shape), np.broadcast_to(by_minute[None], shape)])

    def judge(self, forecasts: FloatArray, values: FloatArray) -> None:
        """Learn which calibrator was better: forecasts [2, minutes] of the judged quantile against what came."""
        is_known = ~(np.isnan(values) | np.isnan(forecasts).any(axis=0))
        losses = pinball(forecasts[:, is_known], values[is_known], QUANTILES[JUDGED_QUANTILE]).sum(axis=1)
        self._losses = 0.5 ** (len(values) / DAY_MINUTES) * self._losses + losses
        # The first keeps its place in a tie: groups of one minute are small, and their extremes uncertain.
        self.chosen = int(self._losses[1] < 0.99 * self._losses[0])


def weighted_quantiles(values: FloatArray, weights: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Return, for each column, the smallest value up to which the share of weight reaches each quantile.

    Half of the largest weight is kept for what was not seen yet: a quantile beyond the evidence is the largest value
    known. values, weights: [residuals, columns], weight zero where a value is NaN. Returns [columns, quantiles].
    """
    order = np.argsort(values, axis=0)  # NaN sorts last
    return _read_ordered(
        np.take_along_axis(values, order, axis=0), np.take_along_axis(weights, order, axis=0), quantiles
    )


def _read_ordered(ordered: FloatArray, weights: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Read weighted quantiles off values that are in order: [values, columns or 1], weights [values, columns]."""
    reached = np.cumsum(weights, axis=0)
    wanted = quantiles[:, None] * (reached[-1] + 0.5 * weights.max(axis=0))
    found = np.empty((weights.shape[1], len(quantiles)))
    for column in range(weights.shape[1]):
        at = np.searchsorted(reached[:, column], wanted[:, column])
        last = max(int(np.flatnonzero(weights[:, column])[-1]) if weights[:, column].any() else 0, 0)
        found[column] = ordered[np.minimum(at, last), min(column, ordered.shape[1] - 1)]
    return np.nan_to_num(found)


def pinball(forecasts: FloatArray, values: FloatArray, quantile: float) -> FloatArray:
    """Return the pinball loss of each forecast: what being under costs at `quantile`, against being over."""
    under = values - forecasts
    return np.maximum(quantile * under, (quantile - 1) * under)


def coverage(quantiles: FloatArray, zero_shares: FloatArray, values: FloatArray) -> FloatArray:
    """Return the share of values under each of QUANTILES, ties at zero shared out as the forecast itself shares them.

    Where nobody comes with a chance of 0.8, the quantile 0.5 is zero and every zero lies "at or under" it: of an exact
    forecast 80 % would count as covered. So of a zero that was given the share z, the quantile q covers q ÷ z (the
    expectation of a randomised probability integral transform). [minutes, QUANTILES], [minutes], [minutes], no gaps.
    """
    is_tie = (quantiles <= 0) & (values[:, None] <= 0)
    levels = np.array(QUANTILES)[None, :]
    shared = np.minimum(levels / np.maximum(zero_shares[:, None], levels), 1.0)
    covered: FloatArray = np.where(is_tie, shared, values[:, None] <= quantiles).mean(axis=0)
    return covered
