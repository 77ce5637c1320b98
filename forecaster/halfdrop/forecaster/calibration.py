"""Online conformal calibration: quantiles of what the hedge got wrong, normalised by how wrong it is nowadays. Pure.

Two calibrators, chosen between by trailing pinball loss. One weighs past residuals by age and by their distance in the
time of day; the other groups them by minute of the half-hour, for clients that come in batches. Each knows residuals
only up to the minute it is asked at.
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
UNKNOWN_SPREAD = 1.0
"""Spread in square-root space while too little is known: about two GPUs' worth at one, ten at thirty."""

NORMAL_QUANTILES = np.array([0.0, 0.674, 1.282, 1.645, 1.960, 2.326, 2.576])


class Calibration:
    """Quantiles of normalised residuals for one horizon, renewed every GROUP_MINUTES."""

    def __init__(self) -> None:
        self._losses = np.zeros(2)
        self.chosen = 0

    def quantiles(self, residuals: FloatArray, horizon: int) -> FloatArray:
        """Return [2, GROUP_MINUTES, quantiles] for the next GROUP_MINUTES minutes, both calibrators' answers.

        residuals: normalised, one per minute up to now, NaN where unknown. horizon: how far after
        now those minutes begin.
        """
        recent = residuals[-(MEMORY_MINUTES // GROUP_MINUTES) * GROUP_MINUTES :]
        recent = recent[len(recent) % GROUP_MINUTES :]
        is_known = ~np.isnan(recent)
        shape = (GROUP_MINUTES, len(QUANTILES))
        if int(is_known.sum()) < MINIMUM_RESIDUALS:
            return np.broadcast_to(NORMAL_QUANTILES * UNKNOWN_SPREAD, (2, *shape)).copy()
        age = np.arange(len(recent), 0, -1)
        ahead = horizon + GROUP_MINUTES / 2
        apart = np.abs((age + ahead + DAY_MINUTES / 2) % DAY_MINUTES - DAY_MINUTES / 2)
        near = np.exp(-0.5 * (apart / TIME_OF_DAY_WIDTH_MINUTES) ** 2)
        fading = 0.5 ** (age / AGE_HALF_LIFE_MINUTES) * is_known
        weights = fading * (FAR_TIME_WEIGHT + near)
        by_time = weighted_quantiles(recent[:, None], weights[:, None], np.array(QUANTILES))
        groups = (-1, GROUP_MINUTES)
        by_minute = weighted_quantiles(recent.reshape(groups), fading.reshape(groups), np.array(QUANTILES))
        return np.stack([np.broadcast_to(by_time, shape), by_minute])

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
    ordered = np.take_along_axis(values, order, axis=0)
    reached = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    wanted = quantiles[:, None] * (reached[-1] + 0.5 * weights.max(axis=0))
    last = np.maximum((weights > 0).sum(axis=0) - 1, 0)
    found = np.empty((values.shape[1], len(quantiles)))
    for place, share in enumerate(wanted):
        index = np.minimum((reached < share).sum(axis=0), last)
        found[:, place] = np.take_along_axis(ordered, index[None, :], axis=0)[0]
    return np.nan_to_num(found)


def pinball(forecasts: FloatArray, values: FloatArray, quantile: float) -> FloatArray:
    """Return the pinball loss of each forecast: what being under costs at `quantile`, against being over."""
    under = values - forecasts
    return np.maximum(quantile * under, (quantile - 1) * under)
