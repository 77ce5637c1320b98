"""One look at one pool: observe, decide, apply, tell. The same code for the timer, a changed policy and a deletion.

Nothing that is away ends it: what could not be seen is a condition, and the next look is soon. Only a `Conflict`, for
which looking again at once is right, is tried again here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec
import structlog

from halfdrop.contracts.errors import HalfdropError, NotFound, PermanentError
from halfdrop.operator.cluster import Cluster, Conflict, Object
from halfdrop.operator.deciding import PoolFacts, ScalingDecision, decide_replicas
from halfdrop.operator.demand import DemandSource
from halfdrop.operator.governing import Policy, governing_policy, read_spec
from halfdrop.operator.metrics import Tally
from halfdrop.operator.observing import PoolView, observe_boots, observe_pool
from halfdrop.operator.policies import GPUPoolSpec
from halfdrop.operator.records import PoolRecord, read_record
from halfdrop.operator.reporting import Applied, Notice, compose_status, conditions_of, update_conditions, write_status
from halfdrop.operator.spending import PoolCost, add_spend, budget_left
from halfdrop.operator.splitting import Part, find_part
from halfdrop.operator.targets import find_rival, give_back, raise_floor, read_target

log = structlog.get_logger()

CONFLICTS_MAX = 4
"""Looks at a pool whose target somebody else keeps changing, before it is left until the next time."""

LOOKS_MAX = 16
"""Looks at the same time: after a start all pools are due at once, and the API is not ours alone."""

Key = tuple[str, str]
"""Namespace and name of a pool."""


class Operator:
    """What the handlers share: the way to the cluster and to demand, and what is remembered of each pool."""

    def __init__(
        self, *, cluster: Cluster, demand: DemandSource, tally: Tally, clock: Callable[[], float] = time.time
    ) -> None:
        self.cluster = cluster
        self.demand = demand
        self.tally = tally
        self.clock = clock
        self.records: dict[Key, PoolRecord] = {}
        self.looks = asyncio.Semaphore(LOOKS_MAX)
        self._locks: dict[Key, asyncio.Lock] = {}

    def lock(self, key: Key) -> asyncio.Lock:
        """Return the lock of a pool: a timer and a changed policy may want to look at once."""
        return self._locks.setdefault(key, asyncio.Lock())

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a pool that is gone."""
        self.tally.forget(key)
        self.records.pop(key, None)
        self._locks.pop(key, None)


async def reconcile_pool(
    operator: Operator,
    body: Object,
    policies: Iterable[Policy],
    *,
    pools: Iterable[Object] = (),
    has_broken_policy: bool = False,
) -> list[Notice]:
    """Bring a pool's floor to where it should be, and return what is to be told of it.

    pools: all of the namespace, for a plan may be split between two. has_broken_policy: one of the namespace's policies
    cannot be read, so a pool without a policy may be that one's; it is left as it is. Raises Conflict if others kept
    changing the target, Unavailable if the status cannot be written.
    """
    key = (body["metadata"]["namespace"], body["metadata"]["name"])
    known, beside = list(policies), list(pools)
    async with operator.looks, operator.lock(key):
        began_s = time.perf_counter()
        for attempt in range(CONFLICTS_MAX):
            try:
                notices = await _look(operator, key, body, known, beside, has_broken_policy=has_broken_policy)
                break
            except Conflict:
                operator.tally.conflicts += 1
                if attempt == CONFLICTS_MAX - 1:
                    operator.tally.reconciled("conflict", time.perf_counter() - began_s)
                    raise
    operator.tally.reconciled("complete", time.perf_counter() - began_s)
    return notices


async def release_pool(operator: Operator, body: Object) -> list[Notice]:
    """Give back what a pool that is being deleted has raised. Raises whatever keeps it from doing so."""
    key = (body["metadata"]["namespace"], body["metadata"]["name"])
    async with operator.lock(key):
        notices = await _give_back(operator, key, read_spec(body, GPUPoolSpec))
    operator.forget(key)
    return notices


