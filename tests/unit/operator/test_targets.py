"""What is written to a target, patch by patch, over the real client and a transport that answers as an API would."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from lightkube import AsyncClient
from lightkube.config.kubeconfig import KubeConfig

from halfdrop.contracts.errors import NotFound, PermanentError, Unavailable
from halfdrop.operator.cluster import Cluster, Conflict
from halfdrop.operator.policies import Target, TargetKind
from halfdrop.operator.targets import (
    OWN_FLOOR,
    RAISED_BY,
    RAISED_FLOOR,
    find_rival,
    give_back,
    raise_floor,
    read_target,
)

Object = dict[str, Any]
HPA_PATH = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/hub"
DEPLOYMENT_PATH = "/apis/apps/v1/namespaces/ns/deployments/hub"
REFERENCE = {"kind": "Deployment", "name": "hub"}


class Api:
    """Objects by path, the patches that were sent, and a status to answer patches of a path with."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.patches: list[tuple[str, Object]] = []
        self.refusals: dict[str, int] = {}

    def put(
        self, path: str, spec: Object, *, notes: dict[str, str] | None = None, status: Object | None = None
    ) -> None:
        meta = {"name": "hub", "namespace": "ns", "resourceVersion": "7", "annotations": notes or {}}
        self.objects[path] = {"metadata": meta, "spec": spec, "status": status or {}}

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method == "PATCH":
            self.patches.append((path, json.loads(request.content)))
            if code := self.refusals.get(path):
                return problem(code)
            if path.endswith("/scale"):
                return httpx2.Response(200, json={"metadata": {}, "spec": {"replicas": 1}, "status": {"replicas": 0}})
            return httpx2.Response(200, json=self.objects[path])
        if path in self.objects:
            return httpx2.Response(200, json=self.objects[path])
        return problem(404)


def problem(code: int) -> httpx2.Response:
    return httpx2.Response(code, json={"kind": "Status", "code": code, "message": f"told so by {code}"})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def cluster(api: Api) -> AsyncIterator[Cluster]:
    config = KubeConfig.from_dict(
        {
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "x",
        }
    )
    client = AsyncClient(config, trust_env=False, transport=httpx2.MockTransport(api.answer), field_manager="tests")
    yield Cluster(client)
    await client.close()


def target(kind: TargetKind = TargetKind.HPA) -> Target:
    return Target(kind=kind, name="hub")


async def test_a_raise_is_one_patch_with_its_own_floor_and_the_version_it_was_decided_on(
    api: Api, cluster: Cluster
) -> None:
    api.put(HPA_PATH, {"minReplicas": 2, "maxReplicas": 10, "scaleTargetRef": REFERENCE})
    api.put(DEPLOYMENT_PATH, {"replicas": 2})
    state = await read_target(cluster, "ns", target())
    assert await raise_floor(cluster, state, replicas=6, pool="h100") == 6
    notes = {OWN_FLOOR: "2", RAISED_FLOOR: "6", RAISED_BY: "h100"}
    change = {"spec": {"minReplicas": 6}, "metadata": {"annotations": notes, "resourceVersion": "7"}}
    assert api.patches == [(HPA_PATH, change)]


async def test_what_is_there_already_is_not_written_again(api: Api, cluster: Cluster) -> None:
    notes = {OWN_FLOOR: "2", RAISED_FLOOR: "6", RAISED_BY: "h100"}
    api.put(HPA_PATH, {"minReplicas": 6, "maxReplicas": 10, "scaleTargetRef": REFERENCE}, notes=notes)
    state = await read_target(cluster, "ns", target())
    assert await raise_floor(cluster, state, replicas=6, pool="h100") is None
    assert api.patches == []


async def test_an_own_floor_that_is_as_high_is_left_alone(api: Api, cluster: Cluster) -> None:
    api.put(HPA_PATH, {"minReplicas": 6, "maxReplicas": 10, "scaleTargetRef": REFERENCE})
    state = await read_target(cluster, "ns", target())
    assert await raise_floor(cluster, state, replicas=4, pool="h100") is None
    assert api.patches == []


async def test_the_maximum_of_the_target_is_never_exceeded(api: Api, cluster: Cluster) -> None:
    api.put(HPA_PATH, {"minReplicas": 2, "maxReplicas": 5, "scaleTargetRef": REFERENCE})
    state = await read_target(cluster, "ns", target())
    assert await raise_floor(cluster, state, replicas=60, pool="h100") == 5


