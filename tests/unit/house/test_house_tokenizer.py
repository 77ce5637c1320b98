"""Prompts to numbers: plurals and synonyms meet, and what the model does not know is told."""

import pytest

from halfdrop.models.house.data import build_tokenizer
from halfdrop.models.house.prompts import PROMPTS_24
from halfdrop.models.house.tokenizer import LENGTH, PAD, UNKNOWN, Tokenizer, fold


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


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
