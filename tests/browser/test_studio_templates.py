"""Templates in the studio: chosen in the order panel, shown on the cloth, ordered."""

import re
from typing import Any

from playwright.sync_api import expect

HUBS = 1


def test_a_template_is_chosen_shown_and_ordered(open_studio: Any) -> None:
    studio = open_studio("prompt=red+hearts+on+pink&seed=4001")
    page, before = studio.page, studio.key
    page.locator("#template").select_option(label="Background for a web page")
    expect(page.locator("#template-about")).to_contain_text("nothing for a press")
    expect(page.locator("#sizes label")).to_have_count(4)
    expect(page.locator("#sizes input:checked")).to_have_value("512")
    page.locator("#template").select_option(label="Block print, two colours")
    studio.expect_new_picture(before)
    expect(page.locator("#sizes input:checked")).to_have_value("1772")
    expect(page.locator("#sizes label").filter(has_text="1772")).to_contain_text("15.0 cm")
    shown = studio.key
    page.get_by_role("button", name=re.compile("Order print files")).click()
    card = page.locator(".card").first
    expect(card).to_have_attribute("data-status", "succeeded", timeout=60_000)
    expect(card.locator(".card-state")).to_contain_text("block-print · 1772 px")
    expect(card.get_by_role("link", name="Gate report")).to_be_visible()
    expect(card.locator(".thumb")).to_have_attribute("style", re.compile(shown))
    page.reload()
    expect(page.locator("#template")).to_have_value("block-print")
    expect(studio.stage).to_have_attribute("data-key", shown)
