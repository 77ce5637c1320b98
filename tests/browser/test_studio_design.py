"""Designing in the studio: what changes on the bench reaches the edge, and its picture reaches the cloth."""

import json
import re
import urllib.request
from typing import Any

from playwright.sync_api import Route, expect

LAYOUTS = {
    "straight": {"layout": "straight", "units": 4},
    "half-drop": {"layout": "half-drop", "units": 4},
    "brick": {"layout": "brick", "units": 4},
    "third-drop": {"layout": "drop", "drop": "1/3", "axis": "columns", "units": 4},
    "mirror": {"layout": "mirror", "units": 4},
}


def test_the_pattern_of_a_link_fills_the_cloth(open_studio: Any) -> None:
    studio = open_studio("prompt=navy+stripes+on+cream&layout=brick&units=6&seed=11")
    picture = studio.page.locator(".cloth-layer").last.evaluate("layer => getComputedStyle(layer).backgroundImage")
    assert studio.key in picture
    assert studio.stage_requests[-1]["repeat"] == {"layout": "brick", "units": 6}
    assert studio.stage_requests[-1]["seed"] == 11
    expect(studio.page.locator("#prompt")).to_have_value("navy stripes on cream")
    expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile("navy stripes on cream.*brick"))
    expect(studio.page.locator("#selvedge-text")).to_contain_text("seed 11")


def test_typing_changes_the_picture_once_the_hand_rests(open_studio: Any) -> None:
    studio = open_studio()
    before, asked = studio.key, len(studio.stage_requests)
    words = "green leaves on beige"
    studio.page.locator("#prompt").fill("")
    studio.page.locator("#prompt").press_sequentially(words, delay=15)
    studio.expect_new_picture(before)
    expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile(words))
    bodies = studio.stage_requests[asked:]
    assert bodies[-1]["prompt"] == words
    assert len(bodies) < len(words) / 2, "every key stroke asked for a picture"


def test_a_newer_design_cancels_the_request_for_an_older_one(open_studio: Any) -> None:
    studio = open_studio()
    cancelled: list[str] = []
    studio.page.on("requestfailed", lambda request: cancelled.append((request.post_data_json or {})["prompt"]))

    def answer_unless_slow(route: Route) -> None:
        if (route.request.post_data_json or {})["prompt"] != "slow":
            route.continue_()

    studio.intercept(answer_unless_slow)
    before = studio.key
    studio.page.locator("#prompt").fill("slow")
    studio.page.keyboard.press("Enter")
    expect(studio.stage).to_have_attribute("data-state", "loading")
    studio.page.locator("#prompt").fill("pink hearts")
    studio.page.keyboard.press("Enter")
    studio.expect_new_picture(before)
    expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile("pink hearts"))
    assert "slow" in cancelled


def test_the_old_picture_stays_while_the_next_one_loads(open_studio: Any) -> None:
    studio = open_studio()
    held: list[Route] = []
    studio.intercept(held.append)
    layer = studio.page.locator(".cloth-layer").last
    before = layer.evaluate("layer => layer.style.backgroundImage")
    studio.page.locator("#prompt").fill("blue and white gingham")
    expect(studio.stage).to_have_attribute("data-state", "loading")
    assert layer.evaluate("layer => layer.style.backgroundImage") == before
    assert layer.evaluate("layer => Number(getComputedStyle(layer).opacity)") == 1
    old_key = studio.key
    held[0].continue_()
    studio.expect_new_picture(old_key)


def test_choosing_a_layout_asks_for_that_lattice(open_studio: Any) -> None:
    studio = open_studio()
    for name, repeat in LAYOUTS.items():
        studio.page.locator(f"#layouts input[value={name}]").check(force=True)
        expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile(str(repeat["layout"])))
        assert studio.stage_requests[-1]["repeat"] == repeat


def test_words_for_the_layout_are_read_until_a_layout_is_chosen(open_studio: Any) -> None:
    studio = open_studio("prompt=red+dots+on+white,+half-drop")
    assert "repeat" not in studio.stage_requests[-1]
    expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile("half-drop"))
    studio.page.locator("#units").fill("6")
    expect(studio.page.locator("#cloth")).to_have_attribute("aria-label", re.compile("6 across"))
    assert studio.stage_requests[-1]["repeat"] == {"layout": "half-drop", "units": 6}
    expect(studio.page.locator("#layouts input[value=half-drop]")).to_be_checked()


