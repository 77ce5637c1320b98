"""A collection ordered in the studio: from a file of lines to its zip, with the lines that were refused."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

HUBS = 1


def write_lines(path: Path, *bodies: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    return path


def line(name: str, **members: Any) -> dict[str, Any]:
    return {"custom_id": name, "input": {"prompt": f"{name} on white", "size_px": 256, **members}}


def test_a_file_of_orders_becomes_a_zip(open_studio: Any, tmp_path: Path) -> None:
    studio = open_studio("prompt=red+polka+dots+on+white&seed=1006", accept_downloads=True)
    studio.page.locator("#orders-toggle").click()
    lines = write_lines(
        tmp_path / "collection.jsonl", line("dots"), line("stripes"), line("stars", size_px=9), line("hearts")
    )
    studio.page.locator("#batch-file").set_input_files(lines)
    card = studio.page.locator(".card.batch").first
    expect(studio.page.locator("#batches-note")).to_have_text("1 of 4 lines were refused; their card says why.")
    expect(card).to_have_attribute("data-status", "completed")
    expect(card.locator(".card-state")).to_have_text(re.compile("^3 of 3 ready, 1 refused"))
    with studio.page.expect_download() as arriving:
        card.get_by_role("link", name="All files, zip").click()
    arriving.value.save_as(tmp_path / "files.zip")
    names = zipfile.ZipFile(tmp_path / "files.zip").namelist()
    assert {name.split("/")[0] for name in names if name.endswith("master.png")} == {"dots", "stripes", "hearts"}
    with studio.page.expect_download() as arriving:
        card.get_by_role("link", name="Refused lines").click()
    arriving.value.save_as(tmp_path / "errors.jsonl")
    (refused,) = [json.loads(text) for text in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert refused["line"] == 3


def test_a_file_without_a_good_line_says_which_and_why(open_studio: Any, tmp_path: Path) -> None:
    studio = open_studio("prompt=red+hearts&seed=1007")
    studio.expected_words.append("status of 422")
    studio.page.locator("#orders-toggle").click()
    studio.page.locator("#batch-file").set_input_files(write_lines(tmp_path / "bad.jsonl", line("dots", size_px=9)))
    expect(studio.page.locator("#batches-note")).to_have_text(
        re.compile(r"none of the 1 lines can run.* Line 1: .*size_px")
    )
