"""Ordering in the studio: from the button to files on the disk, through reloads, broken streams and second thoughts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect

HUBS = 1


def test_an_order_shows_its_progress_and_ends_in_files(open_studio: Any, tmp_path: Path) -> None:
    studio = open_studio("prompt=red+polka+dots+on+white&seed=1001", accept_downloads=True)
    choose_size(studio, 1024)
    seen = watch_states(studio)
    studio.page.get_by_role("button", name=re.compile("Order print files")).click()
    expect(studio.page.locator("#orders")).to_be_visible()
    card = studio.page.locator(".card").first
    expect(card).to_have_attribute("data-status", "succeeded")
    expect(card.locator(".card-state")).to_have_text(re.compile(r"^1024 px · ready in [\d.]+ s$"))
    states = seen()
    assert any("step" in state for state in states), f"no progress was shown: {states}"
    with studio.page.expect_download() as arriving:
        card.get_by_role("link", name=re.compile("^Master")).click()
    master = tmp_path / arriving.value.suggested_filename
    arriving.value.save_as(master)
    assert master.name.endswith("master.png")
    with Image.open(master) as picture:
        assert picture.size == (1024, 1024)
    for name in ("SVG, all layers", "Proof, 3 × 3 repeats"):
        expect(card.get_by_role("link", name=name)).to_be_visible()


def test_orders_survive_a_reload(open_studio: Any) -> None:
    studio = open_studio("prompt=navy+stripes+on+white&seed=1002")
    choose_size(studio, 1024)
    studio.page.keyboard.press("Control+Enter")
    expect(studio.page.locator(".card").first).to_be_visible()
    order = studio.page.locator(".card").first.get_attribute("data-id")
    studio.page.reload()
    card = studio.page.locator(f".card[data-id='{order}']")
    studio.page.locator("#orders-toggle").click()
    expect(card).to_have_attribute("data-status", "succeeded")
    expect(card.locator(".card-title")).to_have_text("navy stripes on white")


def test_an_old_order_brings_its_design_back(open_studio: Any) -> None:
    studio = open_studio("prompt=green+leaves&seed=1003&layout=brick&units=6&palette=112233.445566")
    choose_size(studio, 1024)
    ordered = studio.key
    studio.page.locator("#order-button").click()
    expect(studio.page.locator(".card").first).to_be_visible()
    studio.page.locator("#prompt").fill("something else: stars")
    studio.expect_new_picture(ordered)
    studio.page.get_by_role("button", name="Back to this design").first.click()
    expect(studio.stage).to_have_attribute("data-key", ordered)
    expect(studio.page.locator("#prompt")).to_have_value("green leaves")
    expect(studio.page.locator("#layouts input[value=brick]")).to_be_checked()


def test_without_its_stream_an_order_is_polled(open_studio: Any) -> None:
    studio = open_studio("prompt=red+hearts&seed=1005")
    studio.page.route("**/stream", lambda route: route.fulfill(status=204))
    choose_size(studio, 1024)
    studio.page.locator("#order-button").click()
    expect(studio.page.locator(".card").first).to_have_attribute("data-status", "succeeded")


def test_a_refused_order_says_why_and_orders_nothing(open_studio: Any) -> None:
    studio = open_studio()
    studio.expected_words.append("status of 422")
    studio.page.locator("#prompt").fill("x" * 1001)
    studio.page.locator("#order-button").click()
    expect(studio.note("prompt")).to_contain_text("up to 1000 characters")
    expect(studio.page.locator("#orders")).to_be_hidden()


def test_an_order_can_be_cancelled(open_studio: Any) -> None:
    studio = open_studio("prompt=marble&seed=1004")
    # Two large ones first, so that the third surely waits: one worker takes them in turn.
    choose_size(studio, 8192)
    earlier = studio.page.locator(".card").count()
    for count in (1, 2, 3):
        studio.page.locator("#order-button").click()
        expect(studio.page.locator(".card")).to_have_count(earlier + count)
    card = studio.page.locator(".card").first
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_have_attribute("data-status", "canceled")
    expect(card.get_by_role("button", name="Cancel")).to_be_hidden()


def choose_size(studio: Any, size_px: int) -> None:
    studio.page.locator(f"#sizes input[value='{size_px}']").check(force=True)


def watch_states(studio: Any) -> Callable[[], list[str]]:
    """Collect every state line that a card shows from now on; call the result to read them."""
    studio.page.evaluate("""() => {
        window.states = [];
        new MutationObserver(() => {
            for (const line of document.querySelectorAll(".card-state")) window.states.push(line.textContent);
        }).observe(document.getElementById("orders-list"), { childList: true, subtree: true, characterData: true });
    }""")
    return lambda: list(studio.page.evaluate("window.states"))
