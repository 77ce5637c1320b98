"""What holds a pool's floor, and how it is raised: the minimum of an autoscaler, never the replicas that it decides on.

The first raise writes the own floor, what stood there before, into annotations of the target, in the same patch as the
floor: whatever dies in between, either both are there or neither is. Giving back puts the own floor there again.
"""

from typing import Any

from msgspec import Struct

from halfdrop.contracts.errors import NotFound, PermanentError
from halfdrop.operator.cluster import CAPACITY_BUFFERS, DEPLOYMENT, HPA, SCALED_OBJECT, Cluster, Object
from halfdrop.operator.policies import Target, TargetKind

OWN_FLOOR = "halfdrop.dev/own-floor"
RAISED_FLOOR = "halfdrop.dev/raised-floor"
RAISED_BY = "halfdrop.dev/raised-by"
ABSENT = "absent"
"""The own floor of a target that said none: giving back removes the field again."""


class TargetForm(Struct, frozen=True, kw_only=True):
    """Where a kind keeps its floor."""

    resources: tuple[Any, ...]
    """The API's kinds, newest version first."""

    field: str
    default: int
    """What holds where the field is absent."""

    least: int = 0
    """The API refuses less."""

    max_field: str = ""
    max_default: int | None = None
    is_autoscaler: bool = False
    """Something else may go above the floor, and whoever configured it is not undercut."""


FORMS: dict[TargetKind, TargetForm] = {
    TargetKind.HPA: TargetForm(
        resources=(HPA,), field="minReplicas", default=1, least=1, max_field="maxReplicas", is_autoscaler=True
    ),
    TargetKind.SCALED_OBJECT: TargetForm(
        resources=(SCALED_OBJECT,),
        field="minReplicaCount",
        default=0,
        max_field="maxReplicaCount",
        max_default=100,
        is_autoscaler=True,
    ),
    TargetKind.DEPLOYMENT: TargetForm(resources=(DEPLOYMENT,), field="replicas", default=1),
    TargetKind.CAPACITY_BUFFER: TargetForm(resources=CAPACITY_BUFFERS, field="replicas", default=0),
    TargetKind.PLACEHOLDERS: TargetForm(resources=(DEPLOYMENT,), field="replicas", default=1),
}


class TargetState(Struct, frozen=True, kw_only=True):
    """A target as it was read."""

    form: TargetForm
    resource: Any
    namespace: str
    name: str
    version: str
    floor: int
    own_floor: int | None
    """What stood there before it was raised; None: the field was absent."""

    raised_floor: int | None
    """What we last wrote; None: it is not raised."""

    raised_by: str
    replicas_max: int | None
    workload: str
    """The Deployment that does the work; empty if it is not known."""

    replicas: int
    ready: int | None
    workload_version: str
    pod_labels: dict[str, str]
    is_headroom: bool

    @property
    def is_raised(self) -> bool:
        return self.raised_floor is not None

    @property
    def was_changed_by_others(self) -> bool:
        return self.raised_floor is not None and self.floor != self.raised_floor


async def read_target(cluster: Cluster, namespace: str, target: Target) -> TargetState:
    """Return the target and its workload. Raises NotFound, Unavailable or PermanentError."""
    form = FORMS[target.kind]
    resource, found = await _find(cluster, form, namespace, target)
    spec, meta = found.get("spec", {}), found["metadata"]
    notes = meta.get("annotations") or {}
    floor = spec.get(form.field)
    raised = _number(notes.get(RAISED_FLOOR))
    own = _number(notes.get(OWN_FLOOR)) if raised is not None else floor
    if raised is not None and floor != raised:
        own = floor  # somebody else wrote it since: that is their floor now
    workload = _workload_of(target, spec)
    work = found if target.kind is TargetKind.DEPLOYMENT else await _deployment(cluster, namespace, workload)
    status = work.get("status", {})
    return TargetState(
        form=form,
        resource=resource,
        namespace=namespace,
        name=target.name,
        version=meta["resourceVersion"],
        floor=form.default if floor is None else floor,
        own_floor=own,
        raised_floor=raised,
        raised_by=notes.get(RAISED_BY, ""),
        replicas_max=spec.get(form.max_field, form.max_default) if form.max_field else None,
        workload=workload if work else "",
        replicas=work.get("spec", {}).get("replicas", 1) if work else 0,
        ready=status.get("readyReplicas", 0) if work else None,
        workload_version=work["metadata"]["resourceVersion"] if work else "",
        pod_labels=work.get("spec", {}).get("selector", {}).get("matchLabels") or {},
        is_headroom=target.kind.is_headroom,
    )


