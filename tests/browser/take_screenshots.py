"""Take the README's pictures of the studio from a running edge: python tests/browser/take_screenshots.py URL

Writes docs/images/studio-light.png and studio-dark.png. Run it again whenever the model or the page changes.
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTH_PX, HEIGHT_PX = 1440, 900
COLOURS = 256
"""A page and a pattern need fewer than that; a PNG with a palette is half as large."""

TIMEOUT_MS = 60_000

LIGHT = "prompt=white+daisies+with+yellow+centres+on+green,+half-drop"
DARK = "prompt=crimson+cherries+with+green+stems+on+ivory&layout=half-drop&units=4"


def main(url: str) -> None:
    """Take both pictures."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        light = open_page(browser, url, LIGHT, "light")
        save(light, "studio-light.png")
        dark = open_page(browser, url, DARK, "dark")
        dark.keyboard.press("Control+Enter")
        dark.locator(".card[data-status=succeeded]").first.wait_for(timeout=TIMEOUT_MS)
        dark.keyboard.press("g")
        save(dark, "studio-dark.png")
        browser.close()


def open_page(browser: Browser, url: str, fragment: str, scheme: str) -> Page:
    """Return the studio with its picture and its four variations drawn."""
    page = browser.new_page(
        viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page.goto(f"{url}/#{fragment}")
    page.locator("#stage[data-state=ready]").wait_for(timeout=TIMEOUT_MS)
    page.locator("#variations button[style*=url]").nth(3).wait_for(timeout=TIMEOUT_MS)
    page.wait_for_load_state("networkidle")
    return page


def save(page: Page, name: str) -> None:
    """Write what the page shows as a small PNG."""
    with Image.open(BytesIO(page.screenshot())) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
