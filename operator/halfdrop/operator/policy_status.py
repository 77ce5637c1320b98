"""What is told of a CapacityPolicy and of a DemandEvent: one condition each, and the figures over a policy's pools."""

from typing import Any

import msgspec

from halfdrop.contracts.demand_events import check_event, events_announced
from halfdrop.contracts.errors import HalfdropError, InvalidInput
from halfdrop.contracts.plans import AnnouncedDemand
from halfdrop.operator.cluster import CAPACITY_POLICY, DEMAND_EVENT, Object
from halfdrop.operator.governing import read_policy, read_spec
from halfdrop.operator.policies import DemandEventSpec
from halfdrop.operator.reconciling import Operator
from halfdrop.operator.records import read_record
from halfdrop.operator.reporting import Notice, update_conditions


async def report_policy(operator: Operator, body: Object) -> list[Notice]:
    """Write the policy's status if it changed; return what is to be told. Raises Unavailable, PermanentError."""
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    records = [record for key, record in operator.records.items() if key[0] == namespace and record.policy == name]
    figures = {
        "pools": len(records),
        "plannedReplicas": sum(record.memory.replicas or 0 for record in records),
        "spentThisMonth": round(sum(record.spend.amount for record in records), 2),
    }
    return await _write(operator, CAPACITY_POLICY, body, _activity(body), figures)


async def publish_event(operator: Operator, body: Object) -> list[Notice]:
    """Tell the forecaster of a DemandEvent, and its status of that. Raises Unavailable after writing why not."""
    spec = read_spec(body, DemandEventSpec)
    demand = AnnouncedDemand(
        name=body["metadata"]["name"],
        kind=spec.kind,
        regions=spec.regions,
        pools=spec.pools,
        job_classes=spec.job_classes,
        starts_at=spec.starts_at.timestamp(),
        ends_at=spec.ends_at.timestamp(),
        uplift=spec.uplift,
        ramp_s=float(spec.ramp_seconds),
        note=spec.note,
    )
    try:
        for event in events_announced(event_key(body), demand):
            check_event(event)
    except InvalidInput as error:
        # Only an API server without our rules lets it through. Whatever was told before is no longer so.
        await operator.demand.announce(event_key(body), None)
        return await _write(operator, DEMAND_EVENT, body, ("Published", "False", "Invalid", str(error)), {})
    try:
        await operator.demand.announce(event_key(body), demand)
    except HalfdropError as error:
        await _write(operator, DEMAND_EVENT, body, ("Published", "False", "NotTold", str(error)), {})
        raise
    return await _write(operator, DEMAND_EVENT, body, ("Published", "True", "Told", "the forecaster was told"), {})


async def withdraw_event(operator: Operator, body: Object) -> None:
    """Tell the forecaster that a campaign is off. Raises Unavailable."""
    await operator.demand.announce(event_key(body), None)


def event_key(body: Object) -> str:
    """Key of a DemandEvent in DEMAND_EVENTS."""
    return f"{body['metadata']['namespace']}.{body['metadata']['name']}"


def _activity(body: Object) -> tuple[str, str, str, str]:
    try:
        policy = read_policy(body)
    except InvalidInput as error:
        return ("Active", "False", "Invalid", f"{error}; its pools stay as they are")
    if policy.spec.paused:
        return ("Active", "False", "Paused", "what was raised is given back")
    if policy.spec.dry_run:
        return ("Active", "False", "DryRun", "decisions are told in the pools' status, and nothing is changed")
    return ("Active", "True", "Active", "the pools' floors follow this policy")


async def _write(
    operator: Operator, resource: Any, body: Object, row: tuple[str, str, str, str], figures: dict[str, Any]
) -> list[Notice]:
    meta = body["metadata"]
    generation = meta.get("generation", 0)
    known = read_record(body).conditions
    conditions, notices = update_conditions(known, [row], generation=generation, now=operator.clock())
    status = {
        "observedGeneration": generation,
        **figures,
        "conditions": [msgspec.to_builtins(condition) for condition in conditions.values()],
    }
    if status != (body.get("status") or {}):
        await operator.cluster.patch(resource.Status, meta["namespace"], meta["name"], {"status": status})
    return notices
