"""The planner's page in headless Chromium, on a forecaster process of its own that looks at a history file."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

sys.path.insert(0, str(Path(__file__).parent))

from planner_history import make_history

from halfdrop.deploy.ports import choose_port

END = datetime(2026, 11, 19, 12, 40, tzinfo=UTC)
DAYS = 2
REPLAY_TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planner") / "weeks.csv"
    rows = make_history(days=DAYS, end=END)
    rows[(rows["region"] == "eu") & (rows["class"] != "standard")].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def planner_url(history: Path) -> Iterator[str]:
    port = choose_port()
    environ = {**os.environ, "HALFDROP_PLANNER_LEARN_DAYS": "1", "HALFDROP_PLANNER_SHARDS": "1"}
    command = [sys.executable, "-m", "halfdrop.forecaster", "--history", str(history), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if '"planner_ready"' in line:
                break
        else:
            pytest.fail("the forecaster ended before it was ready:\n" + "".join(lines))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=20)


@pytest.fixture
def page(chromium: Browser, planner_url: str) -> Iterator[Page]:
    """The page once everything is learnt; at the end it must have had no complaint, and asked nobody else."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light", accept_downloads=True)
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(f"uncaught: {error}"))
    page.on("console", lambda message: _note(troubles, message))
    page.on("request", lambda request: None if _is_own(request.url, planner_url) else troubles.append(request.url))
    page.add_init_script(
        'addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`));'
    )
    page.goto(planner_url)
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    expect(page.locator("#learning")).to_be_hidden(timeout=60_000)
    yield page
    context.close()
    assert troubles == []


def _note(troubles: list[str], message: ConsoleMessage) -> None:
    # Chromium reports every answer that is a refusal; one test provokes it on purpose.
    if message.type in ("error", "warning") and "status of 422" not in message.text:
        troubles.append(message.text)


def _is_own(url: str, planner_url: str) -> bool:
    return url.startswith((planner_url, "blob:", "data:"))


def colours_in(page: Page, selector: str) -> int:
    """Return how many colours a part of the page shows: an empty chart has two or three."""
    with Image.open(BytesIO(page.locator(selector).screenshot())) as picture:
        return len(picture.convert("RGB").quantize(64).getcolors() or [])


