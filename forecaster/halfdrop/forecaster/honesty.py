"""How good the forecasts of one series have been lately, judged when the minute that was forecast has come. Pure.

For each horizon, hour by hour: how many values each quantile covered, and the pinball loss at q0.9 beside that of the
last value known when the forecast was made. A drift alarm adds up how much more often than promised demand left the
forecast on one side (CUSUM). From this a verdict: whether the forecast may plan, and if not, why.
"""

import math
from typing import Literal

import msgspec
import numpy as np

from halfdrop.forecaster.calibration import JUDGED_QUANTILE, QUANTILES, pinball
from halfdrop.forecaster.forecast import Forecasts
from halfdrop.forecaster.workload import FloatArray, IntArray

HOUR_MINUTES = 60
HOURS_KEPT = 8 * 24
VERDICT_HOURS = 6
VERDICT_MINUTES_MIN = 120
"""With fewer judged minutes than this nothing is said against a forecast, nor for it."""

COVERAGE_SHORTFALL = 0.2
"""So much less than promised at q0.9 over VERDICT_HOURS is bad: errors of neighbouring minutes go together, and a good
forecast falls a tenth short now and then."""

PINBALL_RATIO_MAX = 1.25
"""A forecast whose loss is a quarter above that of the last value is worth less than looking."""

PINBALL_GPUS_MIN = 0.1
"""And less than this is not worth a word: a series that stands still has a last value without any loss."""

DRIFT_ALLOWED = 0.1
DRIFT_ALARM_MINUTES = 40.0
"""Minutes above q0.9, beyond one in ten and another one in ten that is allowed: three quarters of an hour in a row."""

LOW_ALLOWED = 0.2
LOW_ALARM_MINUTES = 120.0
"""The same below the median, beyond a half and a fifth: forecasts that are too high cost money, not jobs."""

