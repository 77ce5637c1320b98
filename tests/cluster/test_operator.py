"""The real operator process against a Kubernetes API: floors raised and given back, whatever happens in between.

Long because all of it shares one emulated API and the operator that runs against it.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from lightkube.core.exceptions import ApiError
from nats.js.errors import KeyNotFoundError

from halfdrop.contracts.plans import (
    DEMAND_EVENTS_BUCKET,
    PLANS_BUCKET,
    DemandPlan,
    DemandSeries,
    decode_announced,
    encode_plan,
    plan_key,
)
from halfdrop.contracts.pools import Lane, WorkerState, encode_state
from halfdrop.contracts.subjects import HUB_DOMAIN, worker_state
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.servers import NatsServer
from halfdrop.operator.targets import OWN_FLOOR, RAISED_FLOOR
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.streams import ensure_bucket

# conftest's fixtures, by what they are: `cluster` is a namespace, `start_operator` runs the process.
Cluster = Any
StartOperator = Callable[..., Awaitable[Any]]
WaitUntil = Callable[..., Awaitable[None]]

SLOW_S = 40.0
"""A process starts, watches and looks within two seconds; a machine that trains beside it takes longer."""

HUB = {"matchLabels": {"app": "hub"}}
TEMPLATE = {"metadata": {"labels": {"app": "hub"}}, "spec": {"containers": [{"name": "hub", "image": "invalid/hub:0"}]}}


async def make_hpa(cluster: Cluster, *, replicas: int = 1, maximum: int = 20) -> None:
    await cluster.create("Deployment", "hub", {"replicas": replicas, "selector": HUB, "template": TEMPLATE})
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hub"}
    await cluster.create("HorizontalPodAutoscaler", "hub", {"scaleTargetRef": reference, "maxReplicas": maximum})


async def make_pool(cluster: Cluster, kind: str = "HorizontalPodAutoscaler", **spec: Any) -> None:
    await cluster.create("GPUPool", "h100", {"target": {"kind": kind, "name": "hub"}, **spec})


async def make_policy(cluster: Cluster, **spec: Any) -> None:
    await cluster.create("CapacityPolicy", "usual", {"pools": ["h100"], "maxReplicas": 50, **spec})


def floor_of(cluster: Cluster) -> Callable[[], Awaitable[int | None]]:
    async def read() -> int | None:
        spec: dict[str, int] = (await cluster.get("HorizontalPodAutoscaler", "hub"))["spec"]
        return spec.get("minReplicas")

    return read


def is_floor(cluster: Cluster, floor: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await floor_of(cluster)() == floor

    return check


def has_status(cluster: Cluster, kind: str, name: str, **wanted: Any) -> Callable[[], Awaitable[bool]]:
    """True once the status holds all of `wanted`; a condition is written as its type: (status, reason)."""

    async def check() -> bool:
        status = (await cluster.get(kind, name)).get("status") or {}
        conditions = {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions", ())}
        return all({**status, **conditions}.get(key) == value for key, value in wanted.items())

    return check


async def test_the_minimum_of_an_hpa_is_raised_told_and_given_back(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    hpa = await cluster.get("HorizontalPodAutoscaler", "hub")
    assert hpa["metadata"]["annotations"][OWN_FLOOR] == "1"
    assert (await cluster.get("Deployment", "hub"))["spec"]["replicas"] in (1, 6), (
        "replicas are the autoscaler's business"
    )
    await wait_until(
        has_status(
            cluster, "GPUPool", "h100", floor=6, ownFloor=1, plannedReplicas=6, reason="Minimum", policy="usual",
            Applied=("True", "FloorHeld"), Observed=("True", "TargetRead"), Planned=("False", "PlanMissing"),
        ),
        timeout_s=SLOW_S,
    )  # fmt: skip
    await wait_until(has_status(cluster, "CapacityPolicy", "usual", Active=("True", "Active")), timeout_s=SLOW_S)

    async def is_told() -> bool:
        reasons = {reason for reason, _ in await cluster.events("h100")}
        return {"FloorRaised", "PlanMissing"} <= reasons

    await wait_until(is_told, timeout_s=SLOW_S)

    await cluster.patch("CapacityPolicy", "usual", {"spec": {"paused": True}})
    await wait_until(is_floor(cluster, 1), timeout_s=SLOW_S)
    assert OWN_FLOOR not in (await cluster.get("HorizontalPodAutoscaler", "hub"))["metadata"].get("annotations", {})
    await wait_until(has_status(cluster, "GPUPool", "h100", Applied=("False", "Paused")), timeout_s=SLOW_S)
    await cluster.patch("CapacityPolicy", "usual", {"spec": {"paused": False}})
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)


@pytest.mark.parametrize(("kind", "name"), [("CapacityPolicy", "usual"), ("GPUPool", "h100")])
async def test_what_is_deleted_first_gives_back_what_it_raised(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil, kind: str, name: str
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    await cluster.delete(kind, name)

    async def is_gone() -> bool:
        return not await cluster.exists(kind, name)

    await wait_until(is_gone, timeout_s=SLOW_S)
    assert await floor_of(cluster)() == 1, "the finalizer goes after the floor"


async def test_a_pool_that_nobody_governs_any_more_can_be_deleted_though_its_target_is_gone(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    await cluster.delete("HorizontalPodAutoscaler", "hub")
    await wait_until(has_status(cluster, "GPUPool", "h100", Observed=("False", "NoObservation")), timeout_s=SLOW_S)
    await cluster.delete("GPUPool", "h100")

    async def is_gone() -> bool:
        return not await cluster.exists("GPUPool", "h100")

    await wait_until(is_gone, timeout_s=SLOW_S)


async def test_an_hpa_at_zero_is_woken_through_its_scale(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster, replicas=0)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=3)
    await start_operator()
    await wait_until(is_floor(cluster, 3), timeout_s=SLOW_S)
    assert (await cluster.get("Deployment", "hub"))["spec"]["replicas"] >= 1


async def test_the_autoscalers_maximum_holds(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster, maximum=4)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    await wait_until(is_floor(cluster, 4), timeout_s=SLOW_S)
    await wait_until(has_status(cluster, "GPUPool", "h100", floor=4, plannedReplicas=4), timeout_s=SLOW_S)


async def test_a_scaled_object_a_deployment_a_buffer_and_placeholders_are_targets_too(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await cluster.create("Deployment", "hub", {"replicas": 2, "selector": HUB, "template": TEMPLATE})
    room = {"metadata": {"labels": {"app": "room"}}, "spec": TEMPLATE["spec"]}
    selector = {"matchLabels": {"app": "room"}}
    await cluster.create("Deployment", "room", {"replicas": 0, "selector": selector, "template": room})
    targets = {
        "plain": ({"kind": "Deployment", "name": "hub"}, "Deployment", "hub", "replicas"),
        "room": (
            {"kind": "PlaceholderDeployment", "name": "room", "workload": "hub"},
            "Deployment",
            "room",
            "replicas",
        ),
    }
    if await serves(cluster, "ScaledObject"):
        await cluster.create("ScaledObject", "keda", {"scaleTargetRef": {"name": "hub"}, "maxReplicaCount": 9})
        await cluster.create("CapacityBuffer", "buffer", {"podTemplateRef": {"name": "hub"}})
        targets["keda"] = ({"kind": "ScaledObject", "name": "keda"}, "ScaledObject", "keda", "minReplicaCount")
        targets["buffer"] = ({"kind": "CapacityBuffer", "name": "buffer"}, "CapacityBuffer", "buffer", "replicas")
    for name, (target, *_) in targets.items():
        await cluster.create("GPUPool", name, {"target": target}, labels={"tier": "gpu"})
    chosen = {"matchLabels": {"tier": "gpu"}}
    await cluster.create("CapacityPolicy", "all", {"poolSelector": chosen, "minReplicas": 5, "maxReplicas": 9})
    await start_operator()

    async def floors() -> dict[str, int | None]:
        found = {}
        for name, (_, kind, object_name, field) in targets.items():
            found[name] = (await cluster.get(kind, object_name))["spec"].get(field)
        return found

    wanted = {"plain": 5, "room": 0, "keda": 5, "buffer": 5}

    async def are_raised() -> bool:
        return await floors() == {name: wanted[name] for name in targets}

    await wait_until(are_raised, timeout_s=SLOW_S)
    for name in targets:
        await cluster.delete("GPUPool", name)
    given = {"plain": 2, "room": 0, "keda": None, "buffer": None}

    async def are_given_back() -> bool:
        return await floors() == {name: given[name] for name in targets}

    await wait_until(are_given_back, timeout_s=SLOW_S)


async def serves(cluster: Cluster, kind: str) -> bool:
    """A real cluster need not know KEDA and CapacityBuffers; the emulator does."""
    try:
        await cluster.get(kind, "absent")
    except ApiError as error:
        return "could not find the requested resource" not in error.status.message
    return True


async def test_others_who_write_the_target_all_the_time_are_not_overwritten(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    written = 0

    async def write_and_check() -> bool:
        nonlocal written
        written += 1
        note = {"metadata": {"annotations": {"example.com/counter": str(written)}}}
        hpa = await cluster.patch("HorizontalPodAutoscaler", "hub", note)
        return hpa["spec"]["minReplicas"] == 6 and written > 50

    await wait_until(write_and_check, timeout_s=SLOW_S, poll_s=0.001)
    notes = (await cluster.get("HorizontalPodAutoscaler", "hub"))["metadata"]["annotations"]
    assert (notes["example.com/counter"], notes[RAISED_FLOOR]) == (str(written), "6")


async def test_a_floor_that_somebody_else_set_becomes_the_own_one(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    await cluster.patch("HorizontalPodAutoscaler", "hub", {"spec": {"minReplicas": 8}})
    await wait_until(has_status(cluster, "GPUPool", "h100", floor=8, ownFloor=8), timeout_s=SLOW_S)
    await cluster.delete("GPUPool", "h100")

    async def is_gone() -> bool:
        return not await cluster.exists("GPUPool", "h100")

    await wait_until(is_gone, timeout_s=SLOW_S)
    assert await floor_of(cluster)() == 8


async def test_after_kill_9_it_goes_on_where_it_was(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    first = await start_operator()
    await wait_until(has_status(cluster, "GPUPool", "h100", floor=6, plannedReplicas=6), timeout_s=SLOW_S)
    before = (await cluster.get("GPUPool", "h100"))["status"]["decision"]
    await first.kill()
    await cluster.patch("CapacityPolicy", "usual", {"spec": {"minReplicas": 2}})
    await start_operator()
    # 2 would do now, and the cooldown of 600 s began with the raise: a restart does not shorten it
    await wait_until(has_status(cluster, "GPUPool", "h100", reason="Cooldown", ownFloor=1), timeout_s=SLOW_S)
    after = (await cluster.get("GPUPool", "h100"))["status"]["decision"]
    assert after["changedAt"] == before["changedAt"]
    assert await floor_of(cluster)() == 6
    await cluster.delete("CapacityPolicy", "usual")
    await wait_until(is_floor(cluster, 1), timeout_s=SLOW_S)


async def test_killed_before_it_could_give_back_the_next_one_does(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    first = await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    await first.kill()
    await cluster.delete("CapacityPolicy", "usual")
    await cluster.delete("GPUPool", "h100")
    assert await cluster.exists("GPUPool", "h100"), "the finalizer holds it"
    await start_operator()

    async def are_gone() -> bool:
        return not await cluster.exists("GPUPool", "h100") and not await cluster.exists("CapacityPolicy", "usual")

    await wait_until(are_gone, timeout_s=SLOW_S)
    assert await floor_of(cluster)() == 1


async def test_a_dry_run_tells_and_changes_nothing(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6, dryRun=True)
    await start_operator()
    await wait_until(
        has_status(cluster, "GPUPool", "h100", floor=1, plannedReplicas=6, Applied=("False", "DryRun")),
        timeout_s=SLOW_S,
    )
    assert await floor_of(cluster)() == 1


async def test_boot_times_are_learnt_from_pods_that_became_ready(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster)
    for number, boot_s in enumerate((100, 200, 300, 900)):
        await cluster.make_ready_pod(f"hub-{number}", {"app": "hub"}, boot_s=boot_s)
    await start_operator()

    async def are_known() -> bool:
        boot = (await cluster.get("GPUPool", "h100")).get("status", {}).get("boot", {})
        return (boot.get("samples"), boot.get("p50Seconds"), boot.get("p95Seconds")) == (4, 200, 900)

    await wait_until(are_known, timeout_s=SLOW_S)


async def test_a_bad_policy_is_refused_by_the_api_with_a_sentence_that_helps(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="minReplicas is above maxReplicas: lower the one or raise the other"):
        await make_policy(cluster, minReplicas=60)
    await make_pool(cluster)
    with pytest.raises(ApiError, match="make another GPUPool for the new one"):
        await cluster.patch("GPUPool", "h100", {"spec": {"target": {"name": "other"}}})


async def test_a_zone_that_is_none_leaves_the_pools_as_they_are(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    schedule = {"name": "a", "timeZone": "Mars/Olympus", "from": "08:00", "until": "09:00", "minReplicas": 1}
    await cluster.patch("CapacityPolicy", "usual", {"spec": {"schedules": [schedule]}})
    await wait_until(has_status(cluster, "CapacityPolicy", "usual", Active=("False", "Invalid")), timeout_s=SLOW_S)
    assert await floor_of(cluster)() == 6


def plan_of(busy: float, *, age_s: float = 0.0) -> bytes:
    now = time.time()
    series = DemandSeries(busy=((busy, busy),) * 120)
    return encode_plan(
        DemandPlan(
            region="local",
            pool="h100",
            made_at=now - age_s,
            starts_at=now - 60,
            quantiles=(0.5, 0.99),
            series=(series,),
        )
    )


async def test_a_plan_from_the_forecaster_is_followed_until_it_is_stale(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil, hub_nats: NatsServer
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, scaleDown={"cooldownSeconds": 1})
    await start_operator(NATS_URL=hub_nats.url)
    async with open_broker(hub_nats.url, name="forecaster", domain=HUB_DOMAIN) as broker:
        plans = await ensure_bucket(broker.js, PLANS_BUCKET)
        await plans.put(plan_key("local", "h100"), plan_of(7.2))
        await wait_until(is_floor(cluster, 8), timeout_s=SLOW_S)
        await wait_until(has_status(cluster, "GPUPool", "h100", Planned=("True", "Followed")), timeout_s=SLOW_S)

        state = WorkerState(
            region="local", worker="hub-1", at=0.0, lanes=(Lane(job_class="bulk", tenant="t", jobs=44, work=1.0),)
        )

        async def is_reactive() -> bool:
            await broker.nc.publish(worker_state("local", "hub-1"), encode_state(state))
            return await is_floor(cluster, 11)()

        await wait_until(is_reactive, timeout_s=SLOW_S)

        await plans.put(plan_key("local", "h100"), plan_of(7.2, age_s=301))
        await wait_until(has_status(cluster, "GPUPool", "h100", Planned=("False", "PlanStale")), timeout_s=SLOW_S)
        await wait_until(is_floor(cluster, 1), timeout_s=SLOW_S)
        await plans.put(plan_key("local", "h100"), b"no plan")
        await wait_until(has_status(cluster, "GPUPool", "h100", Planned=("False", "PlanMissing")), timeout_s=SLOW_S)


async def test_a_plan_is_split_between_spot_and_nodes_that_stay(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil, hub_nats: NatsServer
) -> None:
    for name, capacity in (("steady", "OnDemand"), ("spot", "Spot")):
        selector = {"matchLabels": {"app": name}}
        template = {**TEMPLATE, "metadata": {"labels": {"app": name}}}
        await cluster.create("Deployment", name, {"replicas": 1, "selector": selector, "template": template})
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        await cluster.create("HorizontalPodAutoscaler", name, {"scaleTargetRef": reference, "maxReplicas": 20})
        target = {"kind": "HorizontalPodAutoscaler", "name": name}
        await cluster.create("GPUPool", name, {"target": target, "plan": "h100", "capacity": capacity})
    spot = {"maxShare": 0.6, "minOnDemand": 2}
    await cluster.create("CapacityPolicy", "usual", {"pools": ["steady", "spot"], "maxReplicas": 50, "spot": spot})
    await start_operator(NATS_URL=hub_nats.url)
    async with open_broker(hub_nats.url, name="forecaster", domain=HUB_DOMAIN) as broker:
        plans = await ensure_bucket(broker.js, PLANS_BUCKET)
        await plans.put(plan_key("local", "h100"), plan_of(10.0))
        await wait_until(has_status(cluster, "GPUPool", "spot", floor=6, plannedReplicas=6), timeout_s=SLOW_S)
        await wait_until(has_status(cluster, "GPUPool", "steady", floor=4, plannedReplicas=4), timeout_s=SLOW_S)
    with pytest.raises(ApiError, match="maxShare"):
        await cluster.create("CapacityPolicy", "bad", {"pools": ["spot"], "maxReplicas": 5, "spot": {"maxShare": 60}})


async def test_a_campaign_reaches_the_forecaster_and_is_called_off(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil, hub_nats: NatsServer
) -> None:
    spec = {"startsAt": "2026-12-01T08:00:00Z", "endsAt": "2026-12-02T08:00:00Z", "uplift": 3, "pools": ["h100"]}
    await cluster.create("DemandEvent", "drop", spec)
    await start_operator(NATS_URL=hub_nats.url)
    await wait_until(has_status(cluster, "DemandEvent", "drop", Published=("True", "Told")), timeout_s=SLOW_S)
    async with open_broker(hub_nats.url, name="forecaster", domain=HUB_DOMAIN) as broker:
        bucket = await broker.js.key_value(DEMAND_EVENTS_BUCKET)
        entry = await bucket.get(f"{cluster.namespace}.drop")
        demand = decode_announced(entry.value or b"")
        assert (demand.name, demand.uplift, demand.pools, demand.starts_at) == ("drop", 3.0, ("h100",), 1796112000.0)
        await cluster.delete("DemandEvent", "drop")

        async def is_gone() -> bool:
            return not await cluster.exists("DemandEvent", "drop")

        await wait_until(is_gone, timeout_s=SLOW_S)
        with pytest.raises(KeyNotFoundError):
            await bucket.get(f"{cluster.namespace}.drop")


async def test_it_answers_probes_shows_metrics_and_ends_in_order(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    health, metrics = choose_port(), choose_port()
    operator = await start_operator(HEALTH_PORT=health, METRICS_PORT=metrics)
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://{LOOPBACK}:{health}/healthz")).status_code == 200
        shown = (await client.get(f"http://{LOOPBACK}:{metrics}/metrics")).text
    assert 'halfdrop_operator_floor_changes_total{outcome="raised"} 1.0' in shown
    assert 'halfdrop_operator_pools{state="PlanMissing"} 1.0' in shown
    operator.signal(signal.SIGTERM)
    assert await asyncio.wait_for(operator.wait(), SLOW_S) == 0
    assert "operator_stopped" in operator.log_path.read_text()
    assert await floor_of(cluster)() == 6, "an end is no deletion: the floor stays while nobody looks"


async def test_what_it_logs_is_json_and_holds_no_error(
    cluster: Cluster, start_operator: StartOperator, wait_until: WaitUntil
) -> None:
    await make_hpa(cluster)
    await make_pool(cluster)
    await make_policy(cluster, minReplicas=6)
    operator = await start_operator()
    await wait_until(is_floor(cluster, 6), timeout_s=SLOW_S)
    await operator.stop()
    lines = [msgspec.json.decode(line) for line in operator.log_path.read_bytes().splitlines()]
    assert {line["event"] for line in lines} >= {"operator_ready", "floor_changed", "operator_stopped"}
    assert [line for line in lines if line["level"] in ("error", "critical")] == []
