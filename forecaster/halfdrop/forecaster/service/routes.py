"""HTTP: what the planner knows, as JSON. Times are Unix seconds; a value that is not known is null."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.params import FromPath, FromQuery, QueryParameter

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.service.dependencies import ThePlanner
from halfdrop.forecaster.service.parts import By, PartsView, view_parts
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.series import Choice
from halfdrop.forecaster.service.views import (
    AccuracyView,
    DemandView,
    FanView,
    PlanView,
    Scopes,
    view_accuracy,
    view_demand,
    view_fan,
    view_plan,
    view_scopes,
)

NAMES_MAX = 64
OUTLOOK_HOURS_MAX = 24 * 45
RANGES_S = {"6h": 6 * 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400, "90d": 90 * 86_400}

Names = Annotated[str, QueryParameter(description="Names with commas between them; empty: all.", max_length=4_000)]
ClassNames = Annotated[str, QueryParameter(name="class", description="As region.", max_length=4_000)]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the process works, and whether what it tells is fresh."""

    status: str
    age_s: float
    is_stale: bool
    series: int
    learnt_share: float


@get("/healthz")
async def get_health(planner: ThePlanner) -> Health:
    """Answers as soon as the process serves; `is_stale` where no minute came of late."""
    return Health(
        status="stale" if planner.is_stale else "ok",
        age_s=round(planner.age_s(), 1),
        is_stale=planner.is_stale,
        series=len(planner.table.series),
        learnt_share=round(planner.forecasting.learnt_share(), 4),
    )


@get("/v1/scopes")
async def get_scopes(planner: ThePlanner) -> Scopes:
    """What there is to choose from: regions, classes, models, pools; and how far the forecaster is."""
    return view_scopes(planner)


@get("/v1/demand")
async def get_demand(
    planner: ThePlanner,
    *,
    region: Names = "",
    job_class: ClassNames = "",
    model: Names = "",
    time_range: Annotated[str, QueryParameter(name="range", description="6h, day, week, month or 90d.")] = "day",
    start: Annotated[float | None, QueryParameter(name="from", description="Instead of range.")] = None,
    end: Annotated[float | None, QueryParameter(name="to", description="Instead of range.")] = None,
    points: Annotated[int, QueryParameter(description="At most about so many buckets.")] = 1200,
) -> DemandView:
    """Demand, capacity, lateness and what had been forecast, in buckets with minimum, maximum and mean."""
    start_s, end_s = read_range(planner, time_range, start, end)
    return view_demand(planner, read_choice(region, job_class, model), start_s=start_s, end_s=end_s, points=points)


@get("/v1/demand.csv")
async def get_demand_csv(
    planner: ThePlanner,
    *,
    region: Names = "",
    job_class: ClassNames = "",
    model: Names = "",
    time_range: Annotated[str, QueryParameter(name="range")] = "day",
    start: Annotated[float | None, QueryParameter(name="from")] = None,
    end: Annotated[float | None, QueryParameter(name="to")] = None,
    points: FromQuery[int] = 1200,
) -> Response[str]:
    """The same as CSV, a row for each bucket."""
    start_s, end_s = read_range(planner, time_range, start, end)
    view = view_demand(planner, read_choice(region, job_class, model), start_s=start_s, end_s=end_s, points=points)
    headers = {"Content-Disposition": 'attachment; filename="halfdrop-demand.csv"', "Cache-Control": "no-store"}
    return Response(make_csv(view), media_type="text/csv; charset=utf-8", headers=headers)


@get("/v1/forecasts")
async def get_forecasts(
    planner: ThePlanner,
    *,
    region: Names = "",
    job_class: ClassNames = "",
    model: Names = "",
    hours: Annotated[int, QueryParameter(description="Of the hourly outlook.")] = 48,
) -> FanView:
    """The newest forecast: quantiles minute by minute for hours, then hour by hour."""
    if not 1 <= hours <= OUTLOOK_HOURS_MAX:
        raise InvalidInput("hours", got=hours, allowed=f"1 to {OUTLOOK_HOURS_MAX}")
    return view_fan(planner, read_choice(region, job_class, model), hours=hours)


