"""From a prompt to 32 numbers, in pure Python: the edge runs it on every cold preview.

Words are folded first (plurals, spelling, synonyms, two-word colours), so that 'crimson star' and 'red stars'
are the same prompt; words that say nothing about the unit are dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LENGTH = 32
"""Tokens a prompt may have; what comes after is not read."""
PAD, UNKNOWN = 0, 1
FIRST_WORD = 2

PAIRS = {
    "sky blue": "skyblue",
    "baby blue": "skyblue",
    "light blue": "skyblue",
    "pale blue": "skyblue",
    "dark blue": "navy",
    "navy blue": "navy",
    "royal blue": "blue",
    "forest green": "forestgreen",
    "dark green": "forestgreen",
    "bottle green": "forestgreen",
    "light green": "mint",
    "mint green": "mint",
    "olive green": "olive",
    "lime green": "lime",
    "dark red": "burgundy",
    "wine red": "burgundy",
    "hot pink": "magenta",
    "light purple": "lavender",
    "pale purple": "lavender",
    "light grey": "silver",
    "dark grey": "charcoal",
    "light brown": "tan",
    "off white": "cream",
    "rain drop": "raindrop",
    "snow flake": "snowflake",
    "hounds tooth": "houndstooth",
    "basket weave": "basketweave",
    "zig zag": "zigzag",
    "window pane": "windowpane",
}
"""Two words, already folded, that mean one."""

FOLDS = {
    "leaves": "leaf",
    "pluses": "plus",
    "gray": "grey",
    "center": "centre",
    "centers": "centre",
    "ivory": "cream",
    "crimson": "red",
    "scarlet": "red",
    "emerald": "green",
    "maroon": "burgundy",
    "claret": "burgundy",
    "violet": "purple",
    "lilac": "lavender",
    "mauve": "lavender",
    "ochre": "mustard",
    "golden": "gold",
    "aqua": "turquoise",
    "cyan": "turquoise",
    "indigo": "navy",
    "sand": "beige",
    "salmon": "coral",
    "fuchsia": "magenta",
    "chocolate": "brown",
    "terracotta": "rust",
    "apricot": "peach",
    "khaki": "olive",
    "five": "5",
    "six": "6",
    "eight": "8",
    "point": "pointed",
    "points": "pointed",
    "striped": "stripe",
    "dotted": "dot",
    "checked": "check",
    "chequerboard": "checkerboard",
    "camo": "camouflage",
    "tartan": "plaid",
    "narrow": "thin",
    "slim": "thin",
    "broad": "wide",
    "thick": "wide",
    "upright": "vertical",
}
"""One word for another; the right-hand side is a word of the grammar, or folds no further."""

DROPPED = frozenset(
    word
    for words in (
        "a an the of please",
        "seamless pattern repeat repeating tile tiled tiling design print fabric textile wallpaper",
        "small large big tiny huge little",
    )
    for word in words.split()
)
"""Words that say nothing about a unit: small words, words for what all of this is, and words of scale."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A fixed vocabulary: each folded word and its number."""

    numbers: dict[str, int]

    @classmethod
    def build(cls, texts: Iterable[str]) -> Tokenizer:
        """Return a tokenizer for all words of the texts, in alphabetical order."""
        words = sorted({word for text in texts for word in fold(text)})
        return cls({word: number for number, word in enumerate(words, FIRST_WORD)})

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a vocabulary file: a JSON object of words and numbers."""
        numbers = json.loads(path.read_text(encoding="utf-8"))
        return cls({str(word): int(number) for word, number in numbers.items()})

    def save(self, path: Path) -> None:
        """Write the vocabulary file."""
        path.write_text(json.dumps(self.numbers, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def size(self) -> int:
        """Rows an embedding table needs."""
        return len(self.numbers) + FIRST_WORD

    def encode(self, prompt: str) -> list[int]:
        """Return exactly 32 numbers: words, `UNKNOWN` for those not known, then `PAD`."""
        numbers = [self.numbers.get(word, UNKNOWN) for word in fold(prompt)][:LENGTH]
        return numbers + [PAD] * (LENGTH - len(numbers))

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of the prompt that the model was never taught, each once, in order."""
        return list(dict.fromkeys(word for word in fold(prompt) if word not in self.numbers))


def fold(text: str) -> list[str]:
    """Return the words of a text in the one form the vocabulary knows."""
    words = [_fold_word(word) for word in re.findall(r"[^\W_]+", text.lower())]
    folded: list[str] = []
    for word in words:
        pair = f"{folded[-1]} {word}" if folded else ""
        if pair in PAIRS:
            folded[-1] = PAIRS[pair]
        elif word not in DROPPED:
            folded.append(word)
    return folded


def _fold_word(word: str) -> str:
    word = FOLDS.get(word, word)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return FOLDS.get(word, word)
