"""Unknown words, answered with the nearest known ones: 'sunflowers' are read as 'daisies', 'polkadtos' as 'polka dots'.

Synonyms never come here: the tokenizer folds them. What is left is looked up among the things that stand near
(`pattern_words`), and then taken for a slip of the pen, if it is a small one. Everything else is left out of the
prompt. Nothing happens silently: the reading says what was read as what, and what was left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from halfdrop.models.hex_colours import HEX
from halfdrop.models.house.colour_words import COLOUR_WORDS
from halfdrop.models.house.pattern_words import NEAREST, NOTHING_NEAR
from halfdrop.models.house.tokenizer import DROPPED, FOLDS, LENGTH, NEGATION, Tokenizer, fold

SHORTEST = 4
"""Letters of a word that may hold a slip: shorter ones are a slip away from too many others."""
ONE_SLIP, TWO_SLIPS = 5, 8
"""Letters from which any one slip, and any two, are forgiven; below, only a letter too many, too few or swapped."""

SPELT = {"skyblue": "sky blue", "forestgreen": "forest green", "polkadot": "polka dots", "fuschia": "fuchsia"}
"""Tokens and words that are written otherwise."""
DENIALS = frozenset({"without", "lacking", "excluding", "except"})
"""Words for 'no' that a slip may hide: losing them would draw what was not wanted."""
PLURALS = {"leaf": "leaves", "fish": "fish"}

_WORD = re.compile(rf"{HEX.pattern}|[^\W_]+", re.IGNORECASE)
_DANGLING = re.compile(r"\b(?:with|without|no|and|in|featuring|or)\s+(?=(?:with|and|in|on|or)\b|[,;.]|$)")
_DENIAL = re.compile(r"\b(?:no|not|without|never|any)\b")
_REPEATED = re.compile(r"\b(\w[\w ]*) and \1\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A prompt in words that the model knows."""

    prompt: str
    read_as: tuple[tuple[str, str], ...] = ()
    """Words as they were written, and what was read for them, in order."""
    unknown_words: tuple[str, ...] = ()
    """Words left out, as they were written."""


def read_words(prompt: str, tokenizer: Tokenizer, *, may_be_empty: bool = False) -> Reading:
    """Return the reading of a prompt, the same on every call with one vocabulary.

    Up to 32 unknown words are looked up, as many as the model reads at all; more are left out.
    prompt: in normal form. One of which nothing would be left is kept as it is, and told to be unknown, unless the
    reading may be empty, as that of a negative prompt may.
    """
    # Each word is taken for itself here. One that is known as half of a pair ('burnt orange') is not among these.
    unknown = set(tokenizer.unknown_words(HEX.sub(" ", prompt)))
    if not unknown:
        return Reading(prompt=prompt)
    words = list(_WORD.finditer(prompt))
    read_as: dict[str, str] = {}
    left_out: dict[str, None] = {}
    kept, position = [], 0
    for match, following in zip(words, [*words[1:], None], strict=True):
        tokens = fold(match[0])
        if match[0].startswith("#") or not unknown.intersection(tokens):
            continue
        is_looked_up = len(read_as) + len(left_out) < LENGTH
        found = _nearest(match[0], tokens[-1], tokenizer) if is_looked_up else ""
        if found:
            read_as[match[0]] = found
        else:
            left_out[match[0]] = None
        kept += [prompt[position : match.start()], _without_echo(found, following[0] if following else "")]
        position = match.end()
    text = _tidy("".join([*kept, prompt[position:]]))
    if not may_be_empty and not fold(HEX.sub(" x ", text)):
        return Reading(prompt=prompt, unknown_words=tuple(left_out))
    return Reading(prompt=text, read_as=tuple(read_as.items()), unknown_words=tuple(left_out))


def affirm(negative_prompt: str) -> str:
    """Return a negative prompt without denials of its own: whoever keeps out 'no outlines' wants none."""
    return " ".join(_DENIAL.sub(" ", negative_prompt).split())


