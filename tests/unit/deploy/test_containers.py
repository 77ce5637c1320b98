"""The container files: hadolint has nothing to say, and each is pinned, unprivileged, and answers for its health."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from halfdrop.edge.settings import EdgeSettings
from halfdrop.forecaster.service.settings import PlannerSettings
from halfdrop.hub.settings import HubSettings
from halfdrop.operator.settings import OperatorSettings
from halfdrop.runtime.settings import load_settings

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "edge": EdgeSettings,
    "hub": HubSettings,
    "forecaster": PlannerSettings,
    "operator": OperatorSettings,
}
PLANNER_PREFIX = "HALFDROP_PLANNER_"
"""Of what the forecaster's image is told; the rest, where the hub and the objects are, comes from outside."""

ROOT = Path(__file__).parents[3]
PARTS = ("edge", "hub", "forecaster", "operator")
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions(part: str) -> list[tuple[str, str]]:
    """Return each instruction and its arguments, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / part / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, _, rest in pairs]


@pytest.mark.parametrize("part", PARTS)
def test_hadolint_has_nothing_to_say(part: str) -> None:
    linted = subprocess.run([HADOLINT, ROOT / part / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize("part", PARTS)
def test_images_are_pinned_and_run_as_nobody(part: str) -> None:
    found = instructions(part)
    stages = [rest for name, rest in found if name == "FROM"]
    assert len(stages) == 2, "what builds stays behind"
    bases = dict(rest.split("=", 1) for name, rest in found if name == "ARG")
    for stage in stages:
        base = bases[stage.split()[0].strip("${}")]
        assert re.search(r":[^:]*\d", base), f"{base} names no version"
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    final = dict(found[last:])
    assert final["USER"] == "10001:10001", "by number, so that a cluster can see that it is not root"
    assert "HEALTHCHECK" in final
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert final["ENTRYPOINT"].endswith(f'"-m", "halfdrop.{part}"]')


@pytest.mark.parametrize("part", PARTS)
def test_everything_is_installed_by_the_lock(part: str) -> None:
    installs = [
        line for name, rest in instructions(part) if name == "RUN" for line in rest.split(";") if "pip install" in line
    ]
    assert len(installs) == 2
    for install in installs:
        assert "-c requirements.lock" in install
        assert "--no-cache-dir" in install
    extras = re.findall(r'"\.\[(.*)\]"', installs[1])
    assert extras == [{"hub": "hub,cli"}.get(part, part)]


@pytest.mark.parametrize("part", PARTS)
def test_the_environment_is_one_that_the_process_takes(part: str) -> None:
    prefix = {"forecaster": PLANNER_PREFIX}.get(part, f"HALFDROP_{part.upper()}_")
    given = dict(re.findall(rf"({prefix}\w+)=(\S+)", (ROOT / part / "Dockerfile").read_text()))
    assert given
    kind = SETTINGS[part]
    needed = {field.name for field in msgspec.structs.fields(kind) if field.required}
    load_settings(kind, prefix=prefix, environ={**{f"{prefix}{name.upper()}": "x" for name in needed}, **given})


def test_a_build_sees_nothing_but_sources_and_the_lock() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} >= {
        "pyproject.toml",
        "requirements.lock",
        *PARTS,
        "contracts",
    }
    assert not {"!tests", "!docs", "!.git", "!data"} & set(lines)
