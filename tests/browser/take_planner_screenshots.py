"""Take the README's pictures of the planner: python tests/browser/take_planner_screenshots.py URL

Writes docs/images/planner-light.png and planner-dark.png: the forecaster looks at what planner_history.py writes, two
events are announced, and a scenario is replayed. Run it again whenever the page changes.
"""

import json
import shutil
import sys
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTH_PX, HEIGHT_PX = 1440, 960
COLOURS = 256
TIMEOUT_MS = 240_000
EVENTS = (("Autumn sale", "sale", -5 * 86_400, 8, 1.5), ("Advent collection", "drop", 13 * 3600, 8, 1.6))
"""Name, kind, seconds from now, hours, uplift."""


def main(url: str) -> None:
    """Take both pictures."""
    announce(url)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        save(open_page(browser, url, "region=eu&range=week", "light"), "planner-light.png")
        dark = open_page(browser, url, "region=eu&range=month", "dark")
        dark.locator("#slider-boot").fill("120")
        dark.locator("#slider-spot").fill("0.4")
        dark.locator("#what-if-run").click()
        dark.locator("#what-if-sentence").wait_for(timeout=TIMEOUT_MS)
        dark.locator(".pair").evaluate("(element) => scrollTo(0, element.offsetTop - 12)")
        save(dark, "planner-dark.png")
        browser.close()


def announce(url: str) -> None:
    """Enter the events, if nobody has yet."""
    with urllib.request.urlopen(f"{url}/v1/events") as answer:
        if json.load(answer):
            return
    with urllib.request.urlopen(f"{url}/v1/scopes") as answer:
        now = json.load(answer)["now"]
    for name, kind, after_s, hours, uplift in EVENTS:
        start = now + after_s
        event = {"name": name, "kind": kind, "start": start, "end": start + hours * 3600, "uplift": uplift}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/events", json.dumps(event).encode(), headers)
        urllib.request.urlopen(request).close()


def open_page(browser: Browser, url: str, fragment: str, scheme: str) -> Page:
    """Return the page once everything is learnt and drawn."""
    page = browser.new_page(
        viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page.goto(f"{url}/#{fragment}")
    page.locator("body[data-state=ready]").wait_for(timeout=TIMEOUT_MS)
    page.locator("#learning").wait_for(state="hidden", timeout=TIMEOUT_MS)
    page.wait_for_timeout(1_500)
    return page


def save(page: Page, name: str) -> None:
    """Write what the page shows as a small PNG."""
    with Image.open(BytesIO(page.screenshot())) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8090")
