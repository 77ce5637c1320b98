"""The command line with no edge in sight: quick help, and errors of one line with the right exit status."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from halfdrop.deploy.cli import app

HALFDROP = Path(sys.executable).with_name("halfdrop")
NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens there, and nothing ever should."""

HEAVY = ("torch", "onnxruntime", "numpy", "httpx", "litestar", "granian", "rich", "nats")


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [HALFDROP, *arguments], capture_output=True, text=True, timeout=30, env={**os.environ, **environ}, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = f"""import sys; sys.argv = ["halfdrop", "--help"]
from halfdrop.deploy.cli import main
try: main()
except SystemExit as ending: assert ending.code == 0
print([name for name in {HEAVY} if name in sys.modules])"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    assert "Seamless repeats" in output
    assert output.splitlines()[-1] == "[]"


def test_every_option_of_every_command_is_explained() -> None:
    commands = dict(walk(typer.main.get_command(app), "halfdrop"))
    assert {"halfdrop preview", "halfdrop jobs fetch", "halfdrop up", "halfdrop models verify"} <= commands.keys()
    for name, command in commands.items():
        assert command.help, f"{name} says nothing about itself"
        for parameter in command.params:
            assert len((getattr(parameter, "help", "") or "").split()) >= 2, (
                f"{name}: {parameter.name} is not explained"
            )


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below `command` by its whole name."""
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{name} {child_name}")


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == "halfdrop 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["preview", "red dots", "-o", "a.webp", "--url", NOWHERE], 3, "start one with `halfdrop up`"),
        (["preview", "red dots", "-o", "a.png"], 2, "ends in .webp"),
        (["render", "red dots", "-o", "missing/a.png"], 2, "a directory that exists"),
        (["preview", "red dots", "-o", "a.webp", "--url", "edge"], 2, "an address such as"),
        (["preview", "red dots", "-o", "a.webp", "--repeat", "spiral"], 2, "half-drop"),
        (["preview", "red dots", "-o", "a.webp", "--units", "3"], 2, "--repeat beside it"),
        (["models", "verify", "missing"], 1, "no model 'missing' in data/models; there are: house-"),
        (["models", "verify", "./missing"], 1, "manifest.json cannot be read"),
        (["models", "try", "house", "red dots", "-o", "a.jpeg"], 2, "ends in .png or .webp"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_with_its_own_status(
    arguments: list[str], status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.returncode == status
    assert words in ended.stderr
    assert ended.stderr.startswith("halfdrop: ")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_address_of_the_edge_can_come_from_the_environment(tmp_path: Path) -> None:
    ended = run("jobs", "list", HALFDROP_URL="http://127.0.0.1:10")
    assert "http://127.0.0.1:10" in ended.stderr


def test_the_shipped_model_is_what_its_manifest_says() -> None:
    verified = run("models", "verify")
    assert verified.returncode == 0, verified.stderr
    assert "onnx/denoiser.onnx" in verified.stdout
