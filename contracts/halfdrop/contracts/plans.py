"""What the forecaster tells the operator: how much work each pool will be asked for, and what people know of it.

A plan is a table of quantiles over the coming minutes. Its unit is busy slots: the mean number of jobs that are being
worked on at once, which is the GPU-seconds offered in a second where a job takes a whole GPU. How many replicas that
makes is the operator's business, for it knows how many jobs a replica takes. Plans lie in a key-value bucket on the
hub's server, the newest of each pool under `plan_key`; nothing but the newest counts.
"""

import math
from itertools import pairwise
from typing import Literal

import msgspec

from halfdrop.contracts.jobs import JobClass

PLANS_BUCKET = "PLANS"
"""On the hub's server, key-value: the newest plan of each pool."""

DEMAND_EVENTS_BUCKET = "DEMAND_EVENTS"
"""On the hub's server, key-value: the campaigns that people announced, for the forecaster to read: the operator's
as `AnnouncedDemand`, all others as `demand_events.DemandEvent`."""

DEMAND_EVENTS_KEPT_S = 400 * 86_400.0
"""A campaign is kept for longer than a year: next year's may be learnt from it."""

STEPS_MAX = 2880
"""Two days of minutes."""

QUANTILES_MAX = 32
FUTURE_MAX_S = 60.0
"""Clocks differ; a plan from further ahead than this is not believed."""

BUSY_MAX = 1e9
"""More slots than there are on earth: a number above is a mistake, not a forecast."""


class DemandSeries(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one class of jobs, or of all of them together."""

    job_class: JobClass | Literal["all"] = "all"
    busy: tuple[tuple[float, ...], ...]
    """busy[step][quantile]: busy slots on average during the step."""

    capacity: tuple[float, ...] = ()
    """capacity[step]: slots to have, by `capacity_for`; empty: the forecaster does not say."""


class CapacityFor(msgspec.Struct, frozen=True, kw_only=True):
    """By what the capacity of a plan was chosen."""

    late_share: float | None = None
    """The share of late jobs that the price of lateness is steered to; None: the price stands, or has no say."""

    quantile: float | None = None
    """Of demand, where the pool's own policy states one."""

    price: float
    """What a second of late work costs, against a second of an idle slot."""


class DemandPlan(msgspec.Struct, frozen=True, kw_only=True, tag="plan.v1"):
    """What one pool is expected to be asked for, from `starts_at` on."""

    region: str
    pool: str
    made_at: float
    """Unix seconds at the forecaster; from this its age is reckoned."""

    starts_at: float
    """Unix seconds at which the first step begins."""

    step_s: float = 60.0
    quantiles: tuple[float, ...]
    """Rising, each between 0 and 1, such as 0.5, 0.9, 0.99."""

    series: tuple[DemandSeries, ...]
    """`all`, or one for each class, or both: quantiles of a sum are not the sum of quantiles."""

    note: str = ""
    """Why this is no forecast but what was busy of late, if so: it is missing, or has been bad."""

    capacity_for: CapacityFor | None = None
    """By what `capacity` of the series was chosen; None: they have none."""


class AnnouncedDemand(msgspec.Struct, frozen=True, kw_only=True, tag="announced.v1"):
    """A campaign or a product drop: people know of it before any series shows it."""

    name: str
    regions: tuple[str, ...] = ()
    """Empty: all."""

    pools: tuple[str, ...] = ()
    """Empty: all."""

    job_classes: tuple[JobClass, ...] = ()
    """Empty: all."""

    starts_at: float
    ends_at: float
    uplift: float
    """Times the demand that there would be without it: 3 is three times as much."""

    ramp_s: float = 0.0
    """Seconds from the start until the uplift is reached in full."""

    note: str = ""
    kind: str = "campaign"
    """Events of one kind are alike: the uplift of the next is learnt from the last ones."""


def plan_key(region: str, pool: str) -> str:
    """Key of a pool's plan in PLANS."""
    return f"{region}.{pool}"


def find_absurdity(plan: DemandPlan, *, now: float) -> str:
    """Return what makes the plan unbelievable, in words, or "" if nothing does. `now`: Unix seconds."""
    if not (math.isfinite(plan.made_at) and math.isfinite(plan.starts_at)):
        return "its times are no numbers"
    if plan.made_at > now + FUTURE_MAX_S:
        return f"it was made {plan.made_at - now:.0f} s in the future"
    if not (math.isfinite(plan.step_s) and 1 <= plan.step_s <= 86_400):
        return f"its step is {plan.step_s} s; allowed: 1 to 86400"
    rises = all(low < high for low, high in pairwise((0.0, *plan.quantiles, 1.0)))
    if not 1 <= len(plan.quantiles) <= QUANTILES_MAX or not rises:
        return f"its quantiles are {list(plan.quantiles)[:4]}; allowed: 1 to {QUANTILES_MAX} that rise between 0 and 1"
    if not plan.series:
        return "it holds no series"
    return next((reason for series in plan.series if (reason := _series_absurdity(plan, series))), "")


def _series_absurdity(plan: DemandPlan, series: DemandSeries) -> str:
    name = f"series {series.job_class!r}"
    if not 1 <= len(series.busy) <= STEPS_MAX:
        return f"{name} has {len(series.busy)} steps; allowed: 1 to {STEPS_MAX}"
    if absurdity := _capacity_absurdity(plan, series):
        return f"{name} {absurdity}"
    for step, row in enumerate(series.busy):
        if len(row) != len(plan.quantiles):
            return f"{name}, step {step} has {len(row)} values for {len(plan.quantiles)} quantiles"
        if not all(0 <= value <= BUSY_MAX for value in row):
            return f"{name}, step {step} holds a value that is no demand: {list(row)[:4]}"
    return ""


def _capacity_absurdity(plan: DemandPlan, series: DemandSeries) -> str:
    if series.capacity and len(series.capacity) != len(series.busy):
        return f"has capacity for {len(series.capacity)} of {len(series.busy)} steps"
    if not all(0 <= slots <= BUSY_MAX for slots in series.capacity):
        return f"holds a capacity that is none: {list(series.capacity)[:4]}"
    if plan.capacity_for is not None and not 0 < plan.capacity_for.price < math.inf:
        return f"was chosen at a price of lateness of {plan.capacity_for.price}"
    return ""


def encode_plan(plan: DemandPlan) -> bytes:
    """Return the JSON form of a plan: readable with the nats command line."""
    return msgspec.json.encode(plan)


def decode_plan(data: bytes) -> DemandPlan:
    """Return the plan in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.json.decode(data, type=DemandPlan)


def encode_announced(demand: AnnouncedDemand) -> bytes:
    """Return the JSON form of announced demand."""
    return msgspec.json.encode(demand)


def decode_announced(data: bytes) -> AnnouncedDemand:
    """Return the announced demand in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.json.decode(data, type=AnnouncedDemand)
