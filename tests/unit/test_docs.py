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


def test_figures_in_the_benchmarks_name_commands_that_exist() -> None:
    text = (ROOT / "docs/BENCHMARKS.md").read_text()
    scripts = set(re.findall(r"bench/\w+\.py", text))
    assert scripts
    assert all((ROOT / script).exists() for script in scripts)
    assert {f"bench/{path.name}" for path in (ROOT / "bench").glob("*.py") if path.name != "measuring.py"} <= scripts
