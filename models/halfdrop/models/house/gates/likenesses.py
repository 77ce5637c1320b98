"""Which true motifs a prompt allows: pools of exact units, drawn once, and the choice among them by its words."""

from __future__ import annotations

from torch import Tensor

from halfdrop.models.house.captions import detail_word
from halfdrop.models.house.gates.asking import Asked
from halfdrop.models.house.gates.attributes import TrueUnit
from halfdrop.models.house.gates.exact import Likeness, Pool, draw_pool, find_likeness
from halfdrop.models.house.kinds.catalogue import FREE_FORMS
from halfdrop.models.house.kinds.drawing import Traits
from halfdrop.models.house.kinds.variations import VARIED
from halfdrop.models.house.tokenizer import fold

DEFAULT_ADJECTIVES = frozenset({"5-pointed", ""})
"""Said or not, the unit is the same."""


class Library:
    """Pools of exact units by kind and way, drawn when first asked for; the same for one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pools: dict[tuple[str, str | None], Pool] = {}

    def pool(self, kind: str, way: str | None) -> Pool:
        """Return the exact units of a kind, drawn plainly or in one of the ways of `variations`."""
        if (kind, way) not in self._pools:
            self._pools[kind, way] = draw_pool(kind, way, self._seed)
        return self._pools[kind, way]

    def find(self, asked: Asked, drawn: Tensor) -> Likeness | None:
        """Return the true motif that drawn plates [4, 64, 64] are most like, of those that the prompt allows.

        None for free forms.
        """
        if asked.kind in FREE_FORMS:
            return None
        pool = self.pool(asked.kind, way_of(asked))
        return find_likeness(drawn, pool, allowed(asked, pool), self._seed)

    def unit_like(self, asked: Asked) -> TrueUnit:
        """Return an exact unit that the prompt describes: the grammar's own, or one of the pool."""
        if asked.plates is not None and asked.traits is not None:
            return TrueUnit(plates=asked.plates, traits=asked.traits)
        pool = self.pool(asked.kind, way_of(asked))
        unit = allowed(asked, pool)[0]
        return TrueUnit(plates=pool.plates[unit], traits=pool.traits[unit])


def way_of(asked: Asked) -> str | None:
    """Return the way of drawing that a prompt names, None for the plain one."""
    words = fold(asked.text)
    ways = [way for way, kinds in VARIED.items() if asked.kind in kinds]
    if asked.traits is not None:
        return next((way for way in ways if way in asked.traits.adjectives), None)
    return next((way for way in ways if _says(words, way)), None)


def allowed(asked: Asked, pool: Pool) -> list[int]:
    """Return which units of a pool a prompt allows, at least one.

    They have the details that it asks for and no other optional ones, as many bodies, and of the words that tell looks
    apart ("thin", "8-pointed") those that the prompt says and as few others as may be.
    """
    places = range(len(pool.traits))
    if asked.traits is not None:
        exact = [place for place in places if _look(pool.traits[place]) == _look(asked.traits)]
        if exact:
            return exact
    words = fold(asked.text)
    bodies = max([1, *(int(role.split()[1]) for role in asked.colours if role.startswith("body "))])
    marks = [_mark(pool.traits[place], asked, words, bodies) for place in places]
    return [place for place in places if marks[place] == max(marks)]


def _mark(traits: Traits, asked: Asked, words: list[str], bodies: int) -> tuple[int, int, int]:
    """Return how well a look answers a prompt, to be compared: details first, then bodies, then adjectives."""
    there = {detail_word(detail) for detail in traits.details}
    must = {detail_word(detail) for detail in traits.details if not detail.is_optional}
    wrong = there ^ (set(asked.present) | must)
    told = [adjective for adjective in traits.adjectives if adjective not in DEFAULT_ADJECTIVES]
    said = sum(1 if _says(words, adjective) else -1 for adjective in told)
    return -len(wrong), -abs(len(traits.body) - bodies), said


def _says(words: list[str], phrase: str) -> bool:
    return all(word in words for word in fold(phrase))


def _look(traits: Traits) -> tuple[object, ...]:
    """Return what decides a unit's shape, whatever it is called."""
    adjectives = tuple(word for word in traits.adjectives if word not in DEFAULT_ADJECTIVES)
    return adjectives, len(traits.body), tuple(detail.layer for detail in traits.details)
