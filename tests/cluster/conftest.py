"""A Kubernetes API for the operator's tests, and the operator as a process of its own.

The API is the emulator in `api_server.py`, or the cluster that `make test-cluster KUBECONFIG=…` names: the
same tests, over the same client. Each test has a namespace of its own.
"""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from crd_schema import load_crds
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_global_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, Namespace, Pod
from lightkube.types import PatchType

from halfdrop.deploy.children import Child
from halfdrop.operator.cluster import (
    CAPACITY_BUFFERS,
    CAPACITY_POLICY,
    DEMAND_EVENT,
    DEPLOYMENT,
    GPU_POOL,
    HPA,
    SCALED_OBJECT,
)

CRD = create_global_resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
KINDS = {
    "GPUPool": GPU_POOL,
    "CapacityPolicy": CAPACITY_POLICY,
    "DemandEvent": DEMAND_EVENT,
    "Deployment": DEPLOYMENT,
    "HorizontalPodAutoscaler": HPA,
    "ScaledObject": SCALED_OBJECT,
    "CapacityBuffer": CAPACITY_BUFFERS[-1],
}
REAL_CLUSTER = os.environ.get("HALFDROP_TEST_KUBECONFIG", "")
"""Set by `make test-cluster`; never KUBECONFIG itself, which may name whatever its owner last looked at."""

Object = dict[str, Any]


class TestCluster:
    """A namespace of a cluster, with the few verbs that the tests need."""

    __test__ = False

    def __init__(self, client: AsyncClient, namespace: str, kubeconfig: Path) -> None:
        self.client = client
        self.namespace = namespace
        self.kubeconfig = kubeconfig

    async def create(self, kind: str, name: str, spec: Object, **metadata: Any) -> Object:
        """Make an object. Raises ApiError for what the API refuses."""
        meta = {"name": name, "namespace": self.namespace, **metadata}
        resource = KINDS[kind]
        body = {"apiVersion": resource._api_info.resource.api_version, "kind": kind, "metadata": meta, "spec": spec}
        return dict(await self.client.create(resource(body), namespace=self.namespace))

    async def get(self, kind: str, name: str) -> Object:
        return dict(await self.client.get(KINDS[kind], name, namespace=self.namespace))

    async def patch(self, kind: str, name: str, change: Object) -> Object:
        return dict(
            await self.client.patch(KINDS[kind], name, change, namespace=self.namespace, patch_type=PatchType.MERGE)
        )

    async def delete(self, kind: str, name: str) -> None:
        await self.client.delete(KINDS[kind], name, namespace=self.namespace)

    async def exists(self, kind: str, name: str) -> bool:
        try:
            await self.get(kind, name)
        except ApiError as error:
            if error.status.code == 404:
                return False
            raise
        return True

    async def events(self, name: str) -> list[tuple[str, str]]:
        """Return (reason, message) of the Events about an object."""
        found = [event async for event in self.client.list(Event, namespace=self.namespace)]
        return [(str(event.reason), str(event.message)) for event in found if event.involvedObject.name == name]

    async def make_ready_pod(self, name: str, labels: dict[str, str], *, boot_s: int) -> None:
        """Make a pod that no node takes, and say that it was ready `boot_s` after its making."""
        container = {"name": "hub", "image": "example.invalid/hub:0"}
        spec = {"containers": [container], "nodeSelector": {"halfdrop.dev/none": "x"}}
        made = await self.client.create(
            Pod.from_dict({"metadata": {"name": name, "labels": labels}, "spec": spec}), namespace=self.namespace
        )
        created = made.metadata.creationTimestamp
        assert isinstance(created, datetime)
        ready = f"{created + timedelta(seconds=boot_s):%Y-%m-%dT%H:%M:%SZ}"
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": ready}
        await self.client.patch(
            Pod.Status,
            name,
            {"status": {"conditions": [condition]}},
            namespace=self.namespace,
            patch_type=PatchType.MERGE,
        )

    async def set_status(self, kind: str, name: str, status: Object) -> None:
        await self.client.patch(
            KINDS[kind].Status, name, {"status": status}, namespace=self.namespace, patch_type=PatchType.MERGE
        )


@pytest.fixture(scope="session")
def emulator_config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A kubeconfig of the emulator, which runs for the whole session; of the real cluster where there is one."""
    if REAL_CLUSTER:
        yield Path(REAL_CLUSTER)
        return
    program = [sys.executable, str(Path(__file__).with_name("api_server.py"))]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[1]
        path = tmp_path_factory.mktemp("kube") / "config"
        path.write_text(json.dumps(kubeconfig_of(url)))
        yield path
        process.terminate()


def kubeconfig_of(url: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "emulated", "cluster": {"server": url}}],
        "users": [{"name": "tester", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "emulated", "user": "tester", "namespace": "default"}}],
        "current-context": "it",
    }


@pytest.fixture
async def cluster(emulator_config: Path) -> AsyncIterator[TestCluster]:
    """An empty namespace of a cluster with our CRDs."""
    client = AsyncClient(KubeConfig.from_file(str(emulator_config)), trust_env=False)
    namespace = f"halfdrop-{uuid.uuid4().hex[:8]}"
    if REAL_CLUSTER:
        for crd in load_crds().values():
            await client.apply(CRD(crd), field_manager="halfdrop-tests", force=True)
        await client.create(Namespace(metadata=ObjectMeta(name=namespace)))  # the emulator's are there once named
    yield TestCluster(client, namespace, emulator_config)
    for kind in ("GPUPool", "CapacityPolicy", "DemandEvent"):  # the operator is gone: nobody else takes finalizers off
        async for found in client.list(KINDS[kind], namespace=namespace):
            name = found.metadata.name
            await client.patch(
                KINDS[kind], name, {"metadata": {"finalizers": []}}, namespace=namespace, patch_type=PatchType.MERGE
            )
            if await TestCluster(client, namespace, emulator_config).exists(kind, name):
                await client.delete(KINDS[kind], name, namespace=namespace)
    if REAL_CLUSTER:
        await client.delete(Namespace, namespace)
    await client.close()


StartOperator = Callable[..., Awaitable[Child]]


@pytest.fixture
async def start_operator(cluster: TestCluster, tmp_path: Path) -> AsyncIterator[StartOperator]:
    """`operator = await start_operator(INTERVAL_S=0.2)`: run the real process until the test ends."""
    started: list[Child] = []

    async def start(**settings: object) -> Child:
        known = {"NAMESPACES": cluster.namespace, "INTERVAL_S": 0.2, "RETRY_S": 0.2, **settings}
        environ = {f"HALFDROP_OPERATOR_{name}": str(value) for name, value in known.items()}
        child = Child(
            name=f"operator-{len(started)}",
            argv=[sys.executable, "-m", "halfdrop.operator"],
            log_path=tmp_path / f"operator-{len(started)}.log",
            environ={**os.environ, "HALFDROP_LOG": "json", "KUBECONFIG": str(cluster.kubeconfig), **environ},
        )
        started.append(child)
        await child.start()
        return child

    yield start
    for child in started:
        await asyncio.wait_for(child.stop(), 30)
