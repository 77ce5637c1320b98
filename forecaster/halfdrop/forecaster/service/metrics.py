"""Every metric of the planner, named in one place and read from its state when Prometheus asks."""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

from litestar import Request, Response, get
from prometheus_client.core import Metric

from halfdrop.forecaster.calibration import JUDGED_QUANTILE, QUANTILES
from halfdrop.forecaster.plan import STALE_AFTER_S
from halfdrop.forecaster.service.dependencies import ThePlanner
from halfdrop.forecaster.service.forecasting import JUDGED_HORIZON
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.shards import HorizonScore
from halfdrop.forecaster.service.views import view_plan
from halfdrop.runtime.exposition import Family, encode_metrics, make_registry

POOL = ("region", "pool")

BUILD = Family(name="halfdrop_planner_build_info", kind="gauge", meaning="1; who this is", labels=("version",))
SERIES = Family(name="halfdrop_planner_series", kind="gauge", meaning="series of demand that are known")
AGE = Family(
    name="halfdrop_planner_newest_minute_age_seconds", kind="gauge", meaning="since the newest minute of demand ended"
)
LEARNT = Family(
    name="halfdrop_planner_learnt_ratio",
    kind="gauge",
    meaning="how much of the past all forecasters have learnt",
)
LAG = Family(
    name="halfdrop_planner_lag_seconds",
    kind="gauge",
    meaning="from a minute's rows to the last forecast of it",
)
REJECTED = Family(
    name="halfdrop_planner_rows_rejected_total", kind="counter", meaning="rows of demand that could not be true"
)
RESTARTS = Family(
    name="halfdrop_planner_shard_restarts_total", kind="counter", meaning="processes of forecasters that died, replaced"
)
PLANNED = Family(name="halfdrop_planner_planned_replicas", kind="gauge", meaning="GPUs planned for now", labels=POOL)
FLOOR = Family(
    name="halfdrop_planner_reactive_floor_replicas",
    kind="gauge",
    meaning="GPUs that reaction asks for",
    labels=POOL,
)
PLAN_AGE = Family(
    name="halfdrop_planner_plan_age_seconds",
    kind="gauge",
    meaning="since the minute that it was made at",
    labels=POOL,
)
STALE = Family(
    name="halfdrop_planner_plan_stale",
    kind="gauge",
    meaning=f"1 if the plan is older than {STALE_AFTER_S} s: it plans nothing then",
    labels=POOL,
)
FALLBACK = Family(
    name="halfdrop_planner_fallback",
    kind="gauge",
    meaning="1 while the forecast is missing or has been bad, and the reactive floor stands in for it",
    labels=POOL,
)
FORECAST = Family(
    name="halfdrop_planner_forecast_gpus",
    kind="gauge",
    meaning=f"demand {JUDGED_HORIZON} minutes ahead, in GPUs",
    labels=(*POOL, "quantile"),
)
COVERAGE = Family(
    name="halfdrop_planner_coverage_ratio",
    kind="gauge",
    meaning=f"share of the last day's minutes at or under what was forecast {JUDGED_HORIZON} minutes before",
    labels=(*POOL, "quantile"),
)
PINBALL = Family(
    name="halfdrop_planner_pinball_ratio",
    kind="gauge",
    meaning="pinball loss at q0.9 over that of the last value, of the last day",
    labels=POOL,
)
DRIFT = Family(
    name="halfdrop_planner_drift",
    kind="gauge",
    meaning="1 while demand has been on one side of its forecast for longer than chance has it: above, below",
    labels=(*POOL, "state"),
)
WEIGHT = Family(
    name="halfdrop_planner_expert_weight_ratio",
    kind="gauge",
    meaning=f"what the hedge makes of each expert {JUDGED_HORIZON} minutes ahead",
    labels=(*POOL, "expert"),
)
BOOT = Family(
    name="halfdrop_planner_boot_p95_seconds",
    kind="gauge",
    meaning="boot time that a plan looks ahead by",
    labels=POOL,
)
HINDSIGHT = Family(
    name="halfdrop_planner_hindsight_ratio",
    kind="gauge",
    meaning="GPU-hours of the last days over the clairvoyant oracle's: actual (what there was), planned (replayed)",
    labels=(*POOL, "state"),
)

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))