async def _look(
    operator: Operator,
    key: Key,
    body: Object,
    policies: list[Policy],
    pools: list[Object],
    *,
    has_broken_policy: bool,
) -> list[Notice]:
    namespace, name = key
    pool = read_spec(body, GPUPoolSpec)
    generation = body["metadata"].get("generation", 0)
    record = operator.records.get(key) or read_record(body)
    policy = governing_policy(policies, name=name, labels=dict(body["metadata"].get("labels") or {}))
    if policy is None and has_broken_policy:
        return []
    if policy is None or policy.spec.paused:
        return await _leave_alone(operator, key, pool, record, policy=policy, generation=generation)
    view = await observe_pool(
        operator.cluster, operator.demand, namespace=namespace, name=name, pool=pool, policy=policy.spec
    )
    record = await _note(operator, record, view, pool, policy)
    operator.records[key] = record
    decision = decide_replicas(
        policy=policy.spec,
        pool=_facts(name, pool, record, _part(pools, policies, policy, name=name, pool=pool)),
        observation=view.observation,
        plan=view.plan,
        plan_problem=view.plan_problem,
        memory=record.memory,
        budget=budget_left(policy.spec.budget, own=record.cost, others=_others(operator, key, policy.name)),
        now=operator.clock(),
    )
    applied = await apply_decision(operator, view, decision, pool=name, is_dry_run=policy.spec.dry_run)
    conditions, turned = conditions_of(
        record, view=view, decision=decision, applied=applied, generation=generation, now=operator.clock()
    )
    floor = applied.floor if applied.floor is not None else record.floor
    record = msgspec.structs.replace(record, memory=decision.memory, conditions=conditions, floor=floor)
    operator.records[key] = record
    operator.tally.decided(key, decision, floor=floor, ready=record.ready)
    status = compose_status(
        record, view=view, decision=decision, message=decision.message, reason=decision.reason, generation=generation
    )
    operator.records[key] = await write_status(operator.cluster, namespace, name, record, status, now=operator.clock())
    return [*applied.notices, *turned]


async def apply_decision(
    operator: Operator, view: PoolView, decision: ScalingDecision, *, pool: str, is_dry_run: bool
) -> Applied:
    """Ask the target for what was decided. Raises Conflict; any other failure is said in what is returned."""
    state = view.state
    if state is None or decision.replicas is None:
        return Applied(status="False", reason="NoObservation", message=view.problem or "nothing is decided yet")
    notices: list[Notice] = []
    try:
        if state.was_changed_by_others:
            if rival := await find_rival(operator.cluster, state):
                detail = f"the HorizontalPodAutoscaler {rival!r} scales {state.name}: make that the pool's target"
                raise PermanentError(detail, code="target-owned")
            message = (
                f"{state.form.field} of {state.name} was set to {state.floor} by somebody else: kept as its own floor"
            )
            notices.append(Notice(type="Warning", reason="FloorChangedByOthers", message=message))
        if is_dry_run:
            floor = await give_back(operator.cluster, state, pool=pool)
        else:
            floor = await raise_floor(operator.cluster, state, replicas=decision.replicas, pool=pool)
    except Conflict:
        raise
    except HalfdropError as error:
        code = error.code if isinstance(error, PermanentError) else "unavailable"
        reason = "".join(part.capitalize() for part in code.split("-"))
        return Applied(status="False", reason=reason, message=str(error), floor=state.floor, notices=tuple(notices))
    if floor is not None and floor != state.floor:
        verb = "raised" if floor > state.floor else "lowered"
        operator.tally.changed[verb,] += 1
        message = f"{state.form.field} of {state.name} from {state.floor} to {floor}: {decision.message}"
        notices.append(Notice(reason=f"Floor{verb.capitalize()}", message=message))
        log.info("floor_changed", pool=pool, target=state.name, before=state.floor, after=floor, reason=decision.reason)
    now_floor = state.floor if floor is None else floor
    if is_dry_run:
        message = f"dry run: would ask for {decision.replicas}; {state.name} keeps its own {now_floor}"
        return Applied(status="False", reason="DryRun", message=message, floor=now_floor, notices=tuple(notices))
    message = f"{state.form.field} of {state.name} is {now_floor}"
    return Applied(status="True", reason="FloorHeld", message=message, floor=now_floor, notices=tuple(notices))


