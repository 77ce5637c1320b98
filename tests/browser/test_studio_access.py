"""The studio without a mouse, in the dark, on a phone: reachable, named, and never wider than its screen."""

import re
from typing import Any

from playwright.sync_api import expect

DARK, LIGHT = "rgb(25, 24, 22)", "rgb(246, 243, 237)"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_the_keyboard_reaches_everything_in_reading_order(open_studio: Any) -> None:
    studio = open_studio()
    studio.page.locator("body").focus()
    order = []
    for _ in range(40):
        studio.page.keyboard.press("Tab")
        order.append(studio.page.evaluate("document.activeElement.id || document.activeElement.value || 'other'"))
    assert order[0] == "other", "the skip link comes first"
    wanted = [
        "theme",
        "prompt",
        "auto",
        "units",
        "colour-0",
        "seed",
        "shuffle",
        "4096",
        "order-button",
        "cloth",
        "zoom",
    ]
    positions = [order.index(name) for name in wanted]
    assert positions == sorted(positions), order


def test_shortcuts_work_and_typing_is_left_alone(open_studio: Any) -> None:
    studio = open_studio()
    page = studio.page
    before = studio.key
    page.keyboard.press("s")
    studio.expect_new_picture(before)
    page.keyboard.press("g")
    expect(page.locator("#lattice")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help-dialog")).to_be_hidden()
    page.keyboard.press("o")
    expect(page.locator("#orders")).to_be_visible()
    page.keyboard.press("o")
    expect(page.locator("#orders")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("gs?")
    expect(page.locator("#prompt")).to_have_value("gs?")
    expect(page.locator("#help-dialog")).to_be_hidden()


def test_arrow_keys_walk_through_the_layouts(open_studio: Any) -> None:
    studio = open_studio()
    studio.page.locator("#layouts input[value=auto]").focus()
    studio.page.keyboard.press("ArrowRight")
    studio.page.keyboard.press("ArrowRight")
    expect(studio.page.locator("#layouts input[value=half-drop]")).to_be_checked()
    expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile("half-drop"))


def test_the_focus_can_be_seen(open_studio: Any) -> None:
    studio = open_studio()
    for selector in ("#theme", "#units", "#colour-0", "#shuffle", "#order-button", "#zoom"):
        studio.page.locator(selector).focus()
        studio.page.keyboard.press("Shift+Tab")
        studio.page.keyboard.press("Tab")
        outline = "element => { const s = getComputedStyle(element); return s.outlineStyle + ' ' + s.outlineWidth; }"
        assert studio.page.locator(selector).evaluate(outline) == "solid 2px", selector


def test_every_control_has_a_name(open_studio: Any) -> None:
    studio = open_studio()
    nameless = studio.page.evaluate("""() => [...document.querySelectorAll("button, input, textarea, select, a")]
        .filter((element) => element.checkVisibility())
        .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim()
            || [...(element.labels ?? [])].some((label) => label.textContent.trim())))
        .map((element) => element.outerHTML)""")
    assert nameless == []


def test_news_is_announced(open_studio: Any) -> None:
    studio = open_studio("prompt=white+moons+on+navy")
    expect(studio.page.locator("#announcer")).to_have_text(re.compile("^Drawn: white moons on navy"))


def test_dark_follows_the_system_until_it_is_chosen(open_studio: Any) -> None:
    studio = open_studio(color_scheme="dark")
    body = studio.page.locator(".panel")
    expect(body).to_have_css("background-color", DARK)
    studio.page.locator("#theme").click()
    expect(body).to_have_css("background-color", LIGHT)
    studio.page.reload()
    expect(body).to_have_css("background-color", LIGHT)


def test_text_keeps_its_contrast_in_both_themes(open_studio: Any) -> None:
    studio = open_studio()
    for theme in ("light", "dark"):
        studio.page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        for foreground in ("ink", "muted", "accent", "danger", "good"):
            assert contrast(studio, foreground, "paper") >= 4.5, (theme, foreground)


def test_a_phone_shows_cloth_and_bench_without_scrolling_sideways(open_studio: Any) -> None:
    studio = open_studio(**PHONE)
    page = studio.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#cloth").bounding_box()["height"] > 300
    page.locator("#shuffle").scroll_into_view_if_needed()
    expect(page.locator("#order-button")).to_be_in_viewport()
    expect(page.locator("#cloth")).to_be_in_viewport()
    page.locator("#orders-toggle").click()
    expect(page.locator("#orders-close")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def contrast(studio: Any, foreground: str, background: str) -> float:
    """Return the WCAG contrast of two of the page's colours."""
    read = "name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()"
    dark, light = sorted(luminance(str(studio.page.evaluate(read, name))) for name in (foreground, background))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb"."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
