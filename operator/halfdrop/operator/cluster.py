"""The Kubernetes API, as far as the operator needs it: objects as plain mappings, errors as ours.

Every change of an object names the resourceVersion that it was decided on: if somebody else wrote in between, the API
answers 409, which is a `Conflict` here, and the pool is observed and decided anew.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.core_v1 import Pod
from lightkube.types import PatchType

from halfdrop.contracts.errors import NotFound, PermanentError, TransientError, Unavailable

Object = dict[str, Any]
"""An object of the API, as its JSON; the one place where a dict crosses a layer, for its shape is the API's."""

FIELD_MANAGER = "halfdrop-operator"
PODS_MAX = 500
"""Pods looked at for boot times at a time."""

GPU_POOL = create_namespaced_resource("halfdrop.dev", "v1alpha1", "GPUPool", "gpupools")
CAPACITY_POLICY = create_namespaced_resource("halfdrop.dev", "v1alpha1", "CapacityPolicy", "capacitypolicies")
DEMAND_EVENT = create_namespaced_resource("halfdrop.dev", "v1alpha1", "DemandEvent", "demandevents")
DEPLOYMENT = create_namespaced_resource("apps", "v1", "Deployment", "deployments")
HPA = create_namespaced_resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")
CAPACITY_BUFFERS = tuple(
    create_namespaced_resource("autoscaling.x-k8s.io", version, "CapacityBuffer", "capacitybuffers")
    for version in ("v1", "v1beta1", "v1alpha1")
)
"""Newest first; the first that the cluster serves is used."""


class Conflict(TransientError):
    """Somebody else changed the object since it was read."""


class Cluster:
    """A client of one cluster, open."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, resource: Any, namespace: str, name: str) -> Object:
        """Return the object. Raises NotFound if there is none, or the cluster does not know the kind."""
        with _errors(f"{resource.__name__} {namespace}/{name}"):
            return dict(await self._client.get(resource, name, namespace=namespace))

    async def all_of(self, resource: Any, namespace: str) -> list[Object]:
        """Return all objects of a kind in the namespace."""
        with _errors(f"{resource.__name__}s in {namespace}"):
            return [dict(found) async for found in self._client.list(resource, namespace=namespace)]

    async def patch(self, resource: Any, namespace: str, name: str, change: Object, *, version: str = "") -> Object:
        """Merge `change` into the object. version: the resourceVersion that it must still have; raises Conflict."""
        if version:
            change = {**change, "metadata": {**change.get("metadata", {}), "resourceVersion": version}}
        with _errors(f"{resource.__name__} {namespace}/{name}"):
            answer = await self._client.patch(
                resource, name, change, namespace=namespace, patch_type=PatchType.MERGE, field_manager=FIELD_MANAGER
            )
        return dict(answer) if isinstance(answer, dict) else {}

    async def scale_from_zero(self, namespace: str, deployment: str, *, version: str) -> None:
        """Set a Deployment's /scale from 0 to 1, for an HPA sleeps while there are none."""
        change = {"spec": {"replicas": 1}, "metadata": {"resourceVersion": version}}
        await self.patch(DEPLOYMENT.Scale, namespace, deployment, change)

    async def pods(self, namespace: str, labels: dict[str, str]) -> list[Object]:
        """Return the pods with all of `labels`, at most PODS_MAX of them."""
        found: list[Object] = []
        with _errors(f"pods in {namespace}"):
            async for pod in self._client.list(
                Pod, namespace=namespace, labels=dict[str, Any](labels), chunk_size=PODS_MAX
            ):
                found.append(pod.to_dict())
                if len(found) == PODS_MAX:
                    break
        return found


@asynccontextmanager
async def open_cluster() -> AsyncIterator[Cluster]:
    """Open a client from KUBECONFIG or the pod's service account. Raises PermanentError(no-cluster) without either."""
    try:
        client = AsyncClient(field_manager=FIELD_MANAGER, trust_env=True)
    except (ConfigError, OSError) as error:
        raise PermanentError(
            f"no Kubernetes cluster: {error}; set KUBECONFIG, or run in a pod", code="no-cluster"
        ) from error
    try:
        yield Cluster(client)
    finally:
        await client.close()


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Translate what the API answers: one table for every call."""
    try:
        yield
    except ApiError as error:
        message = f"{what}: {error.status.message}"
        match error.status.code:
            case 404:
                raise NotFound(message) from error
            case 409:
                raise Conflict(message, retry_after_s=0.0) from error
            case 401 | 403:
                raise PermanentError(f"{message}; see the Role in docs/operator.md", code="forbidden") from error
            case 400 | 415 | 422:
                raise PermanentError(message, code="refused-by-the-api") from error
            case _:
                raise Unavailable(message) from error
    except httpx2.HTTPStatusError as error:
        raise Unavailable(f"{what}: {error}") from error
    except httpx2.TransportError as error:
        raise Unavailable(f"{what}: {error or type(error).__name__}") from error
