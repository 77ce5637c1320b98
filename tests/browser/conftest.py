"""The studio in headless Chromium, on a whole system of its own: real servers, a real edge, a real hub worker."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, expect, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
EXPECT_TIMEOUT_MS = 15_000
"""A page answers in milliseconds; two cores that train a model beside it may not."""

STOP_TIMEOUT_S = 40
THUMBNAIL_PX = 128

REPORT_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.violatedDirective} blocked ${event.blockedURI}`));"""


class Studio:
    """A page of the studio, what it asked the edge for, and everything it complained about."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.troubles: list[str] = []
        self.expected_words: list[str] = []
        """Words of console messages that a test provokes on purpose: Chromium reports every failed request."""

        self._previews: list[dict[str, Any]] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.troubles.append(f"uncaught: {error}"))
        page.on("request", self._on_request)
        page.add_init_script(REPORT_VIOLATIONS)

    def open(self, fragment: str = "") -> "Studio":
        """Open the page and wait until its first picture is on the cloth."""
        self.page.goto(f"{self.url}/#{fragment}")
        self.expect_ready()
        return self

    def expect_ready(self) -> None:
        """Wait until the cloth shows the newest design."""
        expect(self.stage).to_have_attribute("data-state", "ready")

    def expect_new_picture(self, old_key: str) -> str:
        """Wait until the cloth shows another pattern than `old_key`, and return its key."""
        expect(self.stage).not_to_have_attribute("data-key", old_key)
        self.expect_ready()
        return self.key

    @property
    def stage(self) -> Any:
        return self.page.locator("#stage")

    @property
    def key(self) -> str:
        return str(self.stage.get_attribute("data-key"))

    @property
    def stage_requests(self) -> list[dict[str, Any]]:
        """Bodies of the previews asked for so far, the thumbnails of variations left out."""
        return [body for body in self._previews if body["size_px"] > THUMBNAIL_PX]

    def intercept(self, handle: Callable[[Route], object]) -> None:
        """Hand requests for the cloth's picture to `handle`; thumbnails of variations pass."""

        def choose(route: Route) -> None:
            if read_body(route.request)["size_px"] > THUMBNAIL_PX:
                handle(route)
            else:
                route.continue_()

        self.page.route("**/v1/previews", choose)

    def note(self, field: str) -> Any:
        return self.page.locator(f"[data-note={field}]")

    def _on_request(self, request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/v1/previews"):
            self._previews.append(read_body(request))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if not any(words in message.text for words in self.expected_words):
            self.troubles.append(message.text)


def read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request carries."""
    body = request.post_data_json
    assert isinstance(body, dict), f"{request.url} carries no JSON object"
    return body


OpenStudio = Callable[..., Studio]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directory of the module's system."""
    return tmp_path_factory.mktemp("studio") / "data"


@pytest.fixture(scope="module")
def system_url(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[str]:
    """Address of an edge, with as many hub workers as the module says by HUBS, and its ENVIRON."""
    hubs = str(getattr(request.module, "HUBS", 0))
    environ = {**os.environ, **getattr(request.module, "ENVIRON", {})}
    command = [
        str(Path(sys.executable).with_name("halfdrop")),
        "up",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
        "--hubs",
        hubs,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as process:
        try:
            yield _read_url(process)
        finally:
            process.terminate()
            process.communicate(timeout=STOP_TIMEOUT_S)


def _read_url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready "):
            return line.split()[1]
    pytest.fail("`halfdrop up` ended before it was ready:\n" + "".join(lines))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the machine; fails, and never skips, where there is none."""
    program = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail("Chromium is missing; on Debian or Ubuntu: apt-get install --yes chromium")
    expect.set_options(timeout=EXPECT_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_studio(chromium: Browser, system_url: str) -> Iterator[OpenStudio]:
    """`studio = open_studio(fragment, **context_options)`; at the end, the page must have had no complaint."""
    opened: list[tuple[BrowserContext, Studio]] = []

    def open_one(fragment: str = "prompt=red+polka+dots+on+white", **options: Any) -> Studio:
        context = chromium.new_context(**{"viewport": {"width": 1024, "height": 720}, **options})
        studio = Studio(context.new_page(), system_url)
        opened.append((context, studio))
        return studio.open(fragment)

    yield open_one
    for context, _ in opened:
        context.close()
    assert [trouble for _, studio in opened for trouble in studio.troubles] == []