def _nearest(word: str, token: str, tokenizer: Tokenizer) -> str:
    """Return what a word is read as, '' for nothing; token: the word as folded, singular."""
    if token in NOTHING_NEAR:
        return ""
    thing = NEAREST.get(token) or NEAREST.get(word)
    if thing is None:
        meant = _spelt_right(token, _candidates(tuple(tokenizer.numbers)))
        thing = NEAREST.get(meant) or _as_written(meant, is_plural=word.endswith("s"))
    return thing if not tokenizer.unknown_words(thing) else ""


@lru_cache(maxsize=4)
def _candidates(vocabulary: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the words that may have been meant by their first letter, likeliest first."""
    folds = [word for word in FOLDS if FOLDS[word] != NEGATION or word in DENIALS]
    # Of the words that say nothing, short ones ('from') are not worth a guess.
    silent = sorted(word for word in DROPPED if len(word) > ONE_SLIP)
    words = [*vocabulary, *COLOUR_WORDS, *folds, *NEAREST, *silent]
    by_letter: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        if len(word) >= SHORTEST:
            by_letter.setdefault(word[0], []).append(word)
    return {letter: tuple(found) for letter, found in by_letter.items()}


def _spelt_right(word: str, candidates: dict[str, tuple[str, ...]]) -> str:
    """Return the nearest candidate that begins alike and is few enough slips away, '' for none."""
    if len(word) < SHORTEST:
        return ""
    limit = 2 if len(word) >= TWO_SLIPS else 1
    swapped = (each for each in candidates.get(word[1], ()) if each[1] == word[0])
    best, fewest = "", limit + 1
    for candidate in (*candidates.get(word[0], ()), *swapped):
        slips = _slips(word, candidate, fewest)
        if slips < fewest and not (len(word) < ONE_SLIP and _is_another_letter(word, candidate)):
            best, fewest = candidate, slips
    return best


def _is_another_letter(word: str, candidate: str) -> bool:
    """Return whether two words differ by one letter in place of another: 'dogs' are no 'dots'."""
    return len(word) == len(candidate) and sorted(word) != sorted(candidate)


def _slips(first: str, second: str, limit: int) -> int:
    """Return the letters to add, drop, replace or swap with a neighbour (optimal string alignment), at most `limit`."""
    if abs(len(first) - len(second)) >= limit:
        return limit
    before: list[int] = []
    row = list(range(len(second) + 1))
    for place, letter in enumerate(first, start=1):
        following = [place]
        for at, other in enumerate(second, start=1):
            cost = min(row[at] + 1, following[-1] + 1, row[at - 1] + (letter != other))
            if place > 1 and at > 1 and letter == second[at - 2] and first[place - 2] == other:
                cost = min(cost, before[at - 2] + 1)
            following.append(cost)
        if min(following) >= limit:
            return limit
        before, row = row, following
    return min(row[-1], limit)


def _as_written(word: str, *, is_plural: bool) -> str:
    """Return a word of the vocabulary as people write it."""
    if word in SPELT:
        return SPELT[word]
    if not is_plural or not word or word.endswith("s") or word in COLOUR_WORDS:
        return word
    if word in PLURALS:
        return PLURALS[word]
    if word.endswith("y") and word[-2] not in "aeo":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("x", "ch", "sh")) else "s")


def _without_echo(found: str, following: str) -> str:
    """Return what was read without its last word, where that comes next anyway: 'maple leaf', 'tiger stripes'."""
    *first, last = found.split() or [""]
    return " ".join(first) if last and fold(last) == fold(following) else found


def _tidy(text: str) -> str:
    """Close the gaps that words left: doubled spaces, and joining words with nothing to join."""
    text = " ".join(text.split())
    for _ in range(3):
        text = _DANGLING.sub("", text)
    text = re.sub(r"\s+([,;.])", r"\1", text)
    text = re.sub(r"^(?:[\s,;.]|(?:and|with|in|of)\b)+", "", re.sub(r"(?:[,;]\s*){2,}", ", ", text))
    return " ".join(_REPEATED.sub(r"\1", text).split()).strip(" ,;.-")
