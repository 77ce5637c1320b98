"""What the documents promise exists: their links lead somewhere, their commands parse."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("models/*.md"))
    if ".venv" not in path.parts
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing, f"{document.name} points to {missing}"


def test_every_command_of_the_readme_parses() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(".venv/bin/halfdrop ")]
    assert len(lines) >= 5
    for line in lines:
        _, *words = shlex.split(line)
        # The last words are the command's own: --help after them fails only if what comes before is unknown.
        outcome = subprocess.run(
            [Path(sys.executable).with_name("halfdrop"), *words, "--help"], capture_output=True, text=True, check=False
        )
        assert outcome.returncode == 0, f"{line}\n{outcome.stderr}"


def test_every_row_of_the_page_on_degradation_has_tests_that_exist_and_every_part_has_a_row() -> None:
    page = (ROOT / "docs/degradation.md").read_text()
    tests = dict(re.findall(r"\b([a-z]) `(test_\w+)`", page))
    written = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    assert [name for name in tests.values() if f"def {name}(" not in written] == []
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 8
    for row in rows:
        assert set(row[-1].split(", ")) <= tests.keys(), row[0]
    parts = {"nats", "hub", "redis", "objects", "disk", "outbox", "previews"}
    assert parts <= {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_the_commands_of_the_page_on_models_print_what_stands_there(tmp_path: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs/models.md").read_text(), flags=re.DOTALL)
    shown = [part.split("\n", 1) for block in blocks for part in block.split("$ halfdrop ")[1:]]
    assert len(shown) >= 9
    for command, wanted in shown:
        program = [Path(sys.executable).with_name("halfdrop"), *shlex.split(command)]
        ended = subprocess.run(
            program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert _is_as_shown(ended.stdout, wanted), f"{command}\n{ended.stdout}\nis not what the page shows:\n{wanted}"


def test_the_python_of_the_page_on_models_runs(tmp_path: Path) -> None:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/models.md").read_text(), flags=re.DOTALL)
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, capture_output=True)


def _is_as_shown(printed: str, wanted: str) -> bool:
    """True if the words agree; digests, numbers and gaps may differ, and … stands for anything."""
    pattern = ".*".join(re.escape(_without_figures(part)) for part in wanted.split("…"))
    return re.fullmatch(pattern, _without_figures(printed)) is not None


def _without_figures(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "#", text)
    return " ".join(re.sub(r"\d+([.,]\d+)*", "0", text).split())


def test_figures_in_the_benchmarks_name_commands_that_exist() -> None:
    text = (ROOT / "docs/BENCHMARKS.md").read_text()
    scripts = set(re.findall(r"bench/\w+\.py", text))
    assert scripts
    assert all((ROOT / script).exists() for script in scripts)
    assert {f"bench/{path.name}" for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text()} <= scripts
