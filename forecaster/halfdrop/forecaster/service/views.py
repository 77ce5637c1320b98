"""What the API answers, read from the planner: demand in buckets, the fan, the plans, accuracy. Values, no clients."""

import numpy as np
from msgspec import Struct

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.honesty import Verdict
from halfdrop.forecaster.outlook import OUTLOOK_QUANTILES, hourly_means, look_ahead
from halfdrop.forecaster.plan import STALE_AFTER_S
from halfdrop.forecaster.service.buckets import POINTS_MAX, Buckets, as_list, choose_buckets
from halfdrop.forecaster.service.forecasting import JUDGED_HORIZON, Node
from halfdrop.forecaster.service.planner import Hindsight, Planner, Pool
from halfdrop.forecaster.service.planning import Change, Planned
from halfdrop.forecaster.service.pools import PoolTerms
from halfdrop.forecaster.service.series import LATE, OFFERED, REQUESTS, SERVED, WAITS, Choice
from halfdrop.forecaster.service.shards import HorizonScore
from halfdrop.forecaster.service.uplift import uplift_factors
from halfdrop.forecaster.workload import MINUTE_S

DAYS_MAX = 92
PAST_FAN = (0, 2, 5)
"""Places in QUANTILES that are shown of past forecasts: 0.5, 0.9 and 0.99."""

OUTLOOK_HISTORY_MINUTES = 6 * 7 * 1440
Column = list[float | None]


class Scopes(Struct, frozen=True, kw_only=True):
    """What there is to choose from, and how far things are."""

    source: str
    is_live: bool
    now: float
    first: float
    end: float
    age_s: float
    is_stale: bool
    regions: list[str]
    classes: list[str]
    models: list[str]
    series: int
    series_left_out: int
    rows_rejected: int
    learnt_share: float
    pools: list[PoolTerms]
    assumed_pools: list[str]
    """Keys of pools that nobody described: their prices and boots are assumed."""

    revision: int


class PastFan(Struct, frozen=True, kw_only=True):
    """What had been forecast for each bucket, `ahead_minutes` before; means over the bucket."""

    ahead_minutes: int
    quantiles: list[float]
    values: list[Column]


class DemandView(Struct, frozen=True, kw_only=True):
    """Demand of the chosen series, in buckets of `step_s`. GPUs are means: GPU-seconds a second."""

    step_s: int
    t: list[int]
    """Unix seconds at which each bucket begins."""

    mean: Column
    low: Column
    high: Column
    served: Column
    requests: Column
    late: Column
    mean_wait_s: Column
    capacity: Column
    """GPUs that there were, of the whole region; absent where a part of its demand is chosen."""

    planned: Column
    """GPUs that were planned, of the pools that serve exactly what is chosen."""

    fan: PastFan | None
    gaps: int
    """Minutes in the range of which nothing is known."""


class FanView(Struct, frozen=True, kw_only=True):
    """The forecast of the chosen series: minute by minute, then hour by hour."""

    is_ready: bool
    learnt_share: float
    made_at: float
    age_s: float
    is_stale: bool
    quantiles: list[float]
    t: list[float]
    point: Column
    values: list[Column]
    """For each quantile, a value at each of `t`."""

    outlook_quantiles: list[float]
    outlook_t: list[float]
    outlook: list[Column]
    outlook_origins: int
    """Past days that its margin was measured from; 0: a guess."""


class PlanView(Struct, frozen=True, kw_only=True):
    """A pool's plan, its age and its reasons."""

    region: str
    pool: str
    made_at: float
    age_s: float
    is_stale: bool
    planned: Planned | None
    capacity: float | None
    """GPUs that there are, if that is told."""

    demand: float | None
    is_boot_measured: bool
    terms: PoolTerms
    is_assumed: bool
    changes: list[Change]
    hindsight: Hindsight | None
    learnt_share: float
    """Of the pool's past, how much has been learnt; until that is 1 the plan is one of the past."""

    published: str = ""
    """Where it was published last, and when it was not, why."""


class AccuracyView(Struct, frozen=True, kw_only=True):
    """How good the forecasts of the chosen series have been."""

    is_ready: bool
    quantiles: list[float]
    judged_horizon: int
    verdict: Verdict
    scores: tuple[HorizonScore, ...]