@get("/v1/forecasts/parts")
async def get_parts(
    planner: ThePlanner,
    *,
    region: Names = "",
    job_class: ClassNames = "",
    model: Names = "",
    by: Annotated[By, QueryParameter(description="What the parts are: region, class or model.")] = "class",
) -> PartsView:
    """What the newest forecast is made of: parts that add up to the whole."""
    return view_parts(planner, read_choice(region, job_class, model), by=by)


@get("/v1/plans")
async def get_plans(planner: ThePlanner) -> list[PlanView]:
    """The plan of every pool, with its age and its reasons."""
    return [view_plan(planner, pool) for _, pool in sorted(planner.pools.items())]


@get("/v1/plans/{region:str}/{pool:str}")
async def get_plan(planner: ThePlanner, region: FromPath[str], pool: FromPath[str]) -> PlanView:
    """The plan of one pool."""
    return view_plan(planner, planner.pool(region, pool))


@get("/v1/accuracy")
async def get_accuracy(
    planner: ThePlanner, *, region: Names = "", job_class: ClassNames = "", model: Names = ""
) -> AccuracyView:
    """How good forecasts have been: coverage, loss beside the last value's, weights of the experts, drift, verdict."""
    return view_accuracy(planner, read_choice(region, job_class, model))


def read_choice(region: str, job_class: str, model: str) -> Choice:
    """Return the chosen series. Raises InvalidInput for more names than a person can have chosen."""
    found = []
    for field, text in (("region", region), ("class", job_class), ("model", model)):
        names = tuple(dict.fromkeys(name for name in text.split(",") if name))
        if len(names) > NAMES_MAX:
            raise InvalidInput(field, got=f"{len(names)} names", allowed=f"at most {NAMES_MAX}")
        found.append(names)
    return Choice(regions=found[0], classes=found[1], models=found[2])


def read_range(planner: Planner, time_range: str, start: float | None, end: float | None) -> tuple[float, float]:
    """Return from and to in Unix seconds; what is not said ends now."""
    if start is None and end is None:
        length_s = RANGES_S.get(time_range)
        if length_s is None:
            raise InvalidInput("range", got=time_range, allowed=", ".join(RANGES_S))
        now_s = planner.source.now_s()
        return now_s - length_s, now_s
    end_s = planner.source.now_s() if end is None else end
    return (end_s - RANGES_S["day"] if start is None else start), end_s


def make_csv(view: DemandView) -> str:
    """Return the buckets as CSV: Unix seconds and ISO times, a value that is not known is empty."""
    from datetime import UTC, datetime  # noqa: PLC0415

    columns: dict[str, list[Any]] = {
        "gpus": view.mean,
        "gpus_min": view.low,
        "gpus_max": view.high,
        "gpus_served": view.served,
        "requests": view.requests,
        "late": view.late,
        "mean_wait_s": view.mean_wait_s,
        "capacity": view.capacity,
        "planned": view.planned,
    }
    if view.fan is not None:
        for quantile, values in zip(view.fan.quantiles, view.fan.values, strict=True):
            columns[f"forecast_q{quantile:g}_{view.fan.ahead_minutes}min"] = values
    lines = [",".join(["time", "t", *columns])]
    for place, t in enumerate(view.t):
        cells = ["" if column[place] is None else f"{column[place]:g}" for column in columns.values()]
        lines.append(",".join([datetime.fromtimestamp(t, UTC).isoformat().replace("+00:00", "Z"), str(t), *cells]))
    return "\n".join(lines) + "\n"


HANDLERS: list[Any] = [
    get_health,
    get_scopes,
    get_demand,
    get_demand_csv,
    get_forecasts,
    get_parts,
    get_plans,
    get_plan,
    get_accuracy,
]
