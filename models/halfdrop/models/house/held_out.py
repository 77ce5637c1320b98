"""What training never sees: combinations of attributes, and prompts as designers type them. Put down before training.

A model that has only learnt its captions by heart fails here; one that has learnt what each word means does not.
Captions draw their colours again when they hit a held-out combination, and when they say a held-out prompt by chance.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache

from halfdrop.models.house.held_out_prompts import HELD_OUT_PROMPTS
from halfdrop.models.house.palettes import (
    COLOUR_NAMES,
    accent_for,
    body_for,
    can_be_told,
    ground_for,
    natural_colours,
)
from halfdrop.models.house.tokenizer import PUNCTUATION, fold

SHARE_PER_MILLE = 20
"""Of all triples of kind, body and ground, and of all triples of kind, detail and its colour."""

KIND_WORDS: tuple[tuple[str, str], ...] = (
    ("leopard", "leopard"),
    ("zebra", "zebra"),
    ("sprig", "sprigs"),
    ("daisy", "daisies"),
    ("scallop", "scallops"),
    ("scale", "scallops"),
    ("pinstripe", "pinstripes"),
    ("houndstooth", "houndstooth"),
    ("gingham", "gingham"),
    ("windowpane", "windowpane"),
    ("grid", "windowpane"),
    ("checkerboard", "checkerboard"),
    ("argyle", "argyle"),
    ("harlequin", "harlequin"),
    ("trellis", "trellis"),
    ("lattice", "trellis"),
    ("plaid", "plaid"),
    ("terrazzo", "terrazzo"),
    ("camouflage", "camouflage"),
    ("blob", "blobs"),
    ("marble", "marble"),
    ("ogee", "ogee"),
    ("paisley", "paisley"),
    ("plus", "pluses"),
    ("x", "crosses"),
    ("cross", "crosses"),
    ("dot", "dots"),
    ("spot", "dots"),
    ("ring", "rings"),
    ("circle", "rings"),
    ("star", "stars"),
    ("heart", "hearts"),
    ("diamond", "diamonds"),
    ("square", "squares"),
    ("blossom", "blossoms"),
    ("flower", "blossoms"),
    ("leaf", "leaves"),
    ("tulip", "tulips"),
    ("cherry", "cherries"),
    ("moon", "moons"),
    ("sun", "suns"),
    ("cloud", "clouds"),
    ("raindrop", "raindrops"),
    ("drop", "raindrops"),
    ("fish", "fish"),
    ("mushroom", "mushrooms"),
    ("snowflake", "snowflakes"),
    ("chevron", "chevron"),
    ("zigzag", "chevron"),
    ("wave", "waves"),
    ("wavy", "waves"),
    ("hexagon", "hexagons"),
    ("honeycomb", "hexagons"),
    ("triangle", "triangles"),
    ("basketweave", "basketweave"),
    ("herringbone", "herringbone"),
    ("stripe", "stripes"),
    ("check", "checkerboard"),
)
"""A word of a noun, as folded, and the kind it names; the first that fits counts ('leopard spots', 'gingham check')."""

ARITHMETIC = frozenset(
    word
    for words in (
        "half third quarter drop dropped brick mirror mirrored straight layout repeat repeats grid",
        "scale ditsy micro giant medium oversized",
    )
    for word in words.split()
)
"""Words of layout and scale, which a prompt may have and a caption never has."""


@cache
def kind_of(noun: str) -> str:
    """Return the kind that a noun names; a noun of no known kind is a kind of its own."""
    words = fold(noun)
    return next((kind for word, kind in KIND_WORDS if word in words), " ".join(words))


def is_held_out(kind: str, body: str, ground: str, details: Iterable[tuple[str, str]] = ()) -> bool:
    """Return whether training never sees these together.

    body, ground: names of colours. details: a word for each ('outline') with its colour's name. A fixed hash decides:
    about 2 % of the triples of kind, body and ground, and 2 % of those of kind, detail and colour. What a prompt means
    by leaving a colour out is never held out: nothing else could teach it.
    """
    if _chance(kind, body, ground) < SHARE_PER_MILLE and not _is_default(kind, body, ground):
        return True
    return any(
        _chance(kind, word, colour) < SHARE_PER_MILLE and colour != accent_for(word, body, ground)
        for word, colour in details
    )


def _is_default(kind: str, body: str, ground: str) -> bool:
    return ground == ground_for(body) or body == body_for(ground, kind) or (ground, body) == natural_colours(kind)[:2]


def held_out_pairs(kind: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of body and ground that this kind is never captioned in, and that can be told apart."""
    pairs = ((body, ground) for body in COLOUR_NAMES for ground in COLOUR_NAMES)
    return tuple(pair for pair in pairs if can_be_told(*pair) and is_held_out(kind, *pair))


def says_held_out_prompt(text: str) -> bool:
    """Return whether a caption says what a held-out prompt says, whatever the order of its words."""
    return frozenset(fold(text)) in _prompt_words()


@cache
def _prompt_words() -> frozenset[frozenset[str]]:
    return frozenset(_words_to_draw(prompt.text) for prompt in HELD_OUT_PROMPTS)


def _words_to_draw(prompt: str) -> frozenset[str]:
    kept = [word for word in prompt.lower().replace("-", " ").split() if word.strip(PUNCTUATION) not in ARITHMETIC]
    return frozenset(fold(" ".join(kept)))


@cache
def _chance(*words: str) -> int:
    """Return 0 to 999, the same in every process."""
    return zlib.crc32("|".join(words).encode()) % 1000
