"""What the forecast of the chosen demand is made of: regions, classes or models, whose forecasts add up to the whole.

Each is forecast by itself, and the whole is, because it is smoother than its parts. Here they are made to agree
(coherent.py): what does not add up is shared out by how uncertain each is. Announced events are in all of them.
"""

from typing import Literal

import numpy as np
from msgspec import Struct

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.calibration import JUDGED_QUANTILE, QUANTILES
from halfdrop.forecaster.coherent import reconcile, shift_quantiles
from halfdrop.forecaster.service.forecasting import SERIES_HORIZONS
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.series import Choice, SeriesKey
from halfdrop.forecaster.service.uplift import uplift_factors
from halfdrop.forecaster.workload import FloatArray

By = Literal["region", "class", "model"]
PARTS_MAX = 24
"""More are more than a table can be read of."""

BEHIND_MINUTES = 3
"""Parts get a new minute one after another; one further behind than this is learning."""

MEDIAN = 0
SCORE = 1.2816
"""Of q0.9: how many standard deviations it is above the median."""


class Part(Struct, frozen=True, kw_only=True):
    """One part, or the whole. GPUs at each of the horizons."""

    name: str
    point: list[float]
    high: list[float]
    """The quantile 0.9."""

    alone: list[float]
    """The point before it was made to agree."""


class PartsView(Struct, frozen=True, kw_only=True):
    """The whole and its parts. The parts' points add up to the whole's; their quantiles do not."""

    by: By
    horizons: list[int]
    is_ready: bool
    detail: str
    """Why there is nothing to see, if so."""

    whole: Part | None = None
    parts: tuple[Part, ...] = ()


class _Made(Struct, frozen=True):
    """What one choice is forecast: [horizons], [horizons, QUANTILES]."""

    points: FloatArray
    quantiles: FloatArray


def view_parts(planner: Planner, choice: Choice, *, by: By) -> PartsView:
    """Return the newest forecasts of a choice and of its parts, made to agree."""
    horizons = list(SERIES_HORIZONS)
    names = _names(planner, choice, by)
    if len(names) > PARTS_MAX:
        raise InvalidInput("by", got=f"{by}, of which {len(names)} are chosen", allowed=f"at most {PARTS_MAX} parts")
    whole = _forecast(planner, choice)
    made = {name: _forecast(planner, _narrow(choice, by, name)) for name in names}
    missing = [name for name, found in made.items() if found is None]
    if whole is None or missing or not names:
        what = f"{by} {', '.join(missing[:5])}" if missing else "all that is chosen"
        return PartsView(by=by, horizons=horizons, is_ready=False, detail=f"the forecaster is learning {what}")
    known = [found for found in made.values() if found is not None]
    points, totals = np.empty((len(known), len(horizons))), np.empty(len(horizons))
    for place in range(len(horizons)):
        agreed = reconcile(
            np.array([[each.points[place]] for each in known]),
            whole.points[place : place + 1],
            part_variances=np.array([_variance(each, place) for each in known]),
            total_variance=_variance(whole, place),
        )
        points[:, place], totals[place] = agreed.parts[:, 0], agreed.total[0]
    return PartsView(
        by=by,
        horizons=horizons,
        is_ready=True,
        detail="",
        whole=_part("all", whole, totals),
        parts=tuple(_part(name, each, row) for name, each, row in zip(names, known, points, strict=True)),
    )


def _names(planner: Planner, choice: Choice, by: By) -> list[str]:
    def name_of(key: SeriesKey) -> str:
        return {"region": key.region, "class": key.job_class, "model": key.model}[by]

    return sorted({name_of(key) for key in planner.table.keys(choice)})


def _narrow(choice: Choice, by: By, name: str) -> Choice:
    return Choice(
        regions=(name,) if by == "region" else choice.regions,
        classes=(name,) if by == "class" else choice.classes,
        models=(name,) if by == "model" else choice.models,
    )


def _forecast(planner: Planner, choice: Choice) -> _Made | None:
    """Return what the node of these series forecasts, announced events included; None: it is learning."""
    node = planner.forecasting.find(choice)
    if node is None or node.newest is None or planner.table.end - node.newest.end_minute > BEHIND_MINUTES:
        return None
    newest = node.newest
    rows = [newest.horizons.index(horizon) for horizon in SERIES_HORIZONS]
    targets = planner.table.end - 1 + np.array(SERIES_HORIZONS, dtype=np.int64)
    factors = uplift_factors(planner.touches(choice), planner.table.end - 1, targets)
    return _Made(newest.points[rows] * factors, newest.quantiles[rows] * factors[:, None])


def _variance(made: _Made, place: int) -> float:
    """Return the variance that calibrated quantiles say the forecast has."""
    spread = made.quantiles[place, JUDGED_QUANTILE] - made.quantiles[place, MEDIAN]
    return float((spread / SCORE) ** 2)


def _part(name: str, made: _Made, agreed: FloatArray) -> Part:
    moved = shift_quantiles(made.quantiles, made.points, agreed)
    return Part(
        name=name,
        point=agreed.tolist(),
        high=moved[:, JUDGED_QUANTILE].tolist(),
        alone=made.points.tolist(),
    )


assert QUANTILES[JUDGED_QUANTILE] == 0.9, "SCORE is q0.9's"