async def test_an_hpa_at_zero_is_woken_before_its_floor_is_raised(api: Api, cluster: Cluster) -> None:
    api.put(HPA_PATH, {"minReplicas": 1, "maxReplicas": 10, "scaleTargetRef": REFERENCE})
    api.put(DEPLOYMENT_PATH, {"replicas": 0})
    state = await read_target(cluster, "ns", target())
    await raise_floor(cluster, state, replicas=3, pool="h100")
    assert [path for path, _ in api.patches] == [f"{DEPLOYMENT_PATH}/scale", HPA_PATH]
    assert api.patches[0][1] == {"spec": {"replicas": 1}, "metadata": {"resourceVersion": "7"}}


async def test_giving_back_removes_a_field_that_was_not_there(api: Api, cluster: Cluster) -> None:
    path = "/apis/keda.sh/v1alpha1/namespaces/ns/scaledobjects/hub"
    api.put(path, {"scaleTargetRef": {"name": "hub"}})
    state = await read_target(cluster, "ns", target(TargetKind.SCALED_OBJECT))
    assert await raise_floor(cluster, state, replicas=3, pool="h100") == 3
    [(_, raised)] = api.patches
    api.put(path, {"scaleTargetRef": {"name": "hub"}, **raised["spec"]}, notes=raised["metadata"]["annotations"])
    state = await read_target(cluster, "ns", target(TargetKind.SCALED_OBJECT))
    assert await give_back(cluster, state, pool="other") is None, "only who raised it gives it back"
    assert await give_back(cluster, state, pool="h100") == 0
    assert api.patches[-1][1]["spec"] == {"minReplicaCount": None}
    assert set(api.patches[-1][1]["metadata"]["annotations"].values()) == {None}


async def test_two_pools_do_not_share_a_target(api: Api, cluster: Cluster) -> None:
    notes = {OWN_FLOOR: "2", RAISED_FLOOR: "6", RAISED_BY: "other"}
    api.put(HPA_PATH, {"minReplicas": 6, "maxReplicas": 10, "scaleTargetRef": REFERENCE}, notes=notes)
    state = await read_target(cluster, "ns", target())
    with pytest.raises(PermanentError, match="two pools cannot share a target"):
        await raise_floor(cluster, state, replicas=8, pool="h100")


async def test_the_hpa_behind_a_disputed_deployment_is_named(api: Api, cluster: Cluster) -> None:
    notes = {OWN_FLOOR: "2", RAISED_FLOOR: "6", RAISED_BY: "h100"}
    api.put(DEPLOYMENT_PATH, {"replicas": 3}, notes=notes)
    api.objects[HPA_PATH.removesuffix("/hub")] = {
        "items": [{"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": REFERENCE}}],
        "metadata": {},
    }
    state = await read_target(cluster, "ns", target(TargetKind.DEPLOYMENT))
    assert state.was_changed_by_others
    assert state.own_floor == 3
    assert await find_rival(cluster, state) == "theirs"


async def test_room_is_what_is_planned_less_what_is_there(api: Api, cluster: Cluster) -> None:
    path = "/apis/autoscaling.x-k8s.io/v1beta1/namespaces/ns/capacitybuffers/room"
    api.put(path, {"replicas": 1})
    api.put(DEPLOYMENT_PATH, {"replicas": 4})
    room = Target(kind=TargetKind.CAPACITY_BUFFER, name="room", workload="hub")
    state = await read_target(cluster, "ns", room)
    assert await raise_floor(cluster, state, replicas=9, pool="h100") == 5
    assert api.patches[0][0] == path, "the newest version that the cluster serves"
    assert await raise_floor(cluster, state, replicas=2, pool="h100") == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [(409, Conflict), (404, NotFound), (403, PermanentError), (422, PermanentError), (500, Unavailable)],
)
async def test_what_the_api_answers_is_told_apart(api: Api, cluster: Cluster, code: int, kind: type[Exception]) -> None:
    api.put(HPA_PATH, {"minReplicas": 2, "maxReplicas": 10, "scaleTargetRef": REFERENCE})
    state = await read_target(cluster, "ns", target())
    api.refusals[HPA_PATH] = code
    with pytest.raises(kind, match=f"told so by {code}"):
        await raise_floor(cluster, state, replicas=6, pool="h100")


async def test_an_api_that_is_away_is_unavailable(api: Api, cluster: Cluster) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    broken: Callable[[httpx2.Request], httpx2.Response] = refuse
    api.answer = broken  # type: ignore[method-assign]
    client = AsyncClient(cluster._client.config, trust_env=False, transport=httpx2.MockTransport(broken))
    with pytest.raises(Unavailable, match="refused"):
        await read_target(Cluster(client), "ns", target())
    await client.close()
