"""Demand hour by hour to two weeks ahead: what the same hour of past weeks had, at today's level. Pure.

The forecasts of forecast.py look hours ahead, minute by minute; a budget looks to the end of the month. The margin is
what this very rule has been off by: it is run again from each day of the past weeks, and its errors, as shares of the
root, are kept by how many days ahead they were.
"""

import msgspec
import numpy as np

from halfdrop.forecaster.workload import FloatArray, IntArray

DAY_HOURS = 24
WEEK_HOURS = 7 * DAY_HOURS
WEEKS_MAX = 5
WEEK_WEIGHTS = (4.0, 3.0, 2.0, 1.0, 1.0)
LEVEL_RATIO_MAX = 2.5
LEVEL_HALF_LIFE_HOURS = 5 * DAY_HOURS
"""Today's level against last week's is believed for some days, then the weeks' own again."""

ORIGINS = 21
OUTLOOK_QUANTILES = (0.1, 0.5, 0.9)
ERRORS_MIN = 48
UNKNOWN_ERROR = 0.35
"""Of the root, where too little is known to measure it: as good as nothing is promised."""

OUTLOOK_HOURS = 14 * DAY_HOURS


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Mean GPUs for each hour from the end of the history on."""

    points: FloatArray
    quantiles: FloatArray
    """[hours, OUTLOOK_QUANTILES]"""

    origins: int
    """Past days from which its errors are known; 0: the margin is a guess."""


def look_ahead(hourly: FloatArray, hours: int = OUTLOOK_HOURS) -> Outlook:
    """Forecast from hourly means (NaN: a gap) whose last value is the hour just ended. None known: zeros."""
    points = _same_hours(hourly, hours)
    errors: list[FloatArray] = []
    for day in range(1, ORIGINS + 1):
        cut = len(hourly) - day * DAY_HOURS
        if cut < WEEK_HOURS:
            break
        actual = hourly[cut : cut + hours]
        errors.append(np.full(hours, np.nan))
        errors[-1][: len(actual)] = np.sqrt(actual) - np.sqrt(_same_hours(hourly[:cut], hours)[: len(actual)])
    return Outlook(points=points, quantiles=_spread(points, errors), origins=len(errors))


def hourly_means(minutes: FloatArray, *, start_minute: int) -> tuple[FloatArray, int]:
    """Return means of whole hours of a minute series that ends with the last whole hour, and the hour it begins at.

    An hour of which less than a half is known is a gap.
    """
    skip = -start_minute % 60
    whole = minutes[skip : skip + (len(minutes) - skip) // 60 * 60].reshape(-1, 60)
    known = (~np.isnan(whole)).sum(axis=1)
    sums = np.nansum(whole, axis=1)
    means = np.where(known >= 30, sums / np.maximum(known, 1), np.nan)
    return means, (start_minute + skip) // 60


def _same_hours(hourly: FloatArray, hours: int) -> FloatArray:
    length = len(hourly)
    ahead = np.arange(hours)
    by_week = [_at(hourly, place) for place in _places(length, ahead, WEEK_HOURS, WEEKS_MAX)]
    base = _weighted(by_week, WEEK_WEIGHTS)
    by_day = _weighted([_at(hourly, place) for place in _places(length, ahead, DAY_HOURS, 7)], (1.0,) * 7)
    known = hourly[~np.isnan(hourly)]
    overall = float(known[-WEEK_HOURS:].mean()) if len(known) else 0.0
    base = np.where(np.isnan(base), np.where(np.isnan(by_day), overall, by_day), base)
    return base * _level(hourly, ahead)


def _level(hourly: FloatArray, ahead: IntArray) -> FloatArray:
    """Return today's level over that of the same hours of the weeks before, fading."""
    if len(hourly) < WEEK_HOURS + DAY_HOURS:
        return np.ones(len(ahead))
    today = hourly[-DAY_HOURS:]
    places = _places(len(hourly) - DAY_HOURS, np.arange(DAY_HOURS), WEEK_HOURS, WEEKS_MAX)
    before = _weighted([_at(hourly, place) for place in places], WEEK_WEIGHTS)
    is_known = ~(np.isnan(today) | np.isnan(before))
    then = float(before[is_known].sum())
    if then <= 0:
        return np.ones(len(ahead))
    ratio = min(max(float(today[is_known].sum()) / then, 1 / LEVEL_RATIO_MAX), LEVEL_RATIO_MAX)
    faded: FloatArray = ratio ** (0.5 ** (ahead / LEVEL_HALF_LIFE_HOURS))
    return faded


def _places(length: int, ahead: IntArray, period: int, count: int) -> list[IntArray]:
    """Return, for the newest periods, the places of the same hours as `ahead`; -1 stands for before the history."""
    found = []
    for back in range(1, count + 1):
        place = length + ahead % period - period * back
        if place.max() < 0:
            break
        found.append(np.where(place >= 0, place, -1))
    return found


def _at(hourly: FloatArray, place: IntArray) -> FloatArray:
    return np.where(place >= 0, hourly[place], np.nan)


def _weighted(parts: list[FloatArray], weights: tuple[float, ...]) -> FloatArray:
    if not parts:
        return np.array(np.nan)
    values = np.stack(parts)
    factors = np.array(weights[: len(parts)])[:, None] * ~np.isnan(values)
    total = factors.sum(axis=0)
    return np.where(total > 0, np.nansum(values * factors, axis=0) / np.maximum(total, 1e-9), np.nan)


def _spread(points: FloatArray, errors: list[FloatArray]) -> FloatArray:
    roots = np.sqrt(points)
    found = np.empty((len(points), len(OUTLOOK_QUANTILES)))
    table = np.stack(errors) if errors else np.empty((0, len(points)))
    for begin in range(0, len(points), DAY_HOURS):
        day = slice(begin, begin + DAY_HOURS)
        seen = table[:, day]
        seen = seen[~np.isnan(seen)]
        if len(seen) >= ERRORS_MIN:
            margins = np.quantile(seen, OUTLOOK_QUANTILES)
            last = margins
        elif len(table) and begin:
            margins = last  # what is known of nearer days, where none of that far is over yet
        else:
            scores = np.array([-1.2816, 0.0, 1.2816])
            margins = last = scores * UNKNOWN_ERROR * max(1.0, float(roots[day].mean()))
        found[day] = np.maximum(roots[day, None] + margins, 0.0) ** 2
    return found
