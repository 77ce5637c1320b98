"""What a prompt says, whatever its wording: 'red dots on white' and 'white background with red dots' are one meaning.

For reuse, so the parser is strict. A prompt has a meaning only if every word of it has a place in one sentence of the
grammar (`captions`, ADR 8): a motif or two with their ways of drawing, colours by role, details with their colours,
and denials. One word without a place, a colour more than there are roles, or two possible readings, and it has none.
What is not said stays unsaid: 'red dots' are not 'red dots on cream', though the model draws them so. Without a colour
of its own for the (first) motif a prompt has no meaning here.

Layout and scale are not in here; `phrases` takes them out of a prompt first.
"""

from __future__ import annotations

from typing import NamedTuple

from halfdrop.models.house.meaning_roles import MOTIFS_MAX, Clause, Meaning, Unclear, settle
from halfdrop.models.house.meaning_tokens import HEX_TOKEN, read_tokens
from halfdrop.models.house.meaning_words import COLOURS, DETAILS, MOTIFS, PARTICIPLES, WAYS
from halfdrop.models.house.tokenizer import LENGTH

GROUND = "background"
PHRASE_MAX = 3
"""Tokens of the longest phrase in `meaning_words`."""


def read_meaning(prompt: str) -> Meaning | None:
    """Return what a prompt says, None unless all of it has one reading.

    prompt: lower case, without its words of layout and scale (`phrases.read_phrases`).
    """
    tokens = read_tokens(prompt)
    if not tokens or len(tokens) > LENGTH:
        return None
    try:
        return _Sentence(tokens).read()
    except Unclear:
        return None


class _Item(NamedTuple):
    """What stands at a place of the sentence, and how many tokens it takes."""

    name: str
    length: int


