"""What is remembered of a pool between two looks: in memory while the operator runs, in the status over a restart."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from halfdrop.operator.boots import BootTimes
from halfdrop.operator.cluster import Object
from halfdrop.operator.spending import PoolCost, Spend
from halfdrop.operator.stepping import DecisionMemory

T = TypeVar("T", bound=Struct)


class Condition(Struct, frozen=True, kw_only=True, rename="camel"):
    """One of Kubernetes' conditions."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int = 0


class PoolRecord(Struct, frozen=True, kw_only=True):
    """One pool, as it was left."""

    memory: DecisionMemory = DecisionMemory()
    boot: BootTimes = BootTimes()
    spend: Spend = Spend()
    conditions: dict[str, Condition] = msgspec.field(default_factory=dict)
    policy: str = ""
    replicas: int = 0
    ready: int | None = None
    floor: int | None = None
    cost_per_replica_hour: float = 1.0
    written: dict[str, Any] = msgspec.field(default_factory=dict)
    """The status that was last written; empty: none since the start."""

    written_at: float = 0.0

    @property
    def cost(self) -> PoolCost:
        """What it costs: the replicas that there are, or that are planned."""
        replicas = max(self.replicas, self.memory.replicas or 0)
        return PoolCost(per_hour=replicas * self.cost_per_replica_hour, this_month=self.spend.amount)


def read_record(body: Object) -> PoolRecord:
    """Return what a pool's status says of the time before this start; what cannot be read there is begun anew."""
    status = body.get("status") or {}
    conditions = [found for one in status.get("conditions") or () if (found := _read(one, Condition)) is not None]
    return PoolRecord(
        memory=_read(status.get("decision"), DecisionMemory) or DecisionMemory(),
        boot=_read(status.get("boot"), BootTimes) or BootTimes(),
        spend=_read(status.get("spend"), Spend) or Spend(),
        conditions={condition.type: condition for condition in conditions},
        policy=status.get("policy") or "",
        replicas=status.get("currentReplicas") or 0,
        floor=status.get("floor"),
    )


def _read(value: Any, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(dict(value), kind) if value else None
    except (msgspec.ValidationError, TypeError, ValueError):
        return None
