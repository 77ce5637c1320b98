"""Unknown words are read as the nearest known ones, foretellably, and what has nothing near is left out and told."""

import time

import pytest

from halfdrop.models.house.pattern_words import NEAREST, NOTHING_NEAR
from halfdrop.models.house.reading import Reading, affirm, read_words
from halfdrop.models.house.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("prompt", "read", "read_as"),
    [
        ("sunflowers on navy", "daisies on navy", {"sunflowers": "daisies"}),
        ("red polkadtos on white", "red polka dots on white", {"polkadtos": "polka dots"}),
        ("seemless stras on bleu", "seamless stars on blue",
         {"seemless": "seamless", "stras": "stars", "bleu": "blue"}),
        ("turqoise strpes on cremson", "turquoise stripes on crimson",
         {"turqoise": "turquoise", "strpes": "stripes", "cremson": "crimson"}),
        ("sunflwers", "daisies", {"sunflwers": "daisies"}),
        ("dasies witout leaves", "daisies without leaves", {"dasies": "daisies", "witout": "without"}),
        ("maple leaf print", "leaf print", {"maple": "leaves"}),
        ("tiger stripes, orange", "zebra stripes, orange", {"tiger": "zebra stripes"}),
        ("roses and peonies on sage", "blossoms on sage", {"roses": "blossoms", "peonies": "blossoms"}),
        ("no roses, red stars", "no blossoms, red stars", {"roses": "blossoms"}),
        ("#ff8800 sunflowers on #102030", "#ff8800 daisies on #102030", {"sunflowers": "daisies"}),
    ],
)  # fmt: skip
def test_the_nearest_known_word_is_drawn_and_told(
    prompt: str, read: str, read_as: dict[str, str], tokenizer: Tokenizer
) -> None:
    reading = read_words(prompt, tokenizer)
    assert (reading.prompt, dict(reading.read_as), reading.unknown_words) == (read, read_as, ())


@pytest.mark.parametrize(
    ("prompt", "left", "unknown"),
    [
        ("cats and dogs on navy", "on navy", ("cats", "dogs")),
        ("bees with daisies, yellow ground", "daisies, yellow ground", ("bees",)),
        ("boats, clouds", "clouds", ("boats",)),
        ("daisies with crowns on red", "daisies on red", ("crowns",)),
        ("daisies without zorkmids on red", "daisies on red", ("zorkmids",)),
        ("vintage zorkmid stars", "stars", ("vintage", "zorkmid")),
    ],
)
def test_what_has_nothing_near_is_left_out_and_told(
    prompt: str, left: str, unknown: tuple[str, ...], tokenizer: Tokenizer
) -> None:
    assert read_words(prompt, tokenizer) == Reading(prompt=left, unknown_words=unknown)


@pytest.mark.parametrize("word", ["cat", "dogs", "crown", "crows", "ships", "steps", "lions", "bears", "hats", "form"])
def test_another_word_is_never_taken_for_a_slip_of_the_pen(word: str, tokenizer: Tokenizer) -> None:
    assert read_words(f"{word} on navy", tokenizer).read_as == ()


def test_a_prompt_of_unknown_words_alone_stays_as_it_is(tokenizer: Tokenizer) -> None:
    assert read_words("something new", tokenizer) == Reading(prompt="something new", unknown_words=("something", "new"))


@pytest.mark.parametrize(
    "prompt", ["red polka dots on white", "burnt orange hearts on duck egg blue", "", "no red", "#ff8800 dots"]
)
def test_a_prompt_of_known_words_is_not_touched(prompt: str, tokenizer: Tokenizer) -> None:
    assert read_words(prompt, tokenizer) == Reading(prompt=prompt)


@pytest.mark.parametrize("prompt", ["sunflwers and cats, seemless", "palm trees with parrots in turqoise"])
def test_reading_twice_changes_nothing(prompt: str, tokenizer: Tokenizer) -> None:
    once = read_words(prompt, tokenizer).prompt
    assert read_words(once, tokenizer) == Reading(prompt=once)


def test_everything_that_is_drawn_instead_is_known_and_nothing_is_in_both_tables(tokenizer: Tokenizer) -> None:
    assert not [thing for thing in NEAREST.values() if tokenizer.unknown_words(thing)]
    assert not NOTHING_NEAR & NEAREST.keys()


def test_a_thing_that_a_small_vocabulary_has_not_is_never_promised() -> None:
    small = Tokenizer.build(["red stars on white"])
    assert read_words("sunflowers on white", small) == Reading(prompt="on white", unknown_words=("sunflowers",))


def test_a_negative_prompt_keeps_out_what_it_denies() -> None:
    assert affirm("no outlines, without any red") == "outlines, red"


def test_the_longest_prompt_of_slips_is_read_at_once(tokenizer: Tokenizer) -> None:
    prompt = " ".join(f"sta{chr(97 + at % 26)}{chr(97 + at // 26)}ripeing" for at in range(90))[:1000]
    started = time.process_time()
    reading = read_words(prompt, tokenizer)
    assert time.process_time() - started < 0.2
    assert reading.prompt == prompt
