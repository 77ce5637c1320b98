"""Prompts to numbers: plurals and synonyms meet, and what the model does not know is told."""

import pytest

from halfdrop.models.hex_colours import read_hex
from halfdrop.models.house.colour_words import COLOUR_PAIRS, COLOUR_WORDS
from halfdrop.models.house.held_out import says_held_out_prompt
from halfdrop.models.house.held_out_prompts import HELD_OUT_PROMPTS, HeldOutPrompt
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.palettes import COLOURS_255
from halfdrop.models.house.prompts import PROMPTS_24
from halfdrop.models.house.tokenizer import LENGTH, PAD, UNKNOWN, Tokenizer, fold
from halfdrop.models.phrases import read_phrases


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("red stars on white", "a crimson star on white"),
        ("daisies", "daisy"),
        ("green leaves", "green leaf"),
        ("gray waves", "grey wave"),
        ("five-pointed stars", "5 point stars"),
        ("light blue fishes", "sky-blue fish"),
        ("seamless tartan pattern", "plaid"),
        ("narrow stripes", "Thin STRIPED"),
        ("plus crosses", "pluses cross"),
    ],
)
def test_words_that_mean_the_same_are_the_same_tokens(first: str, second: str, tokenizer: Tokenizer) -> None:
    assert fold(first) == fold(second)
    assert tokenizer.encode(first) == tokenizer.encode(second)
    assert UNKNOWN not in tokenizer.encode(first)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("daisies without leaves", ["daisy", "no", "leaf"]),
        ("leafless daisies on white", ["daisy", "on", "white", "no", "leaf"]),
        ("outline-free dots", ["dot", "no", "outline"]),
        ("dots, free of outline", ["dot", "no", "outline"]),
        ("dots free from veins", ["dot", "no", "vein"]),
        ("dots w/o outline", ["dot", "no", "outline"]),
        ("dots minus the outline", ["dot", "no", "outline"]),
        ("please don't use red, only blue stars", ["no", "red", "blue", "star"]),
        ("no veins, outline or dots", ["no", "vein", "outline", "no", "dot"]),
        ("hearts or stars", ["heart", "and", "star"]),
        ("no, not red", ["no", "red"]),
    ],
)
def test_every_form_of_denial_is_one_word_before_what_it_denies(prompt: str, tokens: list[str]) -> None:
    assert fold(prompt) == tokens


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("crimson, cobalt and sage stripes", ["red", "blue", "and", "sage", "stripe"]),
        ("eau de nil dots on burnt sienna", ["mint", "dot", "on", "rust"]),
        ("dark navy blue, duck-egg blue", ["navy", "skyblue"]),
        ("navy, blue and white", ["navy", "blue", "and", "white"]),
        ("cherry red hearts", ["red", "heart"]),
        ("cherries, red on cream", ["cherry", "red", "on", "cream"]),
        ("kelly green and racing green", ["green", "and", "forestgreen"]),
        ("bright coral on light gray", ["coral", "on", "silver"]),
    ],
)
def test_names_of_the_trade_fold_to_our_colours_and_a_comma_keeps_two_apart(prompt: str, tokens: list[str]) -> None:
    assert fold(prompt) == tokens


def test_every_name_of_a_colour_is_folded_to_one_of_ours() -> None:
    ours = {"".join(name.split()) for name in COLOURS_255}
    for word, name in COLOUR_WORDS.items():
        assert fold(word) == [name], word
        assert name in ours
    for pair in COLOUR_PAIRS.keys() - {"duck egg", "eau de"}:
        assert len(fold(pair)) == 1, pair
        assert fold(pair)[0] in ours | {"duckegg"}, pair


@pytest.mark.parametrize("prompt", HELD_OUT_PROMPTS, ids=lambda prompt: prompt.text)
def test_held_out_prompts_are_understood_word_for_word_and_lay_what_they_expect(
    prompt: HeldOutPrompt, tokenizer: Tokenizer
) -> None:
    read = read_phrases(prompt.text)
    assert (read.repeat.layout, read.repeat.units) == (prompt.layout, prompt.units)
    named, substitutions = read_hex(read.prompt)
    assert tokenizer.unknown_words(named) == []
    asked = {colour for colour in (prompt.ground, *prompt.colours.values()) if colour}
    exact = {each.colour for each in substitutions}
    assert {colour for colour in asked if colour.startswith("#")} == exact
    assert {"".join(colour.split()) for colour in asked - exact} <= set(fold(named))


def test_held_out_prompts_ask_for_every_kind_and_every_colour() -> None:
    assert {prompt.kind for prompt in HELD_OUT_PROMPTS} == set(KIND_NAMES)
    assert {colour for prompt in HELD_OUT_PROMPTS for colour in (prompt.ground, *prompt.colours.values())} >= set(
        COLOURS_255
    )


def test_a_caption_that_says_a_held_out_prompt_is_known_for_one() -> None:
    assert says_held_out_prompt("A pattern of coral dots on navy, polka")
    assert not says_held_out_prompt("coral dots on teal")


@pytest.mark.parametrize("prompt", PROMPTS_24)
def test_the_24_prompts_are_known_word_for_word(prompt: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.unknown_words(prompt) == []


def test_unknown_words_are_told_once_and_in_order(tokenizer: Tokenizer) -> None:
    assert tokenizer.unknown_words("red dragons and unicorns chasing dragons on white") == [
        "dragon",
        "unicorn",
        "chasing",
    ]
    assert tokenizer.encode("red dragons")[:2] == [tokenizer.numbers["red"], UNKNOWN]


@pytest.mark.parametrize("prompt", ["", "   ", "!!!", "the seamless pattern of a", "赤い 星", "🌸🌸", "red " * 500])
def test_any_prompt_becomes_32_numbers(prompt: str, tokenizer: Tokenizer) -> None:
    numbers = tokenizer.encode(prompt)
    assert len(numbers) == LENGTH
    assert all(0 <= number < tokenizer.size for number in numbers)


def test_what_comes_after_32_words_is_not_read(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("red " * 32 + "blue") == tokenizer.encode("red " * 33)
    assert tokenizer.encode("red")[1:] == [PAD] * (LENGTH - 1)


def test_a_vocabulary_survives_its_file(tmp_path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "vocab.json"
    tokenizer.save(path)
    assert Tokenizer.load(path) == tokenizer