class _Sentence:
    """A cursor over tokens. Every method takes what it reads, or raises Unclear."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._ground = ""
        self._clauses: list[Clause] = []
        self._trailing: list[str] = []
        self._denied: set[str] = set()
        self._is_set = False
        """Whether the ground or trailing colours were read after the motifs: details then belong to no certain one."""

    def read(self) -> Meaning:
        self._read_opening()
        self._read_clause()
        while self._at < len(self._tokens):
            self._read_modifier()
        return settle(self._clauses, trailing=self._trailing, ground=self._ground, denied=self._denied)

    # What comes before the motif.

    def _read_opening(self) -> None:
        """Take 'on white,' or 'white background with', if the sentence begins so."""
        if self._take("on"):
            self._take_ground(self._ground_colour())
            self._need(",")
        elif self._ground_follows():
            self._take_ground(self._ground_colour())
            if not self._take("with"):
                self._need(",")

    def _read_clause(self) -> None:
        ways: set[str] = set()
        bodies: list[str] = []
        while (motif := self._phrase(MOTIFS)) is None:
            if way := self._phrase(WAYS):
                self._at += way.length
                ways.add(way.name)
            elif self._colour() and not bodies:
                bodies = self._colours()
                if not self._clauses and self._take("on"):
                    # 'red on white dots'
                    self._take_ground(self._ground_colour())
            else:
                raise Unclear
        if len(self._clauses) == MOTIFS_MAX:
            raise Unclear
        self._at += motif.length
        self._clauses.append(Clause(kind=motif.name, ways=ways, bodies=bodies))

    # What comes after it.

    def _read_modifier(self) -> None:
        if self._take("on"):
            self._take_ground(self._ground_colour())
            self._is_set = True
        elif self._take("in"):
            self._take_trailing()
        elif self._take(","):
            self._read_after_comma()
        elif self._take("with"):
            if self._ground_follows():
                self._take_ground(self._ground_colour())
                self._is_set = True
            elif self._next() != "no":
                self._read_detail()
        elif self._take("and"):
            if self._next() != "no":
                self._read_joined()
        elif self._take("no"):
            self._read_denial()
        elif participle := self._phrase(PARTICIPLES):
            self._at += participle.length
            self._add_detail(participle.name, self._one_colour())
        else:
            raise Unclear

    def _read_after_comma(self) -> None:
        if self._ground_follows():
            self._take_ground(self._ground_colour())
            self._is_set = True
        elif self._colour():
            self._take_trailing()
        elif self._next() not in ("with", "no", "on", "in") and not self._phrase(PARTICIPLES):
            raise Unclear

    def _read_joined(self) -> None:
        """Take what an 'and' adds: a detail ('and white centres') or a second motif ('and blue stars')."""
        start = self._at
        if self._colour():
            self._one_colour()
        detail, motif = self._phrase(DETAILS), self._phrase(MOTIFS)
        self._at = start
        if detail and motif and detail.length == motif.length and self._clauses[-1].details:
            raise Unclear  # 'with white centres and green leaves': a second detail, or a second motif?
        if detail and (motif is None or detail.length > motif.length):
            self._read_detail()
        elif self._is_set or self._denied:
            raise Unclear
        else:
            self._read_clause()

    def _read_detail(self) -> None:
        colour = self._one_colour() if self._colour() else ""
        detail = self._phrase(DETAILS)
        if detail is None:
            raise Unclear
        self._at += detail.length
        if not colour and self._next() == "in":
            raise Unclear  # 'with outline in red': red outlines, or red motifs?
        self._add_detail(detail.name, colour)

    def _add_detail(self, name: str, colour: str) -> None:
        clause = self._clauses[-1]
        if name == "stems and leaves":
            if clause.kind not in ("sprigs", "tulips"):
                raise Unclear
            name = "leaves"
        if name in clause.details or (len(self._clauses) > 1 and self._is_set):
            raise Unclear
        clause.details[name] = colour

    def _read_denial(self) -> None:
        found = self._phrase(DETAILS)
        if found is None:
            found = _Item(self._one_colour(), 0)
        self._at += found.length
        if self._next() not in ("", ",", "no", "on", "in", "with"):
            raise Unclear  # 'no red dots': no red ones, or no dots?
        self._denied.add(found.name)

    # Colours.

    def _ground_follows(self) -> bool:
        at = self._at + (self._next() == "plain")
        return self._is_colour(at) and self._tokens[at + 1 : at + 2] == [GROUND]

    def _ground_colour(self) -> str:
        self._take("plain")
        colour = self._one_colour()
        self._take(GROUND)
        return colour

    def _take_ground(self, colour: str) -> None:
        if self._ground:
            raise Unclear
        self._ground = colour

    def _take_trailing(self) -> None:
        if self._trailing:
            raise Unclear
        self._trailing = self._colours()
        self._is_set = True

    def _colours(self) -> list[str]:
        """Take 'red', 'red and white' or 'red, blue and white'. A list without an 'and' is not one."""
        found = [self._one_colour()]
        while self._next() == "," and self._is_colour(self._at + 1) and self._ends_in_and(self._at):
            self._at += 1
            found.append(self._one_colour())
        is_open = self._at
        if self._next() == "," and self._tokens[self._at + 1 : self._at + 2] == ["and"]:
            self._at += 1
        if self._next() == "and" and self._is_colour(self._at + 1) and self._ends_list(self._at + 2):
            self._at += 1
            found.append(self._one_colour())
        elif len(found) > 1:
            raise Unclear
        else:
            self._at = is_open
        return found

    def _ends_in_and(self, at: int) -> bool:
        """Return whether ', blue, green and white' stands here: a comma, then colours up to an 'and' and a colour."""
        while self._token(at) == "," and self._is_colour(at + 1):
            at += 2
        at += self._token(at) == ","
        return self._token(at) == "and" and self._is_colour(at + 1)

    def _ends_list(self, at: int) -> bool:
        """Return whether the colour before may end a list: not that of a ground ('red and white background')."""
        return self._token(at) != GROUND

    def _one_colour(self) -> str:
        colour = self._colour()
        if not colour:
            raise Unclear
        self._at += 1
        return colour

    def _colour(self) -> str:
        token = self._next()
        if HEX_TOKEN.fullmatch(token):
            return f"#{token[3:]}"
        return COLOURS.get(token, "")

    def _is_colour(self, at: int) -> bool:
        token = self._token(at)
        return token in COLOURS or HEX_TOKEN.fullmatch(token) is not None

    # Tokens.

    def _token(self, at: int) -> str:
        return self._tokens[at] if at < len(self._tokens) else ""

    def _next(self) -> str:
        return self._token(self._at)

    def _take(self, word: str) -> bool:
        is_next = self._next() == word
        self._at += is_next
        return is_next

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise Unclear

    def _phrase(self, table: dict[tuple[str, ...], str]) -> _Item | None:
        """Return the longest phrase of a table that stands here."""
        for length in range(PHRASE_MAX, 0, -1):
            name = table.get(tuple(self._tokens[self._at : self._at + length]))
            if name is not None:
                return _Item(name, length)
        return None
