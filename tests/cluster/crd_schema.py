"""What an API server does with our CRDs, offline: defaults, pruning, the OpenAPI schema, CEL rules with their messages.

Used by the tests of the CRDs and of every example, and by the test server, so that both refuse what a cluster refuses.
"""

import copy
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import cel
import jsonschema
import yaml

CRDS_DIR = Path(__file__).parents[2] / "deploy/kubernetes/crds"

Schema = dict[str, Any]


def load_crds() -> dict[str, dict[str, Any]]:
    """Return our CRDs by kind."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(CRDS_DIR.glob("*.yaml"))]
    return {crd["spec"]["names"]["kind"]: crd for crd in found}


def schema_of(crd: dict[str, Any]) -> Schema:
    """Return the schema of the one version of a CRD."""
    [version] = crd["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def admit(schema: Schema, given: dict[str, Any], old: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return the object as it would be stored, and why it is refused: one sentence for each reason."""
    stored = with_defaults(schema, copy.deepcopy(given))
    prune(schema, stored)
    problems = [
        f"{'.'.join(str(part) for part in error.absolute_path) or '<object>'}: {error.message}"
        for error in jsonschema.Draft7Validator(schema, format_checker=FORMATS).iter_errors(stored)
    ]
    if not problems:  # an API server, too, looks at rules only once the shape is right
        problems = list(broken_rules(schema, stored, old))
    return stored, problems


def with_defaults(schema: Schema, value: Any) -> Any:
    """Fill in defaults, outer ones first, as an API server does."""
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value and "default" in part:
                value[name] = copy.deepcopy(part["default"])
            if name in value:
                with_defaults(part, value[name])
    elif isinstance(value, list):
        for item in value:
            with_defaults(schema.get("items", {}), item)
    return value


def prune(schema: Schema, value: Any, *, is_root: bool = True) -> None:
    """Drop what the schema does not name."""
    if isinstance(value, dict) and "properties" in schema:
        for name in [name for name in value if name not in schema["properties"]]:
            del value[name]
        for name, part in value.items():
            if not (is_root and name == "metadata"):
                prune(schema["properties"][name], part, is_root=False)
    elif isinstance(value, list):
        for item in value:
            prune(schema.get("items", {}), item, is_root=False)


def broken_rules(schema: Schema, value: Any, old: Any, path: str = "") -> Iterator[str]:
    """Yield "spec.freezes[0]: the freeze ends …" for each CEL rule that `value` breaks."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is None:
            continue  # a rule about a change says nothing of a beginning
        known = {"self": as_cel(schema, value), "oldSelf": as_cel(schema, old)}
        if cel.evaluate(rule["rule"], known) is not True:
            yield f"{path or '<object>'}{rule.get('fieldPath', '')}: {rule['message']}"
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name in value:
                before = old.get(name) if isinstance(old, dict) else None
                yield from broken_rules(part, value[name], before, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from broken_rules(schema.get("items", {}), item, None, f"{path}[{index}]")


def as_cel(schema: Schema, value: Any) -> Any:
    """Return the value as CEL sees it: a date-time is a timestamp, not its text."""
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        return {name: as_cel(parts.get(name, {}), part) for name, part in value.items()}
    if isinstance(value, list):
        return [as_cel(schema.get("items", {}), item) for item in value]
    if schema.get("format") == "date-time" and isinstance(value, str):
        return datetime.fromisoformat(value)
    return float(value) if schema.get("type") == "number" and value is not None else value


FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None