def floor_for(state: TargetState, replicas: int) -> int:
    """Return what the target should be asked for, so that the pool has `replicas`."""
    if state.is_headroom:
        return max(0, replicas - state.replicas)
    own = state.form.default if state.own_floor is None else state.own_floor
    wanted = max(replicas, own) if state.form.is_autoscaler else replicas
    highest = wanted if state.replicas_max is None else state.replicas_max
    return max(state.form.least, min(wanted, highest))


async def raise_floor(cluster: Cluster, state: TargetState, *, replicas: int, pool: str) -> int | None:
    """Ask the target for `replicas` of the pool; return the new floor, or None if that changes nothing.

    Raises Conflict if somebody else changed the target since it was read, PermanentError(target-taken) if another pool
    holds it.
    """
    if state.is_raised and state.raised_by != pool:
        detail = f"{state.name} is raised by the GPUPool {state.raised_by!r}: two pools cannot share a target"
        raise PermanentError(detail, code="target-taken")
    floor = floor_for(state, replicas)
    own = state.form.default if state.own_floor is None else state.own_floor
    if state.form.is_autoscaler and floor <= own:
        return await give_back(cluster, state, pool=pool)
    if floor == state.floor and state.is_raised:
        return None
    if state.replicas == 0 and floor > 0 and state.form is FORMS[TargetKind.HPA] and state.workload:
        await cluster.scale_from_zero(state.namespace, state.workload, version=state.workload_version)
    notes = {
        OWN_FLOOR: ABSENT if state.own_floor is None else str(state.own_floor),
        RAISED_FLOOR: str(floor),
        RAISED_BY: pool,
    }
    change = {"spec": {state.form.field: floor}, "metadata": {"annotations": notes}}
    await cluster.patch(state.resource, state.namespace, state.name, change, version=state.version)
    return floor


async def give_back(cluster: Cluster, state: TargetState, *, pool: str) -> int | None:
    """Put the own floor there again and forget it; return it, or None if the pool had not raised the target."""
    if not state.is_raised or state.raised_by != pool:
        return None
    notes = dict.fromkeys((OWN_FLOOR, RAISED_FLOOR, RAISED_BY))
    change = {"spec": {state.form.field: state.own_floor}, "metadata": {"annotations": notes}}
    await cluster.patch(state.resource, state.namespace, state.name, change, version=state.version)
    return state.form.default if state.own_floor is None else state.own_floor


async def find_rival(cluster: Cluster, state: TargetState) -> str:
    """Return the name of an HPA that scales the Deployment which is the target, or ""."""
    if state.form is not FORMS[TargetKind.DEPLOYMENT]:
        return ""
    for found in await cluster.all_of(HPA, state.namespace):
        reference = found["spec"]["scaleTargetRef"]
        if (reference["kind"], reference["name"]) == ("Deployment", state.name):
            return str(found["metadata"]["name"])
    return ""


async def _find(cluster: Cluster, form: TargetForm, namespace: str, target: Target) -> tuple[Any, Object]:
    problem: NotFound | None = None
    for resource in form.resources:
        try:
            return resource, await cluster.get(resource, namespace, target.name)
        except NotFound as error:
            problem = error
    assert problem is not None
    raise problem


async def _deployment(cluster: Cluster, namespace: str, name: str) -> Object:
    """The Deployment, or nothing: an autoscaler may scale something that is not there yet, or another kind."""
    if not name:
        return {}
    try:
        return await cluster.get(DEPLOYMENT, namespace, name)
    except NotFound:
        return {}


def _workload_of(target: Target, spec: Object) -> str:
    if target.kind.is_headroom:
        return target.workload
    if target.kind is TargetKind.DEPLOYMENT:
        return target.name
    reference = spec.get("scaleTargetRef", {})
    return str(reference.get("name", "")) if reference.get("kind", "Deployment") == "Deployment" else ""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