def test_the_page_shows_demand_plan_and_reasons_and_follows_choices_by_keyboard(page: Page) -> None:
    expect(page.locator("#whence")).to_contain_text("From the file weeks.csv, as of Thu 19 Nov, 12:40 UTC; 2 series")
    expect(page.locator("[data-figure=plan] dd")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator(".plan .why")).not_to_be_empty()
    expect(page.locator("#verdict")).to_contain_text("Believed")
    expect(page.locator("#coverage dd").first).to_contain_text("%")
    expect(page.locator("#spend-note")).to_contain_text("$2.00 (assumed)")
    assert colours_in(page, "#demand-chart") > 20
    expect(page.locator(".plan .why")).to_contain_text("late seconds cost", ignore_case=True)
    expect(page.locator(".plan .note").last).to_contain_text("× an idle GPU second (")
    expect(page.locator("#parts tbody th")).to_have_text(["bulk", "realtime"])
    expect(page.locator("#parts tfoot")).to_contain_text("Together")
    page.keyboard.press("1")
    expect(page.locator("input[value='6h']")).to_be_checked()
    assert page.url.endswith("range=6h")
    page.keyboard.press("c")
    expect(page.locator("#class")).to_be_focused()
    page.locator("#class").select_option("bulk")
    expect(page.locator("#csv")).to_have_attribute("href", re.compile("class=bulk&range=6h"))
    page.locator("#demand-chart").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).to_contain_text("about")
    page.keyboard.press("d")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("#class")).to_have_value("bulk")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_stretch_that_is_dragged_over_is_looked_at_more_closely(page: Page) -> None:
    box = page.locator("#demand-chart .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    expect(page.locator("#zoom-out")).to_be_visible()
    expect(page.locator("#csv")).to_have_attribute("href", re.compile("from="))
    page.keyboard.press("z")
    expect(page.locator("#zoom-out")).to_be_hidden()


def test_an_event_is_announced_shown_and_taken_out(page: Page) -> None:
    page.keyboard.press("e")
    expect(page.locator("#event-form [name=name]")).to_be_focused()
    page.keyboard.type("Autumn drop")
    expect(page.locator("#event-learnt")).to_contain_text("No past campaign to learn from")
    page.locator("#event-form [name=uplift]").fill("5000")
    page.locator("#event-form button").click()
    expect(page.locator("#event-note")).to_contain_text("0.01 to 1000")
    expect(page.locator("#event-form [name=uplift]")).to_have_attribute("aria-invalid", "true")
    page.locator("#event-form [name=uplift]").fill("3")
    page.locator("#event-form button").click()
    row = page.locator("#events tbody tr")
    expect(row).to_contain_text("Autumn drop")
    expect(row).to_contain_text("× 3")
    row.get_by_role("button").click()
    expect(page.locator("#events")).to_contain_text("Nobody has announced anything")


def test_a_scenario_is_replayed_compared_saved_and_applied(page: Page) -> None:
    page.locator("#what-if-days").select_option("1")
    page.keyboard.press("w")
    expect(page.locator("#slider-late")).to_be_focused()
    page.locator("#slider-boot").fill("60")
    page.locator("#slider-least").fill("20")
    expect(page.locator("[data-slider=boot] output")).to_have_text("1 min")
    expect(page.locator("[data-slider=price]")).not_to_have_class(re.compile("moved"))
    page.locator("#slider-late").focus()
    page.keyboard.press("w")
    expect(page.locator("#outcome progress")).to_be_visible()
    expect(page.locator("#what-if-sentence")).to_contain_text("a month", timeout=REPLAY_TIMEOUT_MS)
    assert page.locator("#outcome tbody tr").count() == 4
    with page.expect_download() as saved:
        page.locator("#what-if-yaml").click()
    text = saved.value.path().read_text()
    assert "kind: CapacityPolicy" in text
    assert "minReplicas: 20" in text
    page.locator("#what-if-apply").click()
    expect(page.locator("#what-if-note")).to_contain_text("It is the policy of this process now")
    assert page.evaluate("fetch('/v1/policies/eu/all').then((a) => a.json()).then((p) => p.terms.boot_max_s)") == 61


def test_a_replay_is_called_off(page: Page) -> None:
    page.locator("#what-if-days").select_option("7")
    page.locator("#what-if-run").click()
    expect(page.locator("#what-if-run")).to_contain_text("Call it off")
    page.locator("#what-if-run").click()
    expect(page.locator("#outcome")).to_contain_text("Called off")


def test_what_is_shown_is_saved_as_csv_and_as_a_picture(page: Page) -> None:
    with page.expect_download() as saved:
        page.keyboard.press("x")
    lines = saved.value.path().read_text().splitlines()
    assert lines[0].startswith("time,t,gpus")
    assert len(lines) > 200
    with page.expect_download() as saved:
        page.keyboard.press("p")
    with Image.open(saved.value.path()) as picture:
        assert picture.size[0] > 600
        assert len(picture.convert("RGB").quantize(64).getcolors() or []) > 20


def test_new_minutes_in_the_file_appear_without_a_reload(page: Page, history: Path) -> None:
    before = int(page.evaluate("document.body.dataset.revision"))
    rows = make_history(days=DAYS, end=END)
    newest = rows[(rows["region"] == "eu") & (rows["class"] == "realtime")].tail(1)
    with history.open("a") as file:
        file.write(newest.assign(minute="2026-11-19 12:40:00").to_csv(index=False, header=False))
    expect(page.locator("#whence")).to_contain_text("12:41")
    page.wait_for_function("(before) => Number(document.body.dataset.revision) > before", arg=before)
    assert json.loads(page.evaluate("fetch('/healthz').then((answer) => answer.text())"))["status"] == "ok"


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
