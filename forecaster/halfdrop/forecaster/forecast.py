"""Forecasts of one demand series with quantiles, minute by minute. Pure: minutes go in, quantiles come out.

`SeriesForecaster.extend` takes any number of minutes at once and gives the same answers as minute by minute would, so
the replay of a week and the live service run the same code. Everything at minute t uses values up to t only: the
block ends where something is learnt (ridges, weights and calibration, every LEARN_MINUTES).
"""

from collections.abc import Iterator

import msgspec
import numpy as np

from halfdrop.forecaster.calibration import GROUP_MINUTES, JUDGED_QUANTILE, QUANTILES, Calibration
from halfdrop.forecaster.experts import EXPERTS, Hedge, OnlineRidges
from halfdrop.forecaster.features import (
    DAY_MINUTES,
    HALF_WIDTHS_MINUTES,
    HARMONICS,
    LAGS,
    LEVEL,
    SPANS_MINUTES,
    Levels,
    clean_demand,
    lagged_features,
    recent_features,
    seasonal_features,
    subhour_features,
)
from halfdrop.forecaster.stat_experts import FROM_HORIZON_MINUTES, REFIT_MINUTES, STAT_EXPERTS, fit_paths
from halfdrop.forecaster.workload import FloatArray

HORIZONS_MINUTES = (1, 3, 6, 9, 60)
LEARN_MINUTES = GROUP_MINUTES
SPREAD_SPANS_MINUTES = (120, 2 * DAY_MINUTES)
"""How far off the hedge is nowadays is read from both: this hour and these days."""

SPREAD_PRIOR_MINUTES = 10
"""What the first guess, 1.0, counts. Worth more, it would shrink the residuals of the first days."""

RECENT_COLUMNS = 2 + len(SPANS_MINUTES) + LAGS
SUBHOUR_COLUMNS = 2
COLUMNS = RECENT_COLUMNS + 2 * len(HALF_WIDTHS_MINUTES) + 2 * HARMONICS + SUBHOUR_COLUMNS

NOBODY_ROOT = (1 / 60) ** 0.5
"""A quantile of less than one GPU-second a minute says that nobody comes: no job is shorter."""

SPREAD_MIN = 0.05
"""Square-root units: no series is so regular that its forecasts need no margin."""


