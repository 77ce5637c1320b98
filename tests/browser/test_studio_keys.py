"""The Studio at an edge that wants keys: it asks once, and pictures, orders and their streams work."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

ENVIRON = {"HALFDROP_EDGE_ACCESS": "keys"}


@pytest.fixture(scope="module", autouse=True)
def api_key(data_dir: Path) -> str:
    """A key made before the system starts: without one it would refuse to."""
    program = Path(sys.executable).with_name("halfdrop")
    command = [program, "keys", "create", "--tenant", "acme", "--data-dir", data_dir]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_page_asks_once_for_a_key_and_then_shows_pictures(chromium: Browser, system_url: str, api_key: str) -> None:
    from tests.browser.conftest import Studio

    context = chromium.new_context()
    page = context.new_page()
    asked: list[str] = []

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept(api_key)

    page.on("dialog", answer)
    studio = Studio(page, system_url).open("prompt=red+polka+dots+on+white")
    first = studio.key
    page.reload()
    studio.expect_ready()
    assert studio.key == first
    assert len(asked) == 1
    (cookie,) = context.cookies()
    assert (cookie["name"], cookie["sameSite"], cookie["expires"]) == ("halfdrop_key", "Strict", -1)
    context.close()
