"""What people write into a CapacityPolicy, a GPUPool and a DemandEvent, as values; the CRDs say the same to the API.

The defaults stand in both places on purpose: the API fills them in for whoever reads the object, these for whoever
builds the value. A test compares the two.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.subjects import LOCAL_REGION

Count = Annotated[int, Meta(ge=0, le=100_000)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]
TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

Capacity = Literal["OnDemand", "Spot"]
"""Nodes that stay, or nodes that the provider may take back."""

ALL_CLASSES: tuple[JobClass, ...] = ("realtime", "standard", "bulk")


class Costs(Struct, frozen=True, kw_only=True, rename="camel"):
    """What being wrong costs, in one currency: the quantile follows from the two (the newsvendor's)."""

    idle_replica_minute: Annotated[float, Meta(gt=0)]
    late_replica_minute: Annotated[float, Meta(gt=0)]
    """A minute of work that waits because a replica was missing."""


class Objective(Struct, frozen=True, kw_only=True, rename="camel"):
    """How sure to be: one of the three. Without any, the capacity that the plan says is cheapest at its price of
    lateness; where it says none, the quantile 0.99, which held on every trace that was tried."""

    quantile: Annotated[float, Meta(gt=0, lt=1)] | None = None
    late_share: Annotated[float, Meta(gt=0, lt=1)] | None = None
    costs: Costs | None = None


class Budget(Struct, frozen=True, kw_only=True, rename="camel"):
    """Bounds in the currency of the pools' costPerReplicaHour, over all pools of the policy."""

    per_hour: Annotated[float, Meta(ge=0)] | None = None
    per_month: Annotated[float, Meta(ge=0)] | None = None
    """Of a calendar month, in UTC."""


class Prewarm(Struct, frozen=True, kw_only=True, rename="camel"):
    """How far ahead to look."""

    lead_seconds: Seconds | None = None
    """None: the pool's own boot time, p95 as measured."""

    stagger_seconds: Seconds = 0
    """Pools look up to so much further ahead, each by its own part: they do not boot all at once, and none is late."""


class ScaleDown(Struct, frozen=True, kw_only=True, rename="camel"):
    """When to give up what is warm: late, and in one go."""

    hysteresis: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """A floor that is too high by less than this share stays."""

    cooldown_seconds: Seconds = 600
    """So long it must have been too high, and so long the last change must be past."""


class Ramp(Struct, frozen=True, kw_only=True, rename="camel"):
    """At most so many replicas more within so many seconds, for what is only forecast."""

    replicas: Annotated[int, Meta(ge=1, le=100_000)]
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 60


class Reactive(Struct, frozen=True, kw_only=True, rename="camel"):
    """The floor that observation alone asks for, whatever is forecast."""

    jobs_per_slot: Annotated[float, Meta(ge=0.1, le=1000)] = 4.0
    """Jobs waiting or in hand that one slot of a replica may have before there must be more replicas."""


class Schedule(Struct, frozen=True, kw_only=True, rename="camel"):
    """Other bounds on some days between two times of day; until before from goes past midnight."""

    name: str
    time_zone: str = "UTC"
    days: tuple[Day, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    from_: TimeOfDay = field(name="from")
    until: TimeOfDay
    min_replicas: Count | None = None
    max_replicas: Count | None = None


class Freeze(Struct, frozen=True, kw_only=True, rename="camel"):
    """A time in which the operator changes nothing, or lowers nothing."""

    name: str
    from_: datetime = field(name="from")
    until: datetime
    mode: Literal["Hold", "RaiseOnly"] = "Hold"


class Fallback(Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds while there is no plan to be believed."""

    mode: Literal["Reactive", "Hold"] = "Reactive"
    """Reactive: the minimum and what observation asks for. Hold: as well what was last decided."""

    stale_after_seconds: Annotated[int, Meta(ge=30, le=86_400)] = 300
    min_replicas: Count = 0
    """At least so many while there is no plan."""


class Spot(Struct, frozen=True, kw_only=True, rename="camel"):
    """How a plan is split between a pool of spot nodes and one of nodes that stay, which both follow it."""

    max_share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    min_on_demand: Count = 1
    """So many are on nodes that stay, if so many are planned at all."""


class PoolSelector(Struct, frozen=True, kw_only=True, rename="camel"):
    match_labels: dict[str, str] = field(default_factory=dict)


class CapacityPolicySpec(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one policy asks of its pools; minimum and maximum are each pool's, the budget is for all of them."""

    pools: tuple[str, ...] = ()
    pool_selector: PoolSelector | None = None
    job_classes: tuple[JobClass, ...] = ALL_CLASSES
    paused: bool = False
    dry_run: bool = False
    min_replicas: Count = 0
    max_replicas: Count
    objective: Objective = Objective()
    budget: Budget = Budget()
    prewarm: Prewarm = Prewarm()
    scale_down: ScaleDown = ScaleDown()
    ramp: Ramp | None = None
    reactive: Reactive = Reactive()
    schedules: tuple[Schedule, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    fallback: Fallback = Fallback()
    spot: Spot | None = None


class TargetKind(StrEnum):
    HPA = "HorizontalPodAutoscaler"
    SCALED_OBJECT = "ScaledObject"
    DEPLOYMENT = "Deployment"
    CAPACITY_BUFFER = "CapacityBuffer"
    PLACEHOLDERS = "PlaceholderDeployment"

    @property
    def is_headroom(self) -> bool:
        """True if its replicas are room beside the workload, not the workload itself."""
        return self in (TargetKind.CAPACITY_BUFFER, TargetKind.PLACEHOLDERS)


class Target(Struct, frozen=True, kw_only=True, rename="camel"):
    """What holds the pool's floor, in the pool's namespace."""

    kind: TargetKind
    name: str
    workload: str = ""
    """For room beside a workload: the Deployment whose replicas already fill a part of it."""


class Device(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a replica runs on; told, not acted on."""

    class_: str = field(name="class", default="")
    mig_profile: str = ""


class GPUPoolSpec(Struct, frozen=True, kw_only=True, rename="camel"):
    """A set of equal replicas behind one target."""

    target: Target
    region: str = LOCAL_REGION
    plan: str = ""
    """Name of its plan in PLANS; empty: the pool's own."""

    device: Device = Device()
    capacity: Capacity = "OnDemand"
    jobs_per_replica: Annotated[int, Meta(ge=1, le=1024)] = 1
    boot_seconds_assumed: Annotated[int, Meta(ge=1, le=3600)] = 480
    """Until its own are measured: as long as the slowest that was seen takes."""

    cost_per_replica_hour: Annotated[float, Meta(ge=0)] = 1.0


class DemandEventSpec(Struct, frozen=True, kw_only=True, rename="camel"):
    """A campaign: when, and how many times the usual demand."""

    starts_at: datetime
    ends_at: datetime
    uplift: Annotated[float, Meta(gt=0, le=1000)]
    kind: str = "campaign"
    ramp_seconds: Seconds = 0
    regions: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    job_classes: tuple[JobClass, ...] = ()
    note: str = ""