class Forecasts(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of demand in mean GPUs, for some consecutive minutes of origin."""

    first_minute: int
    horizons: tuple[int, ...]
    quantiles: FloatArray
    """[minutes, horizons, QUANTILES]"""

    points: FloatArray
    """[minutes, horizons]: the hedge itself."""

    zero_shares: FloatArray
    """[minutes, horizons]: how likely it is, as far as that is above a half, that there is no demand at all; else 0."""


class SeriesForecaster:
    """Learns one series as it comes. `start_minute`: minutes since the epoch at its first value, for time of day.

    smooth_minutes: forecast the mean of so many minutes around each horizon (odd). A plan wants that: what one minute
    has more than its neighbours waits its ten seconds in the queue and asks for no GPU of its own.
    """

    def __init__(
        self, *, start_minute: int = 0, horizons: tuple[int, ...] = HORIZONS_MINUTES, smooth_minutes: int = 1
    ) -> None:
        assert smooth_minutes % 2 == 1
        self.horizons = horizons
        self._smooth_minutes = smooth_minutes
        self.minutes = 0
        self._start_minute = start_minute
        self._levels = Levels()
        self._roots = np.empty(0)
        self._filled = np.empty(0)
        self._sums = np.zeros(1)
        self._averages = np.empty((0, len(SPANS_MINUTES)))
        self._deviations = np.empty(0)
        self._targets = np.empty(0)
        self._paths: dict[int, FloatArray] = {}
        """What statsforecast's models foretold, by the minute at which they were fitted."""

        self._parts = [_Horizon(horizon + smooth_minutes // 2) for horizon in horizons]

    def extend(self, demand: FloatArray) -> Forecasts:
        """Take in the next minutes of demand (NaN: a gap) and return the forecasts made at each of them."""
        demand = clean_demand(demand)
        first = self.minutes
        room = first + len(demand)
        self._reserve(room)
        quantiles = np.empty((len(demand), len(self.horizons), len(QUANTILES)))
        points = np.empty((len(demand), len(self.horizons)))
        zero_shares = np.empty((len(demand), len(self.horizons)))
        self._take_in(demand, first, room)
        for place, part in enumerate(self._parts):
            part.look(self._rows_of(part.horizon, first, room), first, room)
            for begin, end in _blocks(first, room):
                inside = slice(begin - first, end - first)
                points[inside, place], signed = part.run(
                    self._targets, begin, end, foretold=self._foretold(part.horizon, begin, end)
                )
                quantiles[inside, place] = np.where(signed > NOBODY_ROOT, signed, 0.0) ** 2
                zero_shares[inside, place] = _zero_shares(signed)
        self.minutes = room
        self._paths = {begin: paths for begin, paths in self._paths.items() if begin + REFIT_MINUTES > room}
        return Forecasts(
            first_minute=first, horizons=self.horizons, quantiles=quantiles, points=points, zero_shares=zero_shares
        )

    def weights(self, horizon: int) -> dict[str, float]:
        """Return what the hedge makes of each expert at `horizon`."""
        part = self._parts[self.horizons.index(horizon)]
        return dict(zip(part.experts, part.hedge.weights.tolist(), strict=True))

    def _foretold(self, horizon: int, begin: int, end: int) -> FloatArray:
        """Return what STAT_EXPERTS say from each minute of a block: [minutes, experts], or no experts."""
        if horizon < FROM_HORIZON_MINUTES:
            return np.empty((end - begin, 0))
        fitted = begin // REFIT_MINUTES * REFIT_MINUTES
        if fitted not in self._paths:
            farthest = max(part.horizon for part in self._parts)
            self._paths[fitted] = fit_paths(self._filled[:fitted], REFIT_MINUTES + farthest + 1)
        paths = self._paths[fitted]
        now = np.arange(begin, end) - fitted
        moved = self._averages[begin:end, LEVEL][:, None] - paths[:, now].T
        return np.maximum(paths[:, now + horizon].T + moved, 0.0)

    def _reserve(self, minutes: int) -> None:
        missing = minutes - len(self._roots)
        if missing <= 0:
            return
        room = max(missing, 2 * DAY_MINUTES)
        self._roots = np.concatenate([self._roots, np.full(room, np.nan)])
        self._targets = np.concatenate([self._targets, np.full(room, np.nan)])
        self._filled = np.concatenate([self._filled, np.zeros(room)])
        self._sums = np.concatenate([self._sums, np.zeros(room)])
        self._deviations = np.concatenate([self._deviations, np.zeros(room)])
        self._averages = np.concatenate([self._averages, np.zeros((room, len(SPANS_MINUTES)))])
        for part in self._parts:
            part.reserve(len(self._roots))

    def _rows_of(self, horizon: int, begin: int, end: int) -> FloatArray:
        return np.column_stack(
            [
                recent_features(self._filled, self._averages, begin, end),
                lagged_features(self._sums, self._averages, begin, end),
                seasonal_features(
                    self._sums, self._averages, begin, end, horizon=horizon, start_minute=self._start_minute
                ),
                subhour_features(self._deviations, begin, end, horizon),
            ]
        )

    def _take_in(self, demand: FloatArray, begin: int, end: int) -> None:
        roots = np.sqrt(demand)
        filled, averages = self._levels.extend(roots)
        self._roots[begin:end], self._filled[begin:end], self._averages[begin:end] = roots, filled, averages
        self._sums[begin + 1 : end + 1] = self._sums[begin] + np.cumsum(filled)
        self._deviations[begin:end] = np.where(np.isnan(roots), 0.0, filled - averages[:, LEVEL])
        self._targets[begin:end] = self._smoothed(begin, end)

    def _smoothed(self, begin: int, end: int) -> FloatArray:
        """Return what is to be forecast, in square-root space: a minute, or the mean of the last few that are known."""
        if self._smooth_minutes == 1:
            return self._roots[begin:end]
        first = max(0, begin - self._smooth_minutes + 1)
        values = self._roots[first:end] ** 2
        is_known = ~np.isnan(values)
        kernel = np.ones(self._smooth_minutes)
        sums = np.convolve(np.where(is_known, values, 0.0), kernel)[begin - first : end - first]
        counts = np.convolve(is_known.astype(np.float64), kernel)[begin - first : end - first]
        known_now = is_known[begin - first :]
        return np.where(known_now, np.sqrt(np.maximum(sums, 0.0) / np.maximum(counts, 1.0)), np.nan)


def _zero_shares(signed: FloatArray) -> FloatArray:
    """Return the level, between QUANTILES, at which quantiles in square-root space come above zero."""
    signed = signed - NOBODY_ROOT
    above = (signed > 0).argmax(axis=1)
    above = np.where(signed[:, -1] <= 0, len(QUANTILES) - 1, above)
    rows = np.arange(len(signed))
    right, left = signed[rows, above], signed[rows, np.maximum(above - 1, 0)]
    levels = np.array(QUANTILES)
    share = np.clip(-left / np.maximum(right - left, 1e-9), 0.0, 1.0)
    between = levels[np.maximum(above - 1, 0)] + share * (levels[above] - levels[np.maximum(above - 1, 0)])
    return np.where(above == 0, 0.0, between)


def _blocks(first: int, room: int) -> Iterator[tuple[int, int]]:
    """Cut [first, room) where something is learnt."""
    begin = first
    while begin < room:
        end = min(room, (begin // LEARN_MINUTES + 1) * LEARN_MINUTES)
        yield begin, end
        begin = end


class _Horizon:
    """Everything that one horizon has learnt. Arrays are indexed by the minute that is forecast, not by its origin."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.experts = EXPERTS if horizon < FROM_HORIZON_MINUTES else (*EXPERTS, *STAT_EXPERTS)
        self.hedge = Hedge(len(self.experts))
        self._calibration = Calibration()
        self._ridges = OnlineRidges(_column_sets(), level_column=2 + LEVEL)
        self._rows = np.zeros((0, COLUMNS))
        self._predictions = np.zeros((0, len(self.experts)))
        self._points = np.zeros(0)
        self._spreads = np.zeros(0)
        self._scaled = np.zeros(0)
        self._judged = np.zeros((2, 0))
        self._squares = [1.0, 1.0]
        self._judged_minutes = SPREAD_PRIOR_MINUTES
        self._table = self._calibration.quantiles(np.empty(0), np.empty(0), horizon)

    def reserve(self, minutes: int) -> None:
        """Make room for targets of origins before `minutes`."""
        missing = minutes + self.horizon - len(self._points)
        self._rows = np.concatenate([self._rows, np.zeros((missing, COLUMNS))])
        self._predictions = np.concatenate([self._predictions, np.full((missing, len(self.experts)), np.nan)])
        self._points = np.concatenate([self._points, np.full(missing, np.nan)])
        self._spreads = np.concatenate([self._spreads, np.full(missing, np.nan)])
        self._scaled = np.concatenate([self._scaled, np.full(missing, np.nan)])
        self._judged = np.concatenate([self._judged, np.full((2, missing), np.nan)], axis=1)

    def look(self, rows: FloatArray, begin: int, end: int) -> None:
        """Take the features of the minutes [begin, end)."""
        self._rows[begin + self.horizon : end + self.horizon] = rows

    def run(self, roots: FloatArray, begin: int, end: int, *, foretold: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Forecast from the minutes [begin, end), all within one block, and learn where the block is full.

        Returns points in GPUs, and quantiles in square-root space, below zero where they say that nobody comes.
        """
        target = slice(begin + self.horizon, end + self.horizon)
        rows = self._rows[target]
        predictions = np.column_stack([rows[:, 1], rows[:, 3], rows @ self._ridges.coefficients.T, foretold])
        points = np.maximum(predictions @ self.hedge.weights, 0.0)
        self._predictions[target], self._points[target] = predictions, points
        spreads = self._track_spread(roots, begin, end)
        self._spreads[target] = spreads
        places = np.arange(target.start, target.stop) % GROUP_MINUTES
        regimes = np.searchsorted(self._calibration.edges, points, side="right")
        both = points[None, :, None] + spreads[None, :, None] * self._table[:, regimes, places]
        self._judged[:, target] = np.maximum(both[:, :, JUDGED_QUANTILE], 0.0) ** 2
        chosen = np.maximum.accumulate(both[self._calibration.chosen], axis=1)
        if end % LEARN_MINUTES == 0:
            self._learn(roots, end)
        return points**2, chosen

    def _track_spread(self, roots: FloatArray, begin: int, end: int) -> FloatArray:
        """Return how far off the hedge is nowadays at each minute."""
        fast, slow = self._squares
        fast_span, slow_span = SPREAD_SPANS_MINUTES
        spreads = np.empty(end - begin)
        residuals = roots[begin:end] - self._points[begin:end]
        for place, square in enumerate((residuals * residuals).tolist()):
            if square == square:  # noqa: PLR0124  NaN, a gap, is not equal to itself
                self._judged_minutes += 1
                fast += (square - fast) / min(fast_span, self._judged_minutes)
                slow += (square - slow) / min(slow_span, self._judged_minutes)
            spreads[place] = max(SPREAD_MIN, (0.5 * fast + 0.5 * slow) ** 0.5)
        self._squares = [fast, slow]
        return spreads

    def _learn(self, roots: FloatArray, end: int) -> None:
        block = slice(end - LEARN_MINUTES, end)
        targets = roots[block]
        self._scaled[block] = (targets - self._points[block]) / self._spreads[block]
        self.hedge.learn(self._predictions[block], targets)
        self._ridges.learn(self._rows[block], np.where(np.isnan(self._points[block]), np.nan, targets))
        self._calibration.judge(self._judged[:, block], targets**2)
        self._table = self._calibration.quantiles(self._scaled[:end], self._points[:end], self.horizon)


def _column_sets() -> list[list[int]]:
    """Return what each ridge looks at: the recent past always; the season, the minute of the hour, or both."""
    recent = list(range(RECENT_COLUMNS))
    seasonal = list(range(RECENT_COLUMNS, COLUMNS - SUBHOUR_COLUMNS))
    subhour = list(range(COLUMNS - SUBHOUR_COLUMNS, COLUMNS))
    return [recent, recent + seasonal, recent + subhour, recent + seasonal + subhour]
