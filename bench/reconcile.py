"""The operator: how long a look at a pool takes, what it weighs with 200 pools, and whether its decisions flap.

Looks are `reconcile_pool` over HTTP against the API server of the tests, which runs beside it: the time is the
operator's and the server's together. Memory is the real process's, after it looked at each of its pools three times.
Decisions are those of a week of seasonal demand on a virtual clock (`scaling_loop.py`), with five forecasters: right,
stopped, times 0, times 100 and half an hour late.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from measuring import ROOT, percentile, report, resident_mib
from scaling_loop import FORECASTERS, run_loop

from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.operator.cluster import CAPACITY_POLICY, GPU_POOL, Cluster, open_cluster
from halfdrop.operator.demand import NoDemand
from halfdrop.operator.governing import read_policy
from halfdrop.operator.metrics import Tally
from halfdrop.operator.reconciling import Operator, reconcile_pool
from halfdrop.runtime.logs import configure_logs

NAMESPACE = "bench"
ROUNDS = 3
"""The first raises every floor and writes every status; the others find all as it should be."""

SEED = 20261127
WAIT_S = 300.0
API = "/apis/halfdrop.dev/v1alpha1/namespaces/bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=200, help="pools, each with an HPA and a Deployment")
    parser.add_argument("--days", type=float, default=7.0, help="length of the demand that is decided on")
    given = parser.parse_args()
    os.environ["HALFDROP_LOG_LEVEL"] = "warning"
    configure_logs("bench")
    with run_api_server(given.pools) as kubeconfig:
        os.environ["KUBECONFIG"] = str(kubeconfig)
        looks_ms, cpu_ms = asyncio.run(time_looks())
        rss_mb = weigh_process(given.pools)
    runs = {name: run_loop(forecaster, days=given.days, seed=SEED) for name, forecaster in FORECASTERS.items()}
    report(
        "reconcile",
        {
            "reconcile_ms_p50": round(percentile(looks_ms, 0.5), 2),
            "reconcile_ms_p99": round(percentile(looks_ms, 0.99), 2),
            "reconcile_cpu_ms_p50": round(percentile(cpu_ms, 0.5), 2),
            "rss_mb": round(rss_mb, 1),
            "flaps": sum(run.flaps for run in runs.values()),
            "below_floor": sum(run.below_floor for run in runs.values()),
            "pools": given.pools,
            "looks": len(looks_ms),
            "decisions": sum(run.looks for run in runs.values()),
            "loop": {
                name: {
                    "flaps": run.flaps,
                    "regrets": run.regrets,
                    "below_floor": run.below_floor,
                    "waiting_share": round(run.late_looks / run.looks, 4),
                    "replica_hours_per_work": round(run.replica_hours / run.work_hours, 3),
                }
                for name, run in runs.items()
            },
            "seed": SEED,
        },
    )


@contextmanager
def run_api_server(pools: int) -> Iterator[Path]:
    """Run the API server with `pools` pools and one policy; yield a kubeconfig of it."""
    program = [sys.executable, str(ROOT / "tests/cluster/api_server.py")]
    with (
        tempfile.TemporaryDirectory() as room,
        subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().split()[1]
        try:
            with httpx.Client(base_url=url, trust_env=False) as client:
                for number in range(pools):
                    make_pool(client, f"pool-{number:03d}")
                spec = {"poolSelector": {"matchLabels": {"bench": "yes"}}, "minReplicas": 3, "maxReplicas": 50}
                post(client, f"{API}/capacitypolicies", "usual", spec)
            path = Path(room) / "config"
            path.write_text(json.dumps(kubeconfig_of(url)))
            yield path
        finally:
            server.terminate()


def make_pool(client: httpx.Client, name: str) -> None:
    selector = {"matchLabels": {"app": name}}
    post(client, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", name, {"replicas": 1, "selector": selector})
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    hpas = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
    post(client, hpas, name, {"scaleTargetRef": reference, "maxReplicas": 40})
    post(client, f"{API}/gpupools", name, {"target": {"kind": "HorizontalPodAutoscaler", "name": name}})


def post(client: httpx.Client, path: str, name: str, spec: dict[str, Any]) -> None:
    body = {"metadata": {"name": name, "labels": {"bench": "yes"}}, "spec": spec}
    client.post(path, json=body).raise_for_status()


def kubeconfig_of(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench", "namespace": NAMESPACE}}],
        "current-context": "bench",
    }


async def time_looks() -> tuple[list[float], list[float]]:
    """Return the milliseconds of each look, one after the other, and those of this process's CPU alone."""
    async with open_cluster() as cluster:
        operator = Operator(cluster=cluster, demand=NoDemand(), tally=Tally())
        policy = read_policy(await get_policy(cluster))
        looks: list[float] = []
        cpu: list[float] = []
        for _ in range(ROUNDS):
            for pool in await cluster.all_of(GPU_POOL, NAMESPACE):
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                await reconcile_pool(operator, pool, [policy])
                looks.append((time.perf_counter() - began_s) * 1000)
                cpu.append((time.process_time() - began_cpu_s) * 1000)
        assert operator.tally.changed["raised",] == len(looks) // ROUNDS
        return looks, cpu


async def get_policy(cluster: Cluster) -> dict[str, Any]:
    return await cluster.get(CAPACITY_POLICY, NAMESPACE, "usual")


def weigh_process(pools: int) -> float:
    """Return the MiB of the real operator once it has looked at every pool ROUNDS times."""
    port = choose_port()
    settings = {"NAMESPACES": NAMESPACE, "METRICS_PORT": port, "INTERVAL_S": 5}
    environ = {f"HALFDROP_OPERATOR_{name}": str(value) for name, value in settings.items()}
    program = [sys.executable, "-m", "halfdrop.operator"]
    with subprocess.Popen(program, env={**os.environ, **environ}) as process:
        try:
            wait_for_looks(port, pools * ROUNDS)
            return resident_mib(process.pid)
        finally:
            process.terminate()


def wait_for_looks(port: int, wanted: int) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        try:
            text = httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False).text
        except httpx.TransportError:
            text = ""
        done = [line for line in text.splitlines() if 'reconciles_total{outcome="complete"}' in line]
        if done and float(done[0].split()[-1]) >= wanted:
            return
        time.sleep(0.2)
    raise TimeoutError(f"the operator did not look {wanted} times within {WAIT_S} s")


if __name__ == "__main__":
    main()
