"""The chart's pools and edges as they become more and fewer: autoscalers, colours, what the planner is told of them."""

from pathlib import Path
from typing import Any

import helm_python
import pytest

from halfdrop.forecaster.service.pools import PoolTerms, read_pools

LEAST = {"objects": {"url": "s3://patterns"}}

Object = dict[str, Any]
Examples = dict[str, list[Object]]


def find(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def test_what_is_planned_is_what_the_pools_follow(examples: Examples, render: Any, tmp_path: Path) -> None:
    def planned(objects: list[Object]) -> dict[str, PoolTerms]:
        data = find(objects, "ConfigMap", "halfdrop-forecaster-pools")["data"]["pools.toml"]
        (tmp_path / "pools.toml").write_text(data)
        return read_pools(tmp_path / "pools.toml")

    for name in ("one-region", "hub", "spot"):
        objects = examples[name]
        followed = {f"{one['spec']['region']}.{one['spec']['plan']}" for one in objects if one["kind"] == "GPUPool"}
        assert planned(objects).keys() == followed, name
    spot = planned(examples["spot"])["local.gpu"]
    assert (spot.price_per_hour, spot.classes) == (0.7, ()), "two pools of one plan, of which one stays"
    assert (spot.policy.replicas_min, spot.policy.replicas_max) == (2, 50)
    pools = {"gpu": None, "cheap": {"classes": ["bulk"], "pool": {"enabled": True}, "replicas": 3}}
    own = {"region": "local", "name": "cheap", "boot_max_s": 900, "policy": {"late_share_target": 0.02}}
    for given, boot_s in (([], 480), ([own, {"region": "us", "name": "all"}], 900)):
        values = {**LEAST, "hub": {"pools": pools}, "forecaster": {"enabled": True, "pools": given}}
        found = planned(render(values))
        assert found["local.cheap"].boot_max_s == boot_s
        assert len(found) == max(1, len(given))
    objects = render({**LEAST, "forecaster": {"enabled": True}})
    assert not [one for one in objects if one["metadata"]["name"] == "halfdrop-forecaster-pools"]


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"kind": "ScaledObject"}, "hub.pools.gpu.scaling.triggers: got none"),
        ({"kind": "HorizontalPodAutoscaler", "minReplicas": 0}, "hub.pools.gpu.scaling.minReplicas: got 0"),
    ],
)
def test_scaling_that_could_not_work_is_refused_with_a_sentence(render: Any, scaling: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as caught:
        render({**LEAST, "hub": {"pools": {"gpu": {"scaling": scaling}}}})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        ({"autoscaling": {"kind": "ScaledObject"}}, r"edge\.autoscaling\.triggers: got none"),
        (
            {"autoscaling": {"kind": "HorizontalPodAutoscaler", "minReplicas": 3, "maxReplicas": 2}},
            r"edge\.autoscaling\.maxReplicas: got 2; allowed: minReplicas, 3, or more",
        ),
        (
            {"autoscaling": {"kind": "HorizontalPodAutoscaler", "scaleDown": {"enabled": True}}},
            r"edge\.settleSeconds: got 0",
        ),
    ],
)
def test_edges_that_could_not_be_scaled_well_are_refused_with_a_sentence(render: Any, edge: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=said):
        render({**LEAST, "edge": edge})


def test_an_autoscaler_of_edges_has_their_replicas_to_itself_and_takes_one_away_at_a_time(
    examples: Examples, render: Any
) -> None:
    hpa = find(examples["autoscaled"], "HorizontalPodAutoscaler", "halfdrop-edge")["spec"]
    keda = find(examples["keda"], "ScaledObject", "halfdrop-edge")["spec"]
    for name, target in (("autoscaled", hpa["scaleTargetRef"]), ("keda", keda["scaleTargetRef"])):
        edges = find(examples[name], target["kind"], target["name"])["spec"]
        assert "replicas" not in edges, name
        assert edges["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        assert edges["podManagementPolicy"] == "Parallel", "the third must not wait for the second"
        assert [claim["metadata"]["name"] for claim in edges["volumeClaimTemplates"]] == ["orders"]
    [metric] = hpa["metrics"]
    assert metric["containerResource"]["container"] == "edge"
    [down] = hpa["behavior"]["scaleDown"]["policies"]
    assert (down["type"], down["value"]) == ("Pods", 1)
    pod = find(examples["autoscaled"], "StatefulSet", "halfdrop-edge")["spec"]["template"]["spec"]
    assert down["periodSeconds"] >= pod["terminationGracePeriodSeconds"], "one is gone before the next goes"
    behavior = keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"] == {"selectPolicy": "Disabled"}, "without having said so, edges only become more"
    fixed = render({**LEAST, "edge": {"replicas": 3}})
    assert find(fixed, "StatefulSet", "halfdrop-edge")["spec"]["replicas"] == 3
    assert not [one for one in fixed if one["kind"] == "HorizontalPodAutoscaler"]


def test_a_new_colour_is_ready_before_it_is_the_pool_and_is_not_restarted_for_it(render: Any) -> None:
    hpa = {"kind": "HorizontalPodAutoscaler", "minReplicas": 2}

    def step(**pool: Any) -> list[Object]:
        pool = {"pool": {"enabled": True}, "scaling": hpa, **pool}
        return list(render({**LEAST, "hub": {"pools": {"gpu": pool}}}))

    before = step(tag="1.0.0")
    beside = step(tag="1.0.0", standby={"replicas": 4, "tag": "1.1.0"})
    switched = step(active="green", tag="1.1.0", standby={"replicas": 2, "tag": "1.0.0"})
    after = step(active="green", tag="1.1.0")
    blue, green = "halfdrop-hub-gpu-blue", "halfdrop-hub-gpu-green"
    assert find(before, "Deployment", blue)["spec"] == find(switched, "Deployment", blue)["spec"]
    assert find(beside, "Deployment", green)["spec"] == find(after, "Deployment", green)["spec"]
    assert find(beside, "HorizontalPodAutoscaler", green)["spec"]["minReplicas"] == 4
    assert find(after, "HorizontalPodAutoscaler", green)["spec"]["minReplicas"] == 2
    targets = [
        [one["spec"]["target"]["name"] for one in objects if one["kind"] == "GPUPool"] for objects in (beside, after)
    ]
    assert targets == [[blue], [green]]
    assert not [one for one in before if one["metadata"]["name"] == green]
    assert not [one for one in after if one["metadata"]["name"] == blue]