def test_a_colour_of_ones_own_replaces_the_models_and_can_be_given_back(open_studio: Any) -> None:
    studio = open_studio()
    before = studio.key
    studio.page.locator("#colour-0").fill("#ff00aa")
    overridden = studio.expect_new_picture(before)
    assert studio.stage_requests[-1]["palette"] == ["#ff00aa"]
    expect(studio.page.locator(".swatch").first.locator(".hex")).to_have_text("#ff00aa")
    assert "palette=ff00aa" in studio.page.url
    assert count_pixels_near(studio, (255, 0, 170)) > 0.02, "the cloth does not show the colour chosen"
    studio.page.get_by_role("button", name="Ground: back to the model’s colour").click()
    assert studio.expect_new_picture(overridden) == before
    expect(studio.page.locator("#palette-reset")).to_be_hidden()


def test_one_upper_colour_keeps_the_models_own_below_it(open_studio: Any) -> None:
    studio = open_studio()
    own = studio.page.locator(".swatch .hex").all_text_contents()
    before = studio.key
    studio.page.locator("#colour-2").fill("#00ffcc")
    studio.expect_new_picture(before)
    assert studio.stage_requests[-1]["palette"] == [own[0], own[1], "#00ffcc"]
    studio.page.locator("#palette-reset").click()
    expect(studio.stage).to_have_attribute("data-key", before)


def test_a_seed_can_be_shuffled_typed_and_picked_from_variations(open_studio: Any) -> None:
    studio = open_studio("prompt=camouflage&seed=5")
    shuffled = studio.expect_new_picture(press(studio, "#shuffle"))
    assert studio.stage_requests[-1]["seed"] != 5
    studio.page.locator("#seed").fill("77")
    studio.expect_new_picture(shuffled)
    assert studio.stage_requests[-1]["seed"] == 77
    variation = studio.page.get_by_role("button", name="Seed 79")
    expect(variation).to_have_css("background-image", re.compile(r"/p/[0-9a-f]{32}\.webp"))
    before = studio.key
    variation.click()
    studio.expect_new_picture(before)
    assert studio.stage_requests[-1]["seed"] == 79
    expect(studio.page.locator("#seed")).to_have_value("79")


def test_what_to_keep_out_travels_with_its_strictness(open_studio: Any) -> None:
    studio = open_studio("prompt=red+dots&negative=yellow&guidance=3")
    body = studio.stage_requests[-1]
    assert (body["negative_prompt"], body["guidance_scale"]) == ("yellow", 3)
    expect(studio.page.locator("#finer")).to_have_attribute("open", "")


def test_time_and_cache_state_are_shown(open_studio: Any) -> None:
    prompt = "prompt=a+pattern+that+no+other+test+draws"
    first = open_studio(prompt)
    expect(first.page.locator("#timing")).to_have_text(re.compile(r"^drawn.* ms$"))
    again = open_studio(prompt)
    expect(again.page.locator("#timing")).to_have_text(re.compile(r"^hit.* ms$"))


def test_a_problem_is_told_beside_its_field_and_goes_away_with_its_cause(open_studio: Any) -> None:
    studio = open_studio()
    studio.expected_words.append("status of 422")
    studio.page.locator("#prompt").fill("x" * 1001)
    expect(studio.note("prompt")).to_contain_text("up to 1000 characters")
    expect(studio.page.locator("#prompt")).to_have_attribute("aria-invalid", "true")
    studio.page.locator("#prompt").fill("red dots")
    expect(studio.note("prompt")).to_have_text("")
    studio.page.locator("#seed").fill("4294967296")
    expect(studio.note("seed")).to_contain_text("0 to 4")
    studio.page.locator("#seed").fill("twelve")
    expect(studio.note("seed")).to_contain_text("whole number")


def test_words_that_the_model_does_not_know_are_named(open_studio: Any) -> None:
    studio = open_studio("prompt=red+polkadtos+with+xylophones")
    expect(studio.note("prompt")).to_contain_text("“polkadtos” read as polka dots.")
    expect(studio.note("prompt")).to_contain_text("“xylophone")


def test_a_busy_edge_is_tried_again_when_it_says(open_studio: Any) -> None:
    studio = open_studio()
    studio.expected_words.append("status of 429")
    busy = json.dumps({"title": "Too many requests", "status": 429, "detail": "64 previews wait already"})
    headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
    refused: list[Route] = []

    def refuse_once(route: Route) -> None:
        if refused:
            return route.continue_()
        refused.append(route)
        return route.fulfill(status=429, headers=headers, body=busy)

    studio.intercept(refuse_once)
    before = studio.key
    studio.page.locator("#prompt").fill("gold stars on navy")
    expect(studio.page.locator("#trouble")).to_have_text("64 previews wait already")
    studio.expect_new_picture(before)
    expect(studio.page.locator("#trouble")).to_be_hidden()


