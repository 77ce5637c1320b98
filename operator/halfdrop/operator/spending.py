"""What replicas cost, and what a policy's budget leaves for one of its pools. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct

from halfdrop.operator.deciding import BudgetLeft
from halfdrop.operator.policies import Budget

HOUR_S = 3600.0


class Spend(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a pool cost in one calendar month; kept in its status."""

    month: str = ""
    """Such as 2026-11, in UTC."""

    amount: float = 0.0
    at: float = 0.0
    """Unix seconds up to which it is reckoned."""


class PoolCost(Struct, frozen=True, kw_only=True):
    """What one of a policy's pools costs: in an hour as it is now, and in this month so far."""

    per_hour: float
    this_month: float


def add_spend(spend: Spend, *, replicas: int, cost_per_replica_hour: float, now: float) -> Spend:
    """Return the spend up to `now`, if there were `replicas` since it was last reckoned; a new month begins at 0."""
    month = f"{datetime.fromtimestamp(now, UTC):%Y-%m}"
    if not spend.month:
        return Spend(month=month, at=now)
    since = spend.at
    amount = spend.amount
    if month != spend.month:
        began = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        since, amount = max(since, began.timestamp()), 0.0
    amount += max(0.0, now - since) / HOUR_S * max(0, replicas) * cost_per_replica_hour
    return Spend(month=month, amount=amount, at=max(now, spend.at))


def budget_left(budget: Budget, *, own: PoolCost, others: Iterable[PoolCost]) -> BudgetLeft:
    """Return what a pool may have, beside what the policy's `others` have and all of them have spent."""
    rest = list(others)
    hour, month = budget.per_hour, budget.per_month
    return BudgetLeft(
        per_hour=None if hour is None else hour - sum(cost.per_hour for cost in rest),
        per_month=None if month is None else month - own.this_month - sum(cost.this_month for cost in rest),
    )