Drift = Literal["", "above", "below"]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Some hours of judged minutes."""

    minutes: int
    coverage: tuple[float, ...]
    """Share of values at or under each of QUANTILES."""

    pinball: float
    """Mean loss at q0.9, in GPUs."""

    last_value_pinball: float

    @property
    def pinball_ratio(self) -> float:
        """Loss over the last value's; 1 where both are nothing."""
        if self.last_value_pinball <= 0:
            return 1.0 if self.pinball <= 0 else math.inf
        return self.pinball / self.last_value_pinball


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a forecast may plan. `is_low`: demand exceeds it; then its plan is too small, not too large."""

    is_good: bool
    reason: str = ""
    is_low: bool = False


class Judge:
    """Judges one series at every horizon as its minutes come."""

    def __init__(self, horizons: tuple[int, ...]) -> None:
        self.horizons = horizons
        shape = (len(horizons), HOURS_KEPT)
        self._hours = np.full(HOURS_KEPT, -1, dtype=np.int64)
        self._minutes = np.zeros(shape)
        self._covered = np.zeros((*shape, len(QUANTILES)))
        self._losses = np.zeros(shape)
        self._last_losses = np.zeros(shape)
        self._waiting = [np.empty((0, len(QUANTILES))) for _ in horizons]
        self._last_values = [np.empty(0) for _ in horizons]
        self._above = np.zeros(len(horizons))
        self._below = np.zeros(len(horizons))
        self._last = math.nan

    def extend(self, demand: FloatArray, forecasts: Forecasts, *, start_minute: int) -> None:
        """Take in minutes of demand and the forecasts made at each of them. start_minute: since the epoch."""
        known = self._fill(demand)
        hours = (start_minute + np.arange(len(demand))) // HOUR_MINUTES
        self._open_hours(np.unique(hours))
        places = hours % HOURS_KEPT
        for row, horizon in enumerate(self.horizons):
            made = np.concatenate([self._waiting[row], forecasts.quantiles[:, row]])
            last = np.concatenate([self._last_values[row], known])
            # Forecasts that wait are of the newest `horizon` origins; before that there are fewer.
            lead = horizon - len(self._waiting[row])
            self._waiting[row], self._last_values[row] = made[-horizon:], last[-horizon:]
            values = demand[lead:] if lead < len(demand) else demand[:0]
            self._judge(row, values, made[: len(values)], last[: len(values)], places[len(demand) - len(values) :])

    def score(self, horizon: int, *, hours: int) -> Score:
        """Return what the newest `hours` said at `horizon`."""
        row = self.horizons.index(horizon)
        newest = int(self._hours.max())
        is_in = (self._hours > newest - hours) & (self._hours >= 0)
        minutes = float(self._minutes[row, is_in].sum())
        if not minutes:
            return Score(minutes=0, coverage=(), pinball=0.0, last_value_pinball=0.0)
        return Score(
            minutes=int(minutes),
            coverage=tuple((self._covered[row, is_in].sum(axis=0) / minutes).tolist()),
            pinball=float(self._losses[row, is_in].sum() / minutes),
            last_value_pinball=float(self._last_losses[row, is_in].sum() / minutes),
        )

    def drift(self, horizon: int) -> Drift:
        """Tell whether demand has been on one side of the forecast for longer than chance has it."""
        row = self.horizons.index(horizon)
        if self._above[row] > DRIFT_ALARM_MINUTES:
            return "above"
        return "below" if self._below[row] > LOW_ALARM_MINUTES else ""

    def verdict(self, horizon: int) -> Verdict:
        """Say whether the forecast may plan."""
        score = self.score(horizon, hours=VERDICT_HOURS)
        if self.drift(horizon) == "above":
            reason = f"demand has run above the forecast's q0.9 at {horizon} min for longer than chance has it"
            return Verdict(is_good=False, is_low=True, reason=reason)
        if score.minutes < VERDICT_MINUTES_MIN:
            return Verdict(is_good=True)
        covered, promised = score.coverage[JUDGED_QUANTILE], QUANTILES[JUDGED_QUANTILE]
        if covered < promised - COVERAGE_SHORTFALL:
            reason = f"q{promised:g} at {horizon} min covered {covered:.0%} of the last {VERDICT_HOURS} h"
            return Verdict(is_good=False, is_low=True, reason=reason)
        if score.pinball_ratio > PINBALL_RATIO_MAX and score.pinball > score.last_value_pinball + PINBALL_GPUS_MIN:
            ratio = score.pinball_ratio
            reason = f"at {horizon} min its loss was {ratio:.2f} × the last value's over the last {VERDICT_HOURS} h"
            return Verdict(is_good=False, reason=reason)
        return Verdict(is_good=True)

    def _judge(self, row: int, values: FloatArray, made: FloatArray, last: FloatArray, places: IntArray) -> None:
        is_known = ~(np.isnan(values) | np.isnan(last) | np.isnan(made).any(axis=1))
        if not is_known.any():
            return
        values, made, last, places = values[is_known], made[is_known], last[is_known], places[is_known]
        np.add.at(self._minutes[row], places, 1.0)
        np.add.at(self._covered[row], places, (values[:, None] <= made).astype(np.float64))
        judged = QUANTILES[JUDGED_QUANTILE]
        np.add.at(self._losses[row], places, pinball(made[:, JUDGED_QUANTILE], values, judged))
        np.add.at(self._last_losses[row], places, pinball(last, values, judged))
        is_above = (values > made[:, JUDGED_QUANTILE]).tolist()
        is_below = (values < made[:, 0]).tolist()
        above, below = float(self._above[row]), float(self._below[row])
        for high, low in zip(is_above, is_below, strict=True):
            above = min(max(0.0, above + high - (1 - judged) - DRIFT_ALLOWED), 1.5 * DRIFT_ALARM_MINUTES)
            below = min(max(0.0, below + low - QUANTILES[0] - LOW_ALLOWED), 1.5 * LOW_ALARM_MINUTES)
        self._above[row], self._below[row] = above, below

    def _fill(self, demand: FloatArray) -> FloatArray:
        """Return the last value known at each minute."""
        known = demand.copy()
        places = np.maximum.accumulate(np.where(np.isnan(known), -1, np.arange(len(known))))
        filled = np.where(places >= 0, known[np.maximum(places, 0)], self._last)
        self._last = float(filled[-1]) if len(filled) else self._last
        return filled

    def _open_hours(self, hours: IntArray) -> None:
        for hour in hours.tolist():
            place = hour % HOURS_KEPT
            if self._hours[place] != hour:
                self._hours[place] = hour
                for table in (self._minutes, self._covered, self._losses, self._last_losses):
                    table[:, place] = 0.0
