"""What the experts look at: a demand series in square-root space, seen from each minute. Pure and causal.

The square root makes the noise of arrivals about equally wide at every level of demand. A row for minute t holds
nothing that came after t. Where the past does not reach back far enough, or was a gap, a lag says "as now".
"""

import numpy as np
from scipy.signal import lfilter

from halfdrop.forecaster.workload import FloatArray

DAY_MINUTES = 1_440
WEEK_MINUTES = 10_080
HOUR_MINUTES = 60
SPANS_MINUTES = (2.0, 5.0, 15.0, 45.0, 180.0)
"""Time constants of the averages that stand for the recent past."""

LEVEL = 3
"""Index in SPANS_MINUTES of the average that counts as the level of now."""

LAG_MINUTES, LAGS = 5, 13
HALF_WIDTHS_MINUTES = (3, 15)
"""Half the widths of the windows around the same time of another day."""

SUBHOUR_CYCLES = 24
HARMONICS = 3
DEMAND_MAX_GPUS = 1e6
"""More than this is no demand but a broken counter: a gap."""


class Levels:
    """Running averages of a series, kept up to date block by block. Gaps leave them as they are."""

    def __init__(self) -> None:
        self._states: list[FloatArray] = [np.zeros(1) for _ in SPANS_MINUTES]
        self._last = 0.0
        self._is_begun = False

    def extend(self, roots: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (the series with its gaps filled by what was known last, the averages [minutes, spans])."""
        filled = roots.copy()
        is_known = ~np.isnan(filled)
        if not self._is_begun and is_known.any():
            first = float(filled[is_known][0])
            self._states = [np.array([np.exp(-1 / span) * first]) for span in SPANS_MINUTES]
            self._last, self._is_begun = first, True
        places = np.where(is_known, np.arange(len(filled)), -1)
        places = np.maximum.accumulate(places)
        filled = np.where(places >= 0, filled[np.maximum(places, 0)], self._last)
        averages = np.empty((len(filled), len(SPANS_MINUTES)))
        for column, span in enumerate(SPANS_MINUTES):
            keep = np.exp(-1 / span)
            averages[:, column], self._states[column] = lfilter([1 - keep], [1, -keep], filled, zi=self._states[column])
        if len(filled):
            self._last = float(filled[-1])
        return filled, averages


def clean_demand(values: FloatArray) -> FloatArray:
    """Return demand with every value that cannot be one (negative, infinite, absurd) turned into a gap."""
    demand = np.asarray(values, dtype=np.float64).copy()
    with np.errstate(invalid="ignore"):
        demand[~((demand >= 0) & (demand <= DEMAND_MAX_GPUS))] = np.nan
    return demand


def recent_features(filled: FloatArray, averages: FloatArray, begin: int, end: int) -> FloatArray:
    """Return the recent past of minutes [begin, end): a constant, the last value, the averages."""
    return np.column_stack([np.ones(end - begin), filled[begin:end], averages[begin:end]])


def lagged_features(filled_sums: FloatArray, averages: FloatArray, begin: int, end: int) -> FloatArray:
    """Return the last LAGS windows of LAG_MINUTES, one after the other into the past, as changes of level.

    Sessions that last as long as each other end together as they began: half an hour after a rise comes a fall.
    """
    now = np.arange(begin, end)
    level = averages[begin:end, LEVEL]
    columns = []
    for lag in range(1, LAGS + 1):
        last = now + 1 - LAG_MINUTES * lag
        first = np.maximum(last - LAG_MINUTES, 0)
        around = (filled_sums[np.maximum(last, 1)] - filled_sums[first]) / np.maximum(last - first, 1)
        columns.append(np.where(last > 0, around - level, 0.0))
    return np.column_stack(columns)


def seasonal_features(
    filled_sums: FloatArray, averages: FloatArray, begin: int, end: int, *, horizon: int, start_minute: int
) -> FloatArray:
    """Return what yesterday and last week did from here on, as changes of level, and the time of the day.

    filled_sums: cumulative sum of the filled series, with a leading zero. [minutes, 2 × windows + 2 × HARMONICS]
    """
    now = np.arange(begin, end)
    columns = []
    for lag in (DAY_MINUTES, WEEK_MINUTES):
        then = now - lag
        is_there = then >= 0
        level = averages[np.maximum(then, 0), LEVEL]
        for half in HALF_WIDTHS_MINUTES:
            # The window never reaches past the minute that is looked from.
            first = np.maximum(then + horizon - half, 0)
            last = np.minimum(then + horizon + half + 1, now + 1)
            around = (filled_sums[np.maximum(last, 1)] - filled_sums[first]) / np.maximum(last - first, 1)
            columns.append(np.where(is_there, around - level, 0.0))
    angle = (start_minute + now + horizon) * (2 * np.pi / DAY_MINUTES)
    for harmonic in range(1, HARMONICS + 1):
        columns += [np.cos(harmonic * angle), np.sin(harmonic * angle)]
    return np.column_stack(columns)


def subhour_features(deviations: FloatArray, begin: int, end: int, horizon: int) -> FloatArray:
    """Return how the target's minute of the hour, and of the half-hour, stood out in the last day.

    deviations: [minutes], the series less its level. Batchy clients come at :00 and :30.
    """
    target = np.arange(begin, end) + horizon
    columns = []
    for period in (HOUR_MINUTES // 2, HOUR_MINUTES):
        steps = -(-(horizon) // period)
        places = target[:, None] - period * np.arange(steps, steps + SUBHOUR_CYCLES)[None, :]
        is_there = places >= 0
        total = np.where(is_there, deviations[np.maximum(places, 0)], 0.0).sum(axis=1)
        columns.append(total / np.maximum(is_there.sum(axis=1), 1))
    return np.column_stack(columns)
