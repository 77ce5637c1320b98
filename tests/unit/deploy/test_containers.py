"""The container files: hadolint has nothing to say, and each is pinned, unprivileged, and answers for its health."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from halfdrop.deploy.slim import slim
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


def containerfile(part: str) -> Path:
    """The hub stands on CUDA and has a file of its own; the others are targets of one."""
    return ROOT / ("hub" if part == "hub" else "deploy") / "Dockerfile"


def instructions(part: str) -> list[list[tuple[str, str]]]:
    """Return the instructions of the part's image, a list for each stage that its last one stands on, FROM first.

    Continued lines are joined, comments left out; what stands before the first stage comes first.
    """
    lines = [line for line in containerfile(part).read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    stages: list[list[tuple[str, str]]] = [[]]
    for name, _, rest in pairs:
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest))
    named = {rest.split(" AS ")[-1]: stage for stage in stages[1:] for name, rest in stage if name == "FROM"}
    chain = [stages[-1] if part == "hub" else named[part]]
    while (base := chain[0][0][1].split()[0]) in named and named[base] is not chain[0]:
        chain.insert(0, named[base])
    return [stages[0], *chain]


@pytest.mark.parametrize("path", ["deploy/Dockerfile", "hub/Dockerfile"])
def test_hadolint_has_nothing_to_say(path: str) -> None:
    linted = subprocess.run([HADOLINT, ROOT / path], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize("part", PARTS)
def test_images_are_pinned_and_run_as_nobody(part: str) -> None:
    arguments, *stages = instructions(part)
    bases = dict(rest.split("=", 1) for name, rest in arguments if name == "ARG")
    base = bases[stages[0][0][1].split()[0].strip("${}")]
    assert re.search(r":[^:]*\d", base), f"{base} names no version"
    final = {name: rest for stage in stages for name, rest in stage}
    assert final["USER"] == "10001:10001", "by number, so that a cluster can see that it is not root"
    assert "HEALTHCHECK" in final
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert final["ENTRYPOINT"].endswith(f'"-m", "halfdrop.{part}"]')
    run = [rest for stage in stages for name, rest in stage if name == "RUN"]
    assert not any("pip" in rest or "install_part" in rest for rest in run), "what builds stays behind"
    copied = [rest for stage in stages for name, rest in stage if name == "COPY"]
    assert all(rest.startswith("--from=") for rest in copied), "no sources in an image"
    assert part == "hub" or all(rest.startswith(f"--from={part}-files ") for rest in copied)


def test_everything_is_installed_by_the_lock() -> None:
    script = re.sub(r"\\\n\s*", " ", (ROOT / "deploy/install_part.sh").read_text())
    texts = {path: path.read_text() for path in {containerfile(part) for part in PARTS}} | {ROOT: script}
    installs = [line for text in texts.values() for line in re.split(r"[;\n]", text) if "pip install" in line]
    assert len(installs) == 4
    for install in installs:
        assert "-c requirements.lock" in install
        assert "--no-cache-dir" in install
    assert set(re.findall(r'"\.\[(.*)\]"', "\n".join(installs))) == {"hub,cli", "$part"}
    asked = re.findall(r"install_part\.sh (\w+)(.*)", containerfile("edge").read_text())
    assert {part for part, _ in asked} == set(PARTS) - {"hub"}
    assert [part for part, flags in asked if "--without-models" not in flags] == ["edge"], "what draws keeps its models"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {part for part, _ in asked} <= extras.keys()


@pytest.mark.parametrize("part", PARTS)
def test_the_environment_is_one_that_the_process_takes(part: str) -> None:
    prefix = {"forecaster": PLANNER_PREFIX}.get(part, f"HALFDROP_{part.upper()}_")
    given = dict(re.findall(rf"({prefix}\w+)=(\S+)", containerfile(part).read_text()))
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


def test_slimming_leaves_scipy_what_it_looks_at(tmp_path: Path) -> None:
    for name in ("with", "without"):
        for file in ("numpy/f2py/__init__.py", "numpy/tests/test.py", "numpy/core.py"):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("")
    (tmp_path / "with/scipy").mkdir()
    for name in ("with", "without"):
        slim(tmp_path / name)
        assert not (tmp_path / name / "numpy/tests").exists()
        assert (tmp_path / name / "numpy/core.py").exists()
        assert (tmp_path / name / "numpy/f2py").exists() == (name == "with")
