"""Exact colours in a prompt: named for the model, and put back where the model painted those names."""

import pytest

from halfdrop.models.hex_colours import read_hex, restore_hex, spell_hex
from halfdrop.models.house.palettes import COLOUR_NAMES, COLOURS_255, mixed, rgb, shade_of
from halfdrop.models.house.tokenizer import fold

Rgb = tuple[float, float, float]


def painted(*colours: str | Rgb) -> list[str]:
    """Return a palette as the model's head chooses it, in whole levels."""
    found = [rgb(colour) if isinstance(colour, str) else colour for colour in colours]
    levels = [[round(channel * 255) for channel in colour] for colour in found]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in levels]


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("#ff8800 stars on #141e5a", "(orange) stars on (navy)"),
        ("#F80 stars", "(orange) stars"),
        ("#f08020 stars on orange", "(mustard) stars on orange"),
        ("#f08020 and #f08121 stars", "(orange) and (mustard) stars"),
        ("#f08020 stars and #F08020 dots", "(orange) stars and (orange) dots"),
        ("light #2060c0 dots, no grey", "light (blue) dots, no grey"),
        ("dots #12345 and #1234567 and #ggg", "dots #12345 and #1234567 and #ggg"),
        ("no. #1 dots", "no. #1 dots"),
    ],
)
def test_each_exact_colour_becomes_the_nearest_name_that_is_free(prompt: str, named: str) -> None:
    assert read_hex(prompt)[0] == named


def test_a_neighbour_does_not_turn_a_name_into_another() -> None:
    named, (substitution,) = read_hex("light #2060c0 dots")
    assert substitution.name == "blue"
    assert fold(named) == ["blue", "dot"]


def test_only_names_that_the_model_knows_stand_in() -> None:
    _, (substitution,) = read_hex("#9eae88 leaves", names=("white", "green"))
    assert substitution.name in ("white", "green")
    assert read_hex("#9eae88 leaves", names=())[0] == "#9eae88 leaves"


def test_one_colour_has_one_spelling() -> None:
    assert spell_hex("#ABC dots on #AABBCC, #1 in #Abcdef") == "#aabbcc dots on #aabbcc, #1 in #abcdef"


@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_the_slot_painted_in_a_name_gets_the_exact_colour_and_no_other_does(name: str) -> None:
    red, green, blue = COLOURS_255[name]
    colour = f"#{red ^ 5:02x}{green ^ 3:02x}{blue ^ 7:02x}"
    _, substitutions = read_hex(f"{colour} stars")
    assert substitutions[0].name == name
    others = [other for other in COLOUR_NAMES if other != name]
    for start in range(0, len(others) - 3, 4):
        palette = painted(others[start], name, *others[start + 1 : start + 4])
        assert restore_hex(palette, substitutions) == (palette[0], colour, *palette[2:])


def test_both_roles_are_restored_whatever_their_order() -> None:
    _, substitutions = read_hex("#ff8800 stars on #141e5a with #fefefe outline")
    palette = painted("navy", "orange", "white", "teal", "teal")
    assert restore_hex(palette, substitutions)[:3] == ("#141e5a", "#ff8800", "#fefefe")


def test_the_passes_of_a_gingham_are_mixed_from_the_exact_colours() -> None:
    _, substitutions = read_hex("#2f4f4f gingham on white")
    name = substitutions[0].name
    passes = mixed(rgb("white"), rgb(name))
    ground, first, second, crossing, _ = restore_hex(painted("white", passes, passes, name, "teal"), substitutions)
    assert crossing == "#2f4f4f"
    assert first == second
    halves = [(int(ground[at : at + 2], 16) + int(crossing[at : at + 2], 16)) // 2 for at in (1, 3, 5)]
    assert first == "#{:02x}{:02x}{:02x}".format(*halves)


def test_the_shades_of_a_cloth_follow_its_exact_colour() -> None:
    _, substitutions = read_hex("#30a048 camouflage on white")
    green = rgb("green")
    palette = painted("white", green, shade_of(green, 1), shade_of(green, 2), "teal")
    restored = restore_hex(palette, substitutions)
    assert restored[1] == "#30a048"
    assert restored[2] != palette[2]
    assert restored[3] != palette[3]
    assert (restored[0], restored[4]) == (palette[0], palette[4])


def test_a_prompt_without_exact_colours_changes_nothing() -> None:
    palette = painted("navy", "orange", "white", "teal", "teal")
    assert restore_hex(palette, read_hex("orange stars on navy")[1]) == tuple(palette)
