"""The tokens of a prompt for `meaning`: folded as for the model, but with its breaks, and nothing dropped unseen."""

from __future__ import annotations

import re

from halfdrop.models.hex_colours import HEX, spell_hex
from halfdrop.models.house.meaning_words import SILENT
from halfdrop.models.house.tokenizer import fold

HEX_TOKEN = re.compile(r"hex[0-9a-f]{6}")
"""An exact colour, '#rrggbb', as a token."""

_PLACEABLE = re.compile(r"(?:w/o?|[a-z0-9\s,;.'&#\u2019-])*")
"""Signs that a prompt may have. Brackets, slashes, per cent and other scripts say what the parser does not read."""
_BREAK = re.compile(r"[,;.]")
_WORD = re.compile(r"[^\W_]+")


def read_tokens(prompt: str) -> list[str] | None:
    """Return the folded words and ',' for each break between them; None if a word was dropped that says something."""
    text = HEX.sub(lambda match: f" hex{match[0][1:]} ", spell_hex(prompt))
    if "#" in text or not _PLACEABLE.fullmatch(text):
        return None
    tokens: list[str] = []
    for chunk in _BREAK.split(text):
        words = _WORD.findall(chunk)
        if words[:1] in (["or"], ["nor"]) or not _says_all(chunk, words):
            return None
        folded = fold(chunk)
        tokens += [","] * bool(tokens and folded) + folded
    # A negation may reach over a comma in the prompt as a whole; then the parts do not say what the whole does.
    return tokens if sorted(word for word in tokens if word != ",") == sorted(fold(text)) else None


def _says_all(chunk: str, words: list[str]) -> bool:
    """Return whether each word that the tokenizer drops alone is silent, or counts beside another ('dark red')."""
    whole = fold(chunk)
    return all(
        word in SILENT or fold(word) or fold(" ".join(words[:place] + words[place + 1 :])) != whole
        for place, word in enumerate(words)
    )
