"""What a pool has cost this month, and what the month will come to."""

from datetime import UTC, datetime

import numpy as np
from msgspec import Struct

from halfdrop.forecaster.outlook import hourly_means, look_ahead
from halfdrop.forecaster.service.planner import Planner, Pool
from halfdrop.forecaster.workload import MINUTE_S, FloatArray

HISTORY_MINUTES = 42 * 1440
RATIO_MINUTES = 7 * 1440
UNKNOWN_RATIO = 1.5
"""GPUs for each GPU of work, where neither capacity nor a plan is known: a third of them idle."""


class SpendDay(Struct, frozen=True, kw_only=True):
    """One day of the month; sums since its beginning."""

    t: float
    """Its end, or now."""

    spent: float | None
    expected: float
    low: float
    high: float


class SpendView(Struct, frozen=True, kw_only=True):
    """The month of one pool. Low and high are as if every hour to come were at its own 10 % or 90 %."""

    region: str
    pool: str
    currency: str
    price_per_hour: float
    """Of a GPU-hour, spot and on demand together."""

    is_assumed: bool
    month_start: float
    month_end: float
    spent: float
    expected: float
    low: float
    high: float
    known_share: float
    """Of the minutes of this month so far, those of which capacity was told; for the others the plan stands in, or the
    work with what is idle on average."""

    days: list[SpendDay]


def view_spend(planner: Planner, pool: Pool) -> SpendView:
    """Return the pool's month."""
    table, end = planner.table, planner.table.end
    now = datetime.fromtimestamp(max(end - 1, 0) * MINUTE_S, UTC)
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    after = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    first, last = (int(moment.timestamp()) // MINUTE_S for moment in (month, after))
    price = pool.terms.mixed_price / 60
    begin = min(first, end - RATIO_MINUTES)
    replicas, is_told = _replicas(planner, pool, begin, end)
    demand = table.gpus(pool.terms.choice, end - HISTORY_MINUTES, end)
    recent = demand[-min(RATIO_MINUTES, len(demand)) :]
    is_known = ~np.isnan(recent) & ~np.isnan(replicas[-len(recent) :])
    work = float(recent[is_known].sum())
    ratio = float(replicas[-len(recent) :][is_known].sum()) / work if work > 0 else UNKNOWN_RATIO
    paid = np.nan_to_num(np.where(np.isnan(replicas), table.gpus(pool.terms.choice, begin, end) * ratio, replicas))
    so_far = np.cumsum(paid[first - begin :]) * price
    spent = float(so_far[-1]) if len(so_far) else 0.0
    hourly, _ = hourly_means(demand, start_minute=end - HISTORY_MINUTES)
    hours = max(0, -(-(last - end) // 60))
    outlook = look_ahead(hourly, hours) if hours else None
    ahead = np.zeros((hours, 3)) if outlook is None else outlook.quantiles * ratio * price * 60
    ahead = np.maximum(ahead, pool.terms.policy.replicas_min * price * 60)
    coming = spent + np.cumsum(ahead, axis=0)
    total = coming[-1] if hours else np.full(3, spent)
    return SpendView(
        region=pool.terms.region,
        pool=pool.terms.name,
        currency=pool.terms.currency,
        price_per_hour=pool.terms.mixed_price,
        is_assumed=pool.is_assumed,
        month_start=month.timestamp(),
        month_end=after.timestamp(),
        spent=spent,
        low=float(total[0]),
        expected=float(total[1]),
        high=float(total[2]),
        known_share=float(is_told[first - begin :].mean()) if end > first else 0.0,
        days=_days(first, end, last, so_far, coming),
    )


def _replicas(planner: Planner, pool: Pool, begin: int, end: int) -> tuple[FloatArray, np.ndarray]:
    """Return the GPUs that were paid in [begin, end), and where that was told rather than planned."""
    told = planner.table.read_pools((pool.terms.region,), begin, end)[:, 0].astype(np.float64)
    if pool.terms.classes or pool.terms.models:
        told[:] = np.nan  # of the region; this pool is a part of it
    planned = pool.planned_minutes.read(begin - 1, end - 1)[:, 0].astype(np.float64)
    return np.where(np.isnan(told), planned, told), ~np.isnan(told)


def _days(first: int, end: int, last: int, so_far: FloatArray, coming: FloatArray) -> list[SpendDay]:
    days = []
    for day_end in range(first + 1440, last + 1, 1440):
        if day_end <= end:
            spent = float(so_far[day_end - first - 1])
            days.append(SpendDay(t=float(day_end * MINUTE_S), spent=spent, expected=spent, low=spent, high=spent))
            continue
        if day_end - 1440 < end:
            now = float(so_far[-1]) if len(so_far) else 0.0
            days.append(SpendDay(t=float(end * MINUTE_S), spent=now, expected=now, low=now, high=now))
        hour = min(max(0, (day_end - end) // 60), len(coming) - 1)
        low, expected, high = coming[hour].tolist()
        days.append(SpendDay(t=float(day_end * MINUTE_S), spent=None, expected=expected, low=low, high=high))
    return days
