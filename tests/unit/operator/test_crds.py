"""The CRDs are well-formed, say what they mean, refuse what is wrong with a sentence, and agree with the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from crd_schema import admit, load_crds, schema_of
from lightkube.models.apiextensions_v1 import CustomResourceDefinition

from halfdrop.operator.policies import CapacityPolicySpec, DemandEventSpec, GPUPoolSpec
from halfdrop.operator.stepping import DecisionMemory

ROOT = Path(__file__).parents[3]
CRDS = load_crds()
SPECS: dict[str, type[msgspec.Struct]] = {
    "CapacityPolicy": CapacityPolicySpec,
    "GPUPool": GPUPoolSpec,
    "DemandEvent": DemandEventSpec,
}
MINIMAL: dict[str, dict[str, Any]] = {
    "CapacityPolicy": {"pools": ["h100"], "maxReplicas": 9},
    "GPUPool": {"target": {"kind": "HorizontalPodAutoscaler", "name": "hub"}},
    "DemandEvent": {"startsAt": "2026-12-01T08:00:00Z", "endsAt": "2026-12-01T20:00:00Z", "uplift": 3},
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}".lstrip("."))
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from nodes(schema[name], f"{path}[]")


ALL_NODES = [(kind, path, node) for kind, crd in CRDS.items() for path, node in nodes(schema_of(crd))]


def refusals(kind: str, spec: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    before = None if old is None else admit(schema_of(CRDS[kind]), {"spec": old})[0]
    return admit(schema_of(CRDS[kind]), {"spec": spec}, before)[1]


def examples() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/operator.md").read_text(), flags=re.DOTALL)
    loaded = [one for block in blocks for one in yaml.safe_load_all(block)]
    return [one for one in loaded if one.get("apiVersion") == "halfdrop.dev/v1alpha1"]


def test_all_three_are_there_in_the_form_that_the_api_takes() -> None:
    assert CRDS.keys() == SPECS.keys()
    for crd in CRDS.values():
        parsed = CustomResourceDefinition.from_dict(crd)
        [version] = parsed.spec.versions
        assert crd["metadata"]["name"] == f"{parsed.spec.names.plural}.{parsed.spec.group}"
        assert (version.name, version.served, version.storage) == ("v1alpha1", True, True)
        assert crd["spec"]["versions"][0]["subresources"] == {"status": {}}
        assert parsed.spec.names.shortNames
        assert len(version.additionalPrinterColumns) >= 4


def test_schemas_are_structural() -> None:
    for kind, path, node in ALL_NODES:
        assert node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}, (kind, path)
        assert not {"$ref", "oneOf", "anyOf", "allOf", "not"} & node.keys(), (kind, path)
        assert not {"properties", "additionalProperties"} <= node.keys(), (kind, path)
        assert node["type"] != "array" or "items" in node, (kind, path)
        assert set(node.get("required", ())) <= node.get("properties", {}).keys() or not path, (kind, path)
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], (kind, path)


def test_what_people_write_is_bounded_so_that_rules_are_cheap() -> None:
    for kind, path, node in ALL_NODES:
        if not path.startswith("spec"):
            continue
        if node["type"] == "array":
            assert "maxItems" in node, (kind, path)
        if node["type"] == "string" and "enum" not in node and node.get("format") != "date-time":
            assert "maxLength" in node, (kind, path)
        if node["type"] in ("integer", "number"):
            assert {"minimum", "maximum"} <= node.keys(), (kind, path)


def test_explain_reads_well() -> None:
    plain = {
        "name",
        "status",
        "until",
        "from",
        "endsAt",
        "minReplicas",
        "maxReplicas",
        "apiVersion",
        "kind",
        "metadata",
    }
    for kind, path, node in ALL_NODES:
        name = path.rpartition(".")[2]
        if name in plain or path.endswith("[]") or not path.startswith("spec"):
            continue
        assert node.get("description", "")[-1:] in (".", "…"), (kind, path)


def test_defaults_conform_to_their_own_schemas() -> None:
    for kind, path, node in ALL_NODES:
        if "default" in node:
            _, problems = admit({"type": "object", "properties": {"x": node}}, {"x": node["default"]})
            assert not problems, (kind, path)


@pytest.mark.parametrize("kind", SPECS)
def test_the_least_that_one_can_write_is_admitted_and_code_and_crd_have_the_same_defaults(kind: str) -> None:
    stored, problems = admit(schema_of(CRDS[kind]), {"spec": MINIMAL[kind]})
    assert not problems
    assert msgspec.convert(stored["spec"], SPECS[kind]) == msgspec.convert(MINIMAL[kind], SPECS[kind])
    assert stored["spec"].keys() > MINIMAL[kind].keys()


@pytest.mark.parametrize("kind", SPECS)
def test_code_and_crd_know_the_same_fields(kind: str) -> None:
    def compare(struct: type[msgspec.Struct], schema: dict[str, Any], path: str) -> None:
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        assert fields.keys() == schema["properties"].keys(), path
        for name, field in fields.items():
            for part in [field.type, *getattr(field.type, "__args__", ())]:
                if isinstance(part, type) and issubclass(part, msgspec.Struct):
                    inner = schema["properties"][name]
                    compare(part, inner.get("items", inner), f"{path}.{name}")

    compare(SPECS[kind], schema_of(CRDS[kind])["properties"]["spec"], kind)


def test_a_memory_survives_the_status() -> None:
    schema = schema_of(CRDS["GPUPool"])
    memory = DecisionMemory(replicas=4, changed_at=1.5, raised_at=1.0, lower_since=2.25, lower_peak=3)
    given = {"spec": MINIMAL["GPUPool"], "status": {"decision": msgspec.to_builtins(memory)}}
    stored, problems = admit(schema, given)
    assert not problems
    assert msgspec.convert(stored["status"]["decision"], DecisionMemory) == memory


TARGET = {"kind": "Deployment", "name": "hub"}
OFFICE = {"name": "office", "from": "08:00", "until": "18:00"}
FREEZE = {"name": "drop", "from": "2026-12-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("CapacityPolicy", {"minReplicas": 10}, "spec.minReplicas: minReplicas is above maxReplicas"),
        ("CapacityPolicy", {"pools": []}, "the policy governs no pool"),
        ("CapacityPolicy", {"objective": {"quantile": 0.9, "lateShare": 0.1}}, "give one of them"),
        ("CapacityPolicy", {"budget": {}}, "an empty budget bounds nothing"),
        ("CapacityPolicy", {"schedules": [OFFICE]}, "changes nothing"),
        ("CapacityPolicy", {"schedules": [OFFICE | {"minReplicas": 3, "maxReplicas": 2}]}, "spec.schedules[0]: minR"),
        ("CapacityPolicy", {"schedules": [OFFICE | {"minReplicas": 10}]}, "above the policy's maxReplicas"),
        ("CapacityPolicy", {"minReplicas": 2, "schedules": [OFFICE | {"maxReplicas": 1}]}, "below the policy's min"),
        ("CapacityPolicy", {"schedules": [OFFICE | {"until": "08:00", "minReplicas": 1}]}, "are the same"),
        ("CapacityPolicy", {"schedules": [OFFICE | {"from": "8:00", "minReplicas": 1}]}, "does not match"),
        ("CapacityPolicy", {"freezes": [FREEZE]}, "spec.freezes[0]: the freeze ends before it begins"),
        ("CapacityPolicy", {"fallback": {"minReplicas": 10}}, "fallback.minReplicas is above maxReplicas"),
        ("CapacityPolicy", {"objective": {"quantile": 1.5}}, "greater than the maximum"),
        ("CapacityPolicy", {"jobClasses": ["urgent"]}, "'urgent' is not one of"),
        ("GPUPool", {"target": {**TARGET, "workload": "hub"}}, "leave it out"),
        ("GPUPool", {"target": {"kind": "StatefulSet", "name": "hub"}}, "is not one of"),
        ("GPUPool", {"jobsPerReplica": 0}, "less than the minimum"),
        ("DemandEvent", {"endsAt": "2026-12-01T08:00:00Z"}, "the event ends before it starts"),
        ("DemandEvent", {"uplift": 0}, "less than the minimum"),
        ("DemandEvent", {"endsAt": "2027-12-01T08:00:00Z"}, "longer than 31 days"),
        ("DemandEvent", {"kind": "Big Sale"}, "does not match"),
    ],
)
def test_what_is_wrong_is_refused_with_a_sentence(kind: str, change: dict[str, Any], message: str) -> None:
    assert refusals(kind, MINIMAL[kind]) == []
    [refusal] = refusals(kind, MINIMAL[kind] | change)
    assert message in refusal


def test_a_pool_keeps_its_target() -> None:
    old = {"target": TARGET}
    assert refusals("GPUPool", old | {"jobsPerReplica": 2}, old) == []
    [refusal] = refusals("GPUPool", {"target": TARGET | {"name": "other"}}, old)
    assert "gives back what it raised" in refusal


def test_every_rule_is_seen_to_refuse() -> None:
    rules = [rule for _, _, node in ALL_NODES for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) == 15
    assert all(len(rule["message"]) > 30 for rule in rules)


def test_every_example_in_the_documents_is_admitted() -> None:
    found = examples()
    assert {example["kind"] for example in found} == SPECS.keys()
    for example in found:
        _, problems = admit(schema_of(CRDS[example["kind"]]), example)
        assert not problems, example["metadata"]["name"]
        msgspec.convert(example["spec"], SPECS[example["kind"]])
