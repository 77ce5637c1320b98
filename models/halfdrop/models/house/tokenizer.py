"""From a prompt to 32 numbers, in pure Python: the edge runs it on every cold preview.

Words are folded first (plurals, spelling, synonyms, two-word colours, negations), so that 'crimson star' and 'red
stars' are the same prompt; words that say nothing about the unit are dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from halfdrop.models.house.colour_words import COLOUR_PAIRS, COLOUR_WORDS

LENGTH = 32
"""Tokens a prompt may have; what comes after is not read."""
PAD, UNKNOWN = 0, 1
FIRST_WORD = 2

PAIRS = {
    **COLOUR_PAIRS,
    "rain drop": "raindrop",
    "snow flake": "snowflake",
    "hounds tooth": "houndstooth",
    "hound tooth": "houndstooth",
    "basket weave": "basketweave",
    "zig zag": "zigzag",
    "window pane": "windowpane",
    "pin stripe": "pinstripe",
    "pin stripes": "pinstripe",
    "sun burst": "sunburst",
    "checker board": "checkerboard",
    "chequer board": "checkerboard",
    "chess board": "checkerboard",
    "herring bone": "herringbone",
    "tear drop": "raindrop",
    "honey comb": "honeycomb",
    "toad stool": "mushroom",
    "moon moon": "moon",
    "plaid plaid": "plaid",
    "cherry blossom": "blossom",
    "cherry blossoms": "blossom",
    "mixed with": "and",
    "together with": "and",
    "along with": "and",
    "combined with": "and",
    "paired with": "and",
    "interspersed with": "and",
    "alternating with": "and",
    "filled with": "with",
    "covered in": "with",
    "covered with": "with",
    "set on": "on",
    "placed on": "on",
    "set against": "on",
    "free of": "no",
    "free from": "no",
    "devoid of": "no",
    "instead of": "no",
    "rather than": "no",
    "other than": "no",
    "all over": "pattern",
}
"""Two words, as they are written or once folded, that mean one. A comma between them keeps them apart."""

FOLDS = {
    "leaves": "leaf",
    "pluses": "plus",
    "centered": "centre",
    "center": "centre",
    "centers": "centre",
    "middle": "centre",
    "five": "5",
    "six": "6",
    "eight": "8",
    "point": "pointed",
    "points": "pointed",
    "striped": "stripe",
    "stripy": "stripe",
    "stripey": "stripe",
    "dotted": "dot",
    "dotty": "dot",
    "polkadot": "dot",
    "polkadots": "dot",
    "checked": "check",
    "checkered": "check",
    "chequered": "check",
    "chequerboard": "checkerboard",
    "chessboard": "checkerboard",
    "camo": "camouflage",
    "tartan": "plaid",
    "narrow": "thin",
    "slim": "thin",
    "skinny": "thin",
    "broad": "wide",
    "thick": "wide",
    "chunky": "wide",
    "upright": "vertical",
    "outlines": "outline",
    "outlining": "outline",
    "edged": "outline",
    "bordered": "outline",
    "border": "outline",
    "contour": "outline",
    "stalk": "stem",
    "toadstool": "mushroom",
    "crescent": "moon",
    "sunburst": "sun",
    "lozenge": "diamond",
    "teardrop": "raindrop",
    "starry": "star",
    "floral": "flower",
    "speckle": "spot",
    "simple": "plain",
    "unadorned": "plain",
    "ground": "background",
    "backdrop": "background",
    "base": "background",
    "against": "on",
    "upon": "on",
    "onto": "on",
    "atop": "on",
    "over": "on",
    "featuring": "with",
    "having": "with",
    "containing": "with",
    "showing": "with",
    "has": "with",
    "have": "with",
    "w": "with",
    "but": "with",
    "amid": "and",
    "among": "and",
    "amongst": "and",
    "without": "no",
    "not": "no",
    "minus": "no",
    "sans": "no",
    "lacking": "no",
    "never": "no",
    "zero": "no",
    "non": "no",
    "neither": "no",
    "except": "no",
    "excluding": "no",
    "omit": "no",
    "avoid": "no",
    "avoiding": "no",
    "remove": "no",
}
"""One word for another; the right-hand side is a word of the grammar, or folds no further."""

LESS = {
    f"{word}less": word for word in ("leaf", "stem", "vein", "outline", "spot", "stalk", "line", "dot", "ring", "star")
}
"""'leafless' says 'no leaf'."""

SIGNS = {"w/o": "without", "w/": "with ", "&": " and ", "+": " and ", "n't ": " not ", "n\u2019t ": " not "}
PUNCTUATION = ",;:.()/|"
WORD_OR_SIGN = re.compile(rf"[^\W_]+|[{re.escape(PUNCTUATION)}]")
NEGATION = "no"
NEGATION_REACH = 4
"""Tokens back from an 'or' within which a 'no' is repeated for it: 'no dots or green leaves'."""

DROPPED = frozenset(
    word
    for words in (
        "a an the of please any some single i want would like me my do does use using include add make create draw",
        "its it is are that which very quite each every set placed arranged scattered s t",
        "to at by for from this these those their be too so as than while where all both also just only more",
        "lots lot many few several bunch around across between",
        "seamless pattern repeat repeating tile tiled tiling design print fabric textile wallpaper motif illustration",
        "surface allover style styled artwork wrapping paper cloth ornament printed decorated patterned",
        "small large big tiny huge little",
        "colour color coloured colored shade tone hue palette colourway colorway scheme",
        "bright vivid vibrant soft pale light dark deep pastel muted dusty warm cool rich",
    )
    for word in words.split()
)
"""Words that say nothing about a unit: small words, words for what all of this is, words of scale, words for colour
itself, and shades of a colour that has no such shade among ours ('bright coral')."""

CONNECTIVES = "and on in with no background"
"""Words that every vocabulary has."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A fixed vocabulary: each folded word and its number."""

    numbers: dict[str, int]

    @classmethod
    def build(cls, texts: Iterable[str]) -> Tokenizer:
        """Return a tokenizer for all words of the texts, in alphabetical order."""
        words = sorted({word for text in (CONNECTIVES, *texts) for word in fold(text)})
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
    """Return the words of a text in the one form the vocabulary knows.

    A negation of any form becomes 'no' in front of the word that it denies: 'leafless daisies' is 'daisy no leaf'.
    """
    folded: list[str] = []
    denied: list[str] = []
    previous, kept = "", 0
    # `previous` is the word before, as written, and `kept` how many tokens it gave; nothing pairs across a comma.
    for written, following in pairwise([*_spell_out(text), ""]):
        word = written
        if word in PUNCTUATION:
            previous, kept = "", 0
            continue
        pair = PAIRS.get(f"{previous} {word}")
        if pair is None and kept:
            pair = PAIRS.get(f"{folded[-1]} {_fold_word(word)}")
        if pair is not None:
            del folded[len(folded) - kept :]
            word = pair
        if word == "free" and kept and following not in ("of", "from"):
            denied += [NEGATION, folded.pop()]
            previous, kept = "", 0
            continue
        token = _fold_joint(word, folded)
        if word in LESS:
            denied += [NEGATION, LESS[word]]
        is_said = word not in LESS and word not in DROPPED and token not in DROPPED
        is_repeated = token == NEGATION and folded[-1:] == [NEGATION]
        previous, kept = word, int(is_said and not is_repeated)
        folded += [token] * kept
    return folded + denied


def _spell_out(text: str) -> list[str]:
    """Return words and the signs between which nothing pairs; signs that stand for words are spelt."""
    for sign, spelt in SIGNS.items():
        text = text.replace(sign, spelt)
    return WORD_OR_SIGN.findall(text.lower())


def _fold_joint(word: str, folded: list[str]) -> str:
    """Return a word's token; 'or' after a 'no' denies what follows, too, and is an 'and' elsewhere."""
    if word in ("or", "nor"):
        return NEGATION if NEGATION in folded[-NEGATION_REACH:] else "and"
    return _fold_word(word)


@lru_cache(maxsize=4096)
def _fold_word(word: str) -> str:
    if word in COLOUR_WORDS:
        # As it is written only: plums and lemons are fruit.
        return COLOUR_WORDS[word]
    word = FOLDS.get(word, word)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return FOLDS.get(word, word)