class EventView(Struct, frozen=True, kw_only=True):
    """The calendar, and what of it touches the chosen series."""

    events: list[DemandEvent]


def view_scopes(planner: Planner) -> Scopes:
    keys = planner.table.series.keys()
    return Scopes(
        source=planner.source.name,
        is_live=planner.source.is_live,
        now=planner.source.now_s(),
        first=planner.table.first * MINUTE_S,
        end=planner.table.end * MINUTE_S,
        age_s=planner.age_s(),
        is_stale=planner.is_stale,
        regions=sorted({key.region for key in keys}),
        classes=sorted({key.job_class for key in keys}),
        models=sorted({key.model for key in keys}),
        series=len(keys),
        series_left_out=planner.table.left_out,
        rows_rejected=planner.table.rejected,
        learnt_share=planner.forecasting.learnt_share(),
        pools=[pool.terms for pool in planner.pools.values()],
        assumed_pools=[key for key, pool in planner.pools.items() if pool.is_assumed],
        revision=planner.revision,
    )


def view_demand(planner: Planner, choice: Choice, *, start_s: float, end_s: float, points: int) -> DemandView:
    """Return the demand from `start_s` to `end_s`, in at most about `points` buckets."""
    check_range(start_s, end_s, points)
    table = planner.table
    start = max(int(start_s // MINUTE_S), table.end - DAYS_MAX * 1440)
    buckets = choose_buckets(start, max(start + 1, min(-int(-end_s // MINUTE_S), table.end)), points=points)
    seen = table.read(choice, buckets.first, buckets.end)
    offered, served = seen[:, OFFERED] / MINUTE_S, seen[:, SERVED] / MINUTE_S
    requests = buckets.total(seen[:, REQUESTS])
    with np.errstate(divide="ignore", invalid="ignore"):
        waits = buckets.total(seen[:, WAITS]) / requests
    pools = pools_of(planner, choice)
    capacity = np.full(buckets.count, np.nan)
    if not choice.classes and not choice.models:
        capacity = buckets.mean(table.read_pools(choice.regions, buckets.first, buckets.end)[:, 0])
    planned = [pool.planned_minutes.read(buckets.first - 1, buckets.end - 1)[:, 0] for pool in pools]
    return DemandView(
        step_s=buckets.width * MINUTE_S,
        t=buckets.starts_s(),
        mean=as_list(buckets.mean(offered)),
        low=as_list(buckets.low(offered)),
        high=as_list(buckets.high(offered)),
        served=as_list(buckets.mean(served)),
        requests=as_list(requests, digits=0),
        late=as_list(buckets.total(seen[:, LATE]), digits=0),
        mean_wait_s=as_list(np.where(requests > 0, waits, np.nan)),
        capacity=as_list(capacity, digits=2),
        planned=as_list(buckets.mean(np.sum(planned, axis=0)), digits=2) if planned else [None] * buckets.count,
        fan=_past_fan(pools[0], buckets) if len(pools) == 1 else None,
        gaps=int(np.isnan(offered[: table.end - buckets.first]).sum()),
    )


def view_fan(planner: Planner, choice: Choice, *, hours: int) -> FanView:
    """Return the present forecast, with announced events in it, and the outlook for `hours`."""
    node, end = planner.forecasting.find(choice), planner.table.end
    newest = node.newest if node else None
    made_at = 0.0
    t: list[float] = []
    point: Column = []
    values: list[Column] = []
    if newest is not None:
        minute = newest.end_minute - 1
        made_at = float(newest.end_minute * MINUTE_S)
        targets = minute + np.array(newest.horizons)
        factors = uplift_factors(planner.touches(choice), minute, targets)
        t = [made_at + horizon * MINUTE_S for horizon in newest.horizons]
        point = as_list(newest.points * factors)
        values = [as_list(newest.quantiles[:, place] * factors) for place in range(len(QUANTILES))]
    begin = end - OUTLOOK_HISTORY_MINUTES
    hourly, first_hour = hourly_means(planner.table.gpus(choice, begin, end), start_minute=begin)
    outlook = look_ahead(hourly, hours)
    ahead = (first_hour + len(hourly) + np.arange(hours)) * 60 + 30
    factors = uplift_factors(planner.touches(choice), end - 1, ahead)
    return FanView(
        is_ready=newest is not None,
        learnt_share=node.learnt_share(end) if node else 0.0,
        made_at=made_at,
        age_s=max(0.0, planner.source.now_s() - made_at) if newest else 0.0,
        is_stale=planner.is_stale,
        quantiles=list(QUANTILES),
        t=t,
        point=point,
        values=values,
        outlook_quantiles=list(OUTLOOK_QUANTILES),
        outlook_t=(ahead * MINUTE_S).astype(float).tolist(),
        outlook=[as_list(outlook.quantiles[:, place] * factors) for place in range(len(OUTLOOK_QUANTILES))],
        outlook_origins=outlook.origins,
    )


def view_plan(planner: Planner, pool: Pool) -> PlanView:
    """Return a pool's plan."""
    table, end = planner.table, planner.table.end
    last = table.read_pools((pool.terms.region,), end - 1, end)[0, 0] if end else np.nan
    demand = table.gpus(pool.terms.choice, end - 1, end)[0] if end else np.nan
    planned = pool.planned
    node = planner.forecasting.find(pool.terms.choice)
    made_at = (planned.minute + 1) * MINUTE_S if planned else 0.0
    age_s = max(0.0, planner.source.now_s() - made_at) if planned else 0.0
    return PlanView(
        region=pool.terms.region,
        pool=pool.terms.name,
        made_at=made_at,
        age_s=age_s,
        is_stale=planned is None or age_s > STALE_AFTER_S,
        planned=planned,
        capacity=None if np.isnan(last) else float(last),
        demand=None if np.isnan(demand) else round(float(demand), 3),
        is_boot_measured=pool.are_boots_measured,
        terms=pool.terms,
        is_assumed=pool.is_assumed,
        changes=list(reversed(pool.book.changes)),
        learnt_share=node.learnt_share(end) if node else 0.0,
        hindsight=pool.hindsight,
        published=pool.published,
    )


def view_accuracy(planner: Planner, choice: Choice) -> AccuracyView:
    """Return how good the forecasts of the chosen series have been."""
    node: Node | None = planner.forecasting.find(choice)
    newest = node.newest if node else None
    return AccuracyView(
        is_ready=newest is not None,
        quantiles=list(QUANTILES),
        judged_horizon=JUDGED_HORIZON,
        verdict=newest.verdict if newest else Verdict(is_good=True),
        scores=newest.scores if newest else (),
    )


def pools_of(planner: Planner, choice: Choice) -> list[Pool]:
    """Return the pools that together serve exactly the chosen series, or none."""
    exact = [pool for pool in planner.pools.values() if pool.terms.choice == choice]
    if exact:
        return exact
    if choice.classes or choice.models:
        keys = set(planner.table.keys(choice))
        return [pool for pool in planner.pools.values() if set(planner.table.keys(pool.terms.choice)) == keys]
    return [pool for pool in planner.pools.values() if not choice.regions or pool.terms.region in choice.regions]


def check_range(start_s: float, end_s: float, points: int) -> None:
    """Raise InvalidInput for a range that is none."""
    if not 0 <= start_s < end_s <= 4_102_444_800:
        raise InvalidInput("from, to", got=f"{start_s}, {end_s}", allowed="Unix seconds, from before to")
    if not 10 <= points <= POINTS_MAX:
        raise InvalidInput("points", got=points, allowed=f"10 to {POINTS_MAX}")


def _past_fan(pool: Pool, buckets: Buckets) -> PastFan | None:
    ahead = JUDGED_HORIZON
    if pool.record is None or ahead not in pool.horizons:
        return None
    shape = (buckets.end - buckets.first, len(pool.horizons), len(QUANTILES))
    made = pool.record.read(buckets.first - ahead, buckets.end - ahead).reshape(shape)
    at = made[:, pool.horizons.index(ahead)]
    return PastFan(
        ahead_minutes=ahead,
        quantiles=[QUANTILES[place] for place in PAST_FAN],
        values=[as_list(buckets.mean(at[:, place])) for place in PAST_FAN],
    )
