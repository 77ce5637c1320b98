"""What is told of a pool: its status with conditions, and the Events that say what changed and why."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from halfdrop.operator.cluster import GPU_POOL, Cluster, Object
from halfdrop.operator.deciding import ScalingDecision
from halfdrop.operator.observing import PoolView
from halfdrop.operator.records import Condition, PoolRecord

REPORT_EVERY_S = 60.0
"""Figures that creep, such as the spend, are written so often; what changes is written at once."""

MESSAGE_MAX_CHARS = 1000
CREEPING = ("decision", "spend", "message")


class Notice(Struct, frozen=True, kw_only=True):
    """An Event to be: what happened to a pool, for whoever runs `kubectl describe`."""

    type: Literal["Normal", "Warning"] = "Normal"
    reason: str
    message: str


class Applied(Struct, frozen=True, kw_only=True):
    """What became of a decision at the target."""

    status: Literal["True", "False"]
    reason: str
    message: str
    floor: int | None = None
    """What the target is asked for now, if it is known."""

    notices: tuple[Notice, ...] = ()


def conditions_of(
    record: PoolRecord, *, view: PoolView, decision: ScalingDecision, applied: Applied, generation: int, now: float
) -> tuple[dict[str, Condition], list[Notice]]:
    """Return the pool's conditions, and a notice for each that changed since it was last told."""
    seen = view.state is not None
    followed = not decision.plan_problem
    rows = [
        (
            "Observed",
            "True" if seen else "False",
            "TargetRead" if seen else "NoObservation",
            view.problem or "all is seen",
        ),
        ("Planned", "True" if followed else "False", decision.plan_reason, decision.plan_problem or decision.message),
        ("Applied", applied.status, applied.reason, applied.message),
    ]
    return update_conditions(record.conditions, rows, generation=generation, now=now)


def update_conditions(
    known: dict[str, Condition], rows: list[tuple[str, str, str, str]], *, generation: int, now: float
) -> tuple[dict[str, Condition], list[Notice]]:
    """Return conditions of (type, status, reason, message), and notices of those that turned."""
    updated: dict[str, Condition] = {}
    notices = []
    for kind, status, reason, message in rows:
        before = known.get(kind)
        turned = before is None or before.status != status
        updated[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message[:MESSAGE_MAX_CHARS],
            last_transition_time=rfc3339(now) if before is None or turned else before.last_transition_time,
            observed_generation=generation,
        )
        is_news = status == "False" if before is None else turned or (status == "False" and before.reason != reason)
        if is_news:
            type_: Literal["Normal", "Warning"] = "Normal" if status == "True" else "Warning"
            notices.append(Notice(type=type_, reason=reason, message=message[:MESSAGE_MAX_CHARS]))
    return updated, notices


def compose_status(
    record: PoolRecord,
    *,
    view: PoolView | None,
    decision: ScalingDecision | None,
    message: str,
    reason: str,
    generation: int,
) -> dict[str, Any]:
    """Return the status in the API's form. Without a decision the pool is left alone, and its plan is taken out."""
    state = None if view is None else view.state
    own = None if state is None else state.own_floor
    return {
        "observedGeneration": generation,
        "policy": record.policy,
        "currentReplicas": record.replicas,
        "readyReplicas": record.ready,
        "floor": record.floor,
        "ownFloor": own,
        "plannedReplicas": None if decision is None else decision.replicas,
        "reactiveFloor": None if decision is None else decision.reactive_floor,
        "reason": reason,
        "message": message[:MESSAGE_MAX_CHARS],
        "boot": {name: value for name, value in msgspec.to_builtins(record.boot).items() if value is not None},
        "decision": msgspec.to_builtins(record.memory),
        "spend": msgspec.to_builtins(record.spend),
        "conditions": [msgspec.to_builtins(condition) for condition in record.conditions.values()],
    }


async def write_status(
    cluster: Cluster, namespace: str, name: str, record: PoolRecord, status: dict[str, Any], *, now: float
) -> PoolRecord:
    """Write the status if it says anything new, and return the record with what was written."""
    is_due = not 0 <= now - record.written_at < REPORT_EVERY_S
    if not is_due and _settled(status) == _settled(record.written):
        return record
    await cluster.patch(GPU_POOL.Status, namespace, name, {"status": status})
    return msgspec.structs.replace(record, written=status, written_at=now)


def rfc3339(now: float) -> str:
    """Return a Unix second as the API writes it."""
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _settled(status: Object) -> Object:
    """The status without what creeps: a countdown in words is no news."""
    rest = {name: value for name, value in status.items() if name not in CREEPING}
    rest["conditions"] = [
        {key: value for key, value in condition.items() if key != "message"}
        for condition in status.get("conditions", ())
    ]
    return rest
