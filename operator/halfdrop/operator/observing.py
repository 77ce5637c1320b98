"""What is to be known of a pool before its replicas are decided: target, workload, queue, plan, boots."""

from datetime import datetime

from msgspec import Struct

from halfdrop.contracts.errors import HalfdropError
from halfdrop.contracts.plans import DemandPlan
from halfdrop.operator.boots import BootTimes, PodBoot, learn_boots
from halfdrop.operator.cluster import Cluster, Object
from halfdrop.operator.deciding import Observation
from halfdrop.operator.demand import DemandSource
from halfdrop.operator.policies import CapacityPolicySpec, GPUPoolSpec
from halfdrop.operator.targets import TargetState, read_target


class PoolView(Struct, frozen=True, kw_only=True):
    """A pool at one moment. What could not be seen is None, beside the reason in words."""

    state: TargetState | None
    problem: str = ""
    """Why there is no state."""

    plan: DemandPlan | None = None
    plan_problem: str = ""
    jobs: float | None = None

    @property
    def observation(self) -> Observation | None:
        state = self.state
        if state is None:
            return None
        return Observation(
            floor=state.floor + state.replicas if state.is_headroom else state.floor,
            replicas=state.replicas,
            ready=state.ready,
            replicas_max=state.replicas_max,
            jobs=self.jobs,
        )


async def observe_pool(
    cluster: Cluster, demand: DemandSource, *, namespace: str, name: str, pool: GPUPoolSpec, policy: CapacityPolicySpec
) -> PoolView:
    """Return what can be seen of the pool. Nothing that is away raises: it is said in the view."""
    try:
        state, problem = await read_target(cluster, namespace, pool.target), ""
    except HalfdropError as error:
        state, problem = None, str(error)
    try:
        plan, plan_problem = await demand.latest_plan(pool.region, pool.plan or name), ""
    except HalfdropError as error:
        plan, plan_problem = None, str(error)
    jobs = demand.jobs_of(pool.region, policy.job_classes)
    return PoolView(state=state, problem=problem, plan=plan, plan_problem=plan_problem, jobs=jobs)


async def observe_boots(cluster: Cluster, state: TargetState, known: BootTimes) -> BootTimes:
    """Return what is known of boots after a look at the workload's pods. Raises Unavailable, PermanentError."""
    if not state.pod_labels:
        return known
    pods = await cluster.pods(state.namespace, state.pod_labels)
    return learn_boots(known, [boot for pod in pods if (boot := read_boot(pod)) is not None])


def read_boot(pod: Object) -> PodBoot | None:
    """Return when a pod was made and became ready; None if it is not ready."""
    status = pod.get("status") or {}
    ready = next((one for one in status.get("conditions") or () if one["type"] == "Ready"), None)
    if ready is None or ready["status"] != "True" or not ready.get("lastTransitionTime"):
        return None
    return PodBoot(
        created_at=_unix(pod["metadata"]["creationTimestamp"]),
        ready_at=_unix(ready["lastTransitionTime"]),
        restarts=sum(one.get("restartCount", 0) for one in status.get("containerStatuses") or ()),
    )


def _unix(moment: str | datetime) -> float:
    """The client reads some times and leaves others as text."""
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).timestamp()
