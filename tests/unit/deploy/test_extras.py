"""Each image holds what its process imports: the part's extra, and what that requires, without looking elsewhere.

The tests run where everything is installed, so that a library which an extra forgot is missed by no other test.
"""

import ast
import functools
import re
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
INSTALLED = {"edge": ("edge",), "forecaster": ("forecaster",), "operator": ("operator",), "hub": ("hub", "cli")}
"""As the container files have it."""

SOURCES = [ROOT / folder for folder in PYPROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]]


PROVIDERS = functools.cache(packages_distributions)
"""Which distributions hold a package, of all that is installed here."""


def source_of(module: str) -> Path | None:
    path = Path(*module.split("."))
    found = [root / name for root in SOURCES for name in (path.with_suffix(".py"), path / "__init__.py")]
    return next((one for one in found if one.exists()), None)


@functools.cache
def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Return our modules that are imported anywhere, and others' packages that are imported with the module itself."""
    ours, others = set(), set()
    tree = ast.parse(path.read_text())
    guarded = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    late = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    skipped = {id(node) for outer in guarded for node in ast.walk(outer)}
    later = {id(node) for outer in late for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [base, *(f"{base}.{one.name}" for one in node.names)]
        else:
            names = [one.name for one in node.names]
        for name in names:
            if name.partition(".")[0] == "halfdrop":
                ours.add(name)
            elif id(node) not in later:
                others.add(name.partition(".")[0])
    return ours, others


def imported_by(module: str) -> dict[str, str]:
    """Return every package of others' that starting `module` may import, and one of our modules that does."""
    waiting, seen, found = [module], set(), {}
    while waiting:
        name = waiting.pop()
        path = source_of(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        ours, others = imports_of(path)
        waiting.extend(ours)
        found.update(dict.fromkeys(others, name))
    return found


def installed_by(extras: tuple[str, ...]) -> set[str]:
    """Return the distributions that pip installs for our extras, as the metadata of what is installed here has them."""
    waiting = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
    waiting += [Requirement(line) for extra in extras for line in EXTRAS[extra]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == "halfdrop":
                waiting += [Requirement(line) for line in EXTRAS.get(extra, ())]
                continue
            try:
                lines = requires(name) or []
            except PackageNotFoundError:  # of another platform
                continue
            needed = [Requirement(line) for line in lines]
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@pytest.mark.parametrize("part", INSTALLED)
def test_what_a_process_imports_is_in_its_image(part: str) -> None:
    installed = installed_by(INSTALLED[part])
    providers = PROVIDERS()
    imported = imported_by(f"halfdrop.{part}.__main__")
    assert len(imported) > 10, "the way from the entry point was lost"
    missing = {
        package: module
        for package, module in imported.items()
        if package in providers and not {canonicalize_name(name) for name in providers[package]} & installed
    }
    assert not missing, f"the extra {part} lacks what these modules import: {missing}"
    assert not [name for name in installed if re.match(r"torch|diffusers", name)] or part == "hub"