async def _leave_alone(
    operator: Operator, key: Key, pool: GPUPoolSpec, record: PoolRecord, *, policy: Policy | None, generation: int
) -> list[Notice]:
    """Give everything back, and say why nothing is done."""
    notices: list[Notice] = []
    reason = "NoPolicy" if policy is None else "Paused"
    message = "no CapacityPolicy names or selects this pool" if policy is None else f"{policy.name} is paused"
    try:
        notices = await _give_back(operator, key, pool)
    except Conflict:
        raise
    except HalfdropError as error:
        reason, message = "NotGivenBack", f"{message}, and what was raised could not be given back: {error}"
    conditions, turned = update_conditions(
        record.conditions, [("Applied", "False", reason, message)], generation=generation, now=operator.clock()
    )
    fresh = PoolRecord(
        boot=record.boot,
        spend=record.spend,
        conditions=conditions,
        policy="" if policy is None else policy.name,
        replicas=record.replicas,
        written=record.written,
        written_at=record.written_at,
    )
    operator.tally.left_alone(key)
    status = compose_status(fresh, view=None, decision=None, message=message, reason=reason, generation=generation)
    operator.records[key] = await write_status(operator.cluster, *key, fresh, status, now=operator.clock())
    return [*notices, *turned]


async def _give_back(operator: Operator, key: Key, pool: GPUPoolSpec) -> list[Notice]:
    namespace, name = key
    try:
        state = await read_target(operator.cluster, namespace, pool.target)
    except NotFound:
        return []  # what is gone holds nothing of ours
    floor = await give_back(operator.cluster, state, pool=name)
    if floor is None:
        return []
    operator.tally.changed["given_back",] += 1
    message = f"{state.form.field} of {state.name} is {floor} again, from {state.floor}"
    log.info("floor_given_back", pool=name, target=state.name, before=state.floor, after=floor)
    return [Notice(reason="FloorGivenBack", message=message)]


async def _note(
    operator: Operator, record: PoolRecord, view: PoolView, pool: GPUPoolSpec, policy: Policy
) -> PoolRecord:
    """Return the record with what the view shows: replicas, their cost so far, and boots if any ended."""
    now = operator.clock()
    state = view.state
    boot = record.boot
    if state is not None and state.ready != record.ready:
        try:
            boot = await observe_boots(operator.cluster, state, record.boot)
            operator.tally.booted(boot, known=record.boot)
        except HalfdropError as error:
            log.warning("boots_not_observed", target=state.name, error=str(error))
    spend = add_spend(record.spend, replicas=record.replicas, cost_per_replica_hour=pool.cost_per_replica_hour, now=now)
    return msgspec.structs.replace(
        record,
        boot=boot,
        spend=spend,
        policy=policy.name,
        cost_per_replica_hour=pool.cost_per_replica_hour,
        replicas=record.replicas if state is None else state.replicas,
        ready=record.ready if state is None else state.ready,
    )


def _part(pools: list[Object], policies: list[Policy], policy: Policy, *, name: str, pool: GPUPoolSpec) -> Part | None:
    if policy.spec.spot is None:
        return None
    others: list[tuple[str, GPUPoolSpec]] = []
    for body in pools:
        other, labels = body["metadata"]["name"], dict(body["metadata"].get("labels") or {})
        governing = governing_policy(policies, name=other, labels=labels)
        if other == name or body["metadata"].get("deletionTimestamp") or governing is not policy:
            continue
        try:
            spec = read_spec(body, GPUPoolSpec)
        except HalfdropError:
            continue  # its own look says what is wrong with it
        others.append((spec.plan or other, spec))
    return find_part(policy.spec.spot, pool, pool.plan or name, others)


def _facts(name: str, pool: GPUPoolSpec, record: PoolRecord, part: Part | None) -> PoolFacts:
    measured = record.boot.p95_seconds
    return PoolFacts(
        name=name,
        jobs_per_replica=pool.jobs_per_replica,
        boot_p95_s=float(pool.boot_seconds_assumed if measured is None else measured),
        boot_p50_s=float(record.boot.p50_seconds or 0),
        cost_per_replica_hour=pool.cost_per_replica_hour,
        part=part,
    )


def _others(operator: Operator, key: Key, policy: str) -> list[PoolCost]:
    return [
        record.cost
        for other, record in operator.records.items()
        if other != key and other[0] == key[0] and record.policy == policy
    ]