def test_an_edge_that_went_away_is_named_and_the_picture_stays_until_it_is_back(open_studio: Any) -> None:
    studio = open_studio()
    studio.expected_words.append("net::ERR_INTERNET_DISCONNECTED")
    before = studio.key
    studio.page.context.set_offline(True)
    studio.page.locator("#prompt").fill("white clouds on sky blue")
    expect(studio.page.locator("#trouble")).to_contain_text("The edge does not answer")
    expect(studio.stage).to_have_attribute("data-key", before)
    studio.page.context.set_offline(False)
    studio.expect_new_picture(before)
    expect(studio.page.locator("#trouble")).to_be_hidden()


def test_every_colour_and_member_of_a_design_survives_its_link(open_studio: Any) -> None:
    studio = open_studio()
    design = {
        "prompt": "café & crème, 50 % + more #1", "negative": "a=b", "seed": 4294967295, "layout": "third-drop",
        "units": 9, "steps": 7, "guidance": 2.5, "overrides": ["#000000", None, "#ffffff", None, "#abcdef"],
        "template": "wallpaper",
    }  # fmt: skip
    there_and_back = """async (design) => {
        const { fromFragment, toFragment } = await import("/studio/design.js");
        return fromFragment("#" + toFragment(design));
    }"""
    assert studio.page.evaluate(there_and_back, design) == design


def test_the_prompt_never_reaches_the_edge_in_an_address(open_studio: Any) -> None:
    studio = open_studio()
    addresses: list[str] = []
    studio.page.on("request", lambda request: addresses.append(request.url.split("#")[0]))
    studio.open("prompt=secret+collection")
    studio.page.reload()
    studio.expect_ready()
    assert addresses
    assert not [address for address in addresses if "secret" in address]


def test_borders_follow_the_lattice(open_studio: Any) -> None:
    studio = open_studio("prompt=red+dots&layout=half-drop&units=2")
    lattice = studio.page.locator("#lattice")
    expect(lattice).to_be_hidden()
    studio.page.locator("#lattice-toggle").click()
    expect(lattice).to_be_visible()
    tile = float(studio.page.locator("#lattice-pattern").get_attribute("width"))
    path = studio.page.locator("#lattice-units").get_attribute("d")
    starts = {tuple(map(float, point)) for point in re.findall(r"M([\d.]+) ([\d.]+)h", path)}
    assert starts == {(0, 0), (0, tile / 2), (tile / 2, tile / 4), (tile / 2, tile * 3 / 4)}


def test_zooming_in_fetches_a_sharper_preview_of_the_same_pattern(open_studio: Any) -> None:
    studio = open_studio()
    studio.page.locator("#zoom").fill("5")
    studio.page.locator("#prompt").fill("teal paisley on cream")
    studio.expect_new_picture(studio.key)
    assert int(studio.stage.get_attribute("data-px")) < 512
    key = studio.key
    studio.page.locator("#zoom").fill("100")
    layer = studio.page.locator(".cloth-layer").last
    expect(layer).to_have_css("background-image", re.compile(f"{key}.webp\\?px=512"))
    expect(layer).to_have_css("background-size", "1100px 1100px")


def test_the_page_and_its_parts_come_from_the_edge_alone(open_studio: Any) -> None:
    studio = open_studio()
    hosts = studio.page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)")
    assert set(hosts) == {studio.url.split("//")[1]}
    with urllib.request.urlopen(studio.url) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]


def press(studio: Any, selector: str) -> str:
    """Press a button and return the key that was on the cloth before."""
    key = str(studio.key)
    studio.page.locator(selector).click()
    return key


def count_pixels_near(studio: Any, colour: tuple[int, int, int]) -> float:
    """Return the share of the cloth's tile that has about this colour."""
    count = """async ([key, colour]) => {
        const image = await createImageBitmap(await (await fetch(`/p/${key}.webp?px=256`)).blob());
        const context = new OffscreenCanvas(256, 256).getContext("2d");
        context.drawImage(image, 0, 0);
        const { data } = context.getImageData(0, 0, 256, 256);
        let near = 0;
        for (let at = 0; at < data.length; at += 4) {
            near += colour.every((value, channel) => Math.abs(value - data[at + channel]) < 12) ? 1 : 0;
        }
        return near / (256 * 256);
    }"""
    return float(studio.page.evaluate(count, [studio.key, list(colour)]))
