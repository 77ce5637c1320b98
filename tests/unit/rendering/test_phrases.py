"""Words of layout and scale leave the prompt and become a lattice; everything else stays."""

import time

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import PROMPT_MAX_CHARS
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.phrases import DEFAULT_UNITS, UNITS_BY_SCALE, read_phrases

HALF_DROP = Repeat(layout="half-drop", drop="1/2", units=4)
BRICK = Repeat(layout="brick", drop="1/2", axis="rows", units=4)
MIRROR = Repeat(layout="mirror", units=4)


def drop(fraction: str, units: int, axis: str = "columns") -> Repeat:
    return Repeat(layout="drop", drop=fraction, axis="rows" if axis == "rows" else "columns", units=units)


@pytest.mark.parametrize(
    ("prompt", "left", "repeat"),
    [
        ("red dots in a half-drop layout on white", "red dots on white", HALF_DROP),
        ("half drop red stars", "red stars", HALF_DROP),
        ("Red Stars, HALF-DROP", "red stars", HALF_DROP),
        ("½ drop dots", "dots", HALF_DROP),
        ("half-drop repeat of red stars on white", "red stars on white", HALF_DROP),
        ("stars laid out in a half drop", "stars", HALF_DROP),
        ("red dots (half drop) on white", "red dots on white", HALF_DROP),
        ("navy ground with a half-drop of stars", "navy ground with stars", HALF_DROP),
        ("half-drop and mirrored red dots", "red dots", HALF_DROP),
        ("red dots, brick", "red dots", BRICK),
        ("stars in a brick layout", "stars", BRICK),
        ("stars in brick repeat on navy", "stars on navy", BRICK),
        ("half-drop by rows, dots", "dots", BRICK),
        ("red leaves mirrored", "red leaves", MIRROR),
        ("mirrored leaves on navy", "leaves on navy", MIRROR),
        ("leaves in a mirror repeat", "leaves", MIRROR),
        ("daisies 1/3 drop", "daisies", drop("1/3", 3)),
        ("third drop daisies", "daisies", drop("1/3", 3)),
        ("two-thirds drop hearts", "hearts", drop("2/3", 3)),
        ("quarter drop of leaves", "leaves", drop("1/4", 4)),
        ("dots in a third brick layout", "dots", drop("1/3", 3, "rows")),
        ("2/4 drop dots", "dots", HALF_DROP),
        ("black dots in a grid layout", "black dots", Repeat(units=4)),
        ("straight repeat of black dots", "black dots", Repeat(units=4)),
    ],
)
def test_a_layout_in_words_becomes_the_lattice(prompt: str, left: str, repeat: Repeat) -> None:
    read = read_phrases(prompt)
    assert (read.prompt, read.repeat) == (left, repeat)
    assert read.names_layout


@pytest.mark.parametrize(
    ("prompt", "left", "units"),
    [
        ("big red dots", "red dots", 2),
        ("a large red star on navy", "red star on navy", 2),
        ("very large hearts", "hearts", 1),
        ("giant hearts", "hearts", 1),
        ("large-scale paisley", "paisley", 2),
        ("in a large scale, red hearts", "red hearts", 2),
        ("medium red dots", "red dots", 4),
        ("small-sized gold ogee", "gold ogee", 6),
        ("hearts and small stars on white", "hearts and stars on white", 6),
        ("white background with big red dots", "white background with red dots", 2),
        ("extra small daisies", "daisies", 8),
        ("ditsy floral", "floral", 8),
        ("micro dots", "dots", 12),
        ("thin large stripes", "thin stripes", 2),
    ],
)
def test_a_scale_in_words_becomes_the_number_of_units(prompt: str, left: str, units: int) -> None:
    read = read_phrases(prompt)
    assert (read.prompt, read.repeat.units) == (left, units)
    assert read.names_scale


@pytest.mark.parametrize(
    "prompt",
    [
        "brick red stripes on cream",
        "dots on brick red",
        "a brick wall",
        "bricks and mortar",
        "red brick",
        "mirror balls",
        "straight lines",
        "grid of dots",
        "block print flowers",
        "wide stripes",
        "thin diagonal stripes",
        "rain drops, half blue",
        "water drops",
        "midnight blue",
        "set of stars",
        "microscopes",
    ],
)
def test_words_that_only_sound_like_layouts_stay(prompt: str) -> None:
    read = read_phrases(prompt)
    assert read.prompt == prompt
    assert read.repeat == Repeat(units=DEFAULT_UNITS)
    assert not read.names_layout
    assert not read.names_scale


@pytest.mark.parametrize("word", UNITS_BY_SCALE)
def test_every_word_of_scale_leaves_the_colour_and_the_motif(word: str) -> None:
    read = read_phrases(f"{word} coral stars on navy, half-drop")
    assert read.prompt == "coral stars on navy"
    assert read.repeat == Repeat(layout="half-drop", units=UNITS_BY_SCALE[word]).normalise()


def test_the_scale_of_a_detail_is_taken_out_but_does_not_count() -> None:
    read = read_phrases("daisies with small centres on navy")
    assert read.prompt == "daisies with centres on navy"
    assert read.repeat.units == DEFAULT_UNITS
    assert read_phrases("daisies with small centres, tiny").repeat.units == UNITS_BY_SCALE["tiny"]


def test_both_ways_to_write_a_prompt_meet() -> None:
    ways = ["small red stars, half-drop", "half-drop small red stars", "red stars in a half drop repeat, small scale"]
    assert len({(read_phrases(way).prompt, read_phrases(way).repeat) for way in ways}) == 1


def test_reading_twice_changes_nothing() -> None:
    once = read_phrases("a large half-drop repeat of pink peonies with tiny green leaves").prompt
    assert once == "pink peonies with green leaves"
    assert read_phrases(once).prompt == once


def test_a_prompt_of_layout_words_alone_leaves_nothing_to_draw() -> None:
    assert read_phrases("small half-drop").prompt == ""


def test_a_drop_that_no_mill_lays_is_refused_with_its_words() -> None:
    with pytest.raises(InvalidInput, match=r"prompt: got '1/9 drop'"):
        read_phrases("stars in a 1/9 drop")
    with pytest.raises(InvalidInput, match="1/0 drop"):
        read_phrases("1/0 drop stars")


@pytest.mark.parametrize("piece", ["straight ", "in a ", "half ", "a ", "very ", "1/3", "small scale ", "with ", ","])
def test_a_long_prompt_of_one_piece_is_read_at_once(piece: str) -> None:
    prompt = piece * (PROMPT_MAX_CHARS // len(piece))
    started = time.process_time()
    read_phrases(prompt)
    assert time.process_time() - started < 0.1