@get("/metrics", include_in_schema=False)
async def get_metrics(request: Request[Any, Any, Any], planner: ThePlanner) -> Response[bytes]:
    """All metrics, in the form that Prometheus or an OpenMetrics reader asks for."""
    data, media_type = encode_metrics(make_registry(partial(read_metrics, planner)), request.headers.get("accept", ""))
    return Response(data, media_type=media_type, headers={"Cache-Control": "no-store"})


def read_metrics(planner: Planner) -> Iterator[Metric]:
    """Yield every family with its present values."""
    yield BUILD.by([((version("halfdrop"),), 1)])
    yield SERIES.of(len(planner.table.series))
    yield AGE.of(planner.age_s())
    yield LEARNT.of(planner.forecasting.learnt_share())
    yield LAG.of(planner.lag_s or 0.0)
    yield REJECTED.of(planner.table.rejected)
    yield RESTARTS.of(sum(shard.restarts for shard in planner.forecasting.shards))
    pools = list(planner.pools.values())
    views = {(pool.terms.region, pool.terms.name): view_plan(planner, pool) for pool in pools}
    plans = {labels: view.planned for labels, view in views.items() if view.planned}
    yield PLANNED.by((labels, plan.replicas) for labels, plan in plans.items())
    yield FLOOR.by((labels, plan.reactive_floor) for labels, plan in plans.items())
    yield PLAN_AGE.by((labels, views[labels].age_s) for labels in plans)
    yield STALE.by((labels, view.is_stale) for labels, view in views.items())
    yield FALLBACK.by((labels, bool(plan.fallback)) for labels, plan in plans.items())
    yield BOOT.by(((pool.terms.region, pool.terms.name), pool.boot_p95_s) for pool in pools)
    yield from _read_forecasts(planner)
    yield HINDSIGHT.by(_read_hindsight(planner))


def _read_forecasts(planner: Planner) -> Iterator[Metric]:
    found: list[tuple[tuple[str, str], HorizonScore, list[float]]] = []
    for pool in planner.pools.values():
        node = planner.forecasting.find(pool.terms.choice)
        if node is None or node.newest is None or JUDGED_HORIZON not in node.newest.horizons:
            continue
        row = node.newest.horizons.index(JUDGED_HORIZON)
        labels = (pool.terms.region, pool.terms.name)
        found.append((labels, node.newest.scores[row], node.newest.quantiles[row].tolist()))
    names = [f"{quantile:g}" for quantile in QUANTILES]
    yield FORECAST.by(
        ((*labels, name), value) for labels, _, values in found for name, value in zip(names, values, strict=True)
    )
    yield COVERAGE.by(
        ((*labels, name), value)
        for labels, score, _ in found
        for name, value in zip(names, score.day.coverage, strict=False)
    )
    yield PINBALL.by((labels, score.day.pinball_ratio) for labels, score, _ in found if score.day.minutes)
    yield DRIFT.by(((*labels, side), score.drift == side) for labels, score, _ in found for side in ("above", "below"))
    yield WEIGHT.by(
        ((*labels, expert), weight) for labels, score, _ in found for expert, weight in score.weights.items()
    )


def _read_hindsight(planner: Planner) -> Iterator[tuple[tuple[str, ...], float]]:
    for pool in planner.pools.values():
        seen = pool.hindsight
        if seen is None or seen.oracle_gpu_hours <= 0:
            continue
        labels = (pool.terms.region, pool.terms.name)
        yield (*labels, "planned"), seen.planned_gpu_hours / seen.oracle_gpu_hours
        if seen.actual_gpu_hours is not None:
            yield (*labels, "actual"), seen.actual_gpu_hours / seen.oracle_gpu_hours


assert QUANTILES[JUDGED_QUANTILE] == 0.9, "the names above say q0.9"
