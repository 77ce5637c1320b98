"""Training data: units of every kind and lattice with captions, generated while training and never stored."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfdrop.models.house.captions import caption
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, KIND_NAMES, draw, stack_layers
from halfdrop.models.house.kinds.drawing import Canvas, Dice, Traits, seeded_words
from halfdrop.models.house.kinds.fields import GRID
from halfdrop.models.house.kinds.mixes import draw_mix
from halfdrop.models.house.kinds.variations import VARIED, draw_varied
from halfdrop.models.house.palettes import COLOUR_NAMES
from halfdrop.models.house.tokenizer import LENGTH, PAD, UNKNOWN, Tokenizer
from halfdrop.models.house.torus import LATTICES

VOCABULARY_SEED = 1
VOCABULARY_GRID = 8
"""Units are drawn coarsely when only their captions are wanted: a seed says the same at every grid."""
UNKNOWN_CHANCE = 0.06
"""Share of training captions in which a word is added that the model has never seen."""
VARIED_CHANCE = 1.0
"""Chance, each time a motif is drawn, that a quarter of its units are drawn in one of the ways of `variations`: at 0.6
they stayed half-learnt."""
MIX = -1
"""Stands for the kind of a unit that holds two motifs."""
HALVES = tuple(index for index, (_, drop) in enumerate(LATTICES) if drop.denominator == 2)
STRAIGHT_SHARE, HALF_SHARE = 0.45, 0.3
"""Shares of units drawn for the straight lattice and for half a drop; the rest is for any lattice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """Captioned units; the first dimension of every tensor is the batch."""

    plates: Tensor
    """[batch, 4, 64, 64], -1 to 1."""
    texts: list[str]
    palette: Tensor
    """[batch, 5, 3], sRGB 0 to 1."""
    is_used: Tensor
    """[batch, 5], 1.0 for colours that can be seen."""
    kinds: Tensor
    """[batch], index into KIND_NAMES, or MIX."""
    lattices: Tensor
    """[batch], index into LATTICES: the lattice the unit was drawn for."""
    traits: list[Traits]
    """What may be said of each unit: for saying it again in other words and colours."""

    def picked(self, picks: Tensor) -> Units:
        """Return the units at some places of the batch."""
        return Units(
            plates=self.plates[picks],
            texts=[self.texts[pick] for pick in picks.tolist()],
            palette=self.palette[picks],
            is_used=self.is_used[picks],
            kinds=self.kinds[picks],
            lattices=self.lattices[picks],
            traits=[self.traits[pick] for pick in picks.tolist()],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Units of one kind, drawn together."""

    plates: Tensor
    traits: list[Traits]
    kind: int
    lattices: list[int]


def draw_units(
    per_kind: int,
    numbers: torch.Generator,
    words: random.Random,
    kinds: Sequence[str] = KIND_NAMES,
    *,
    mixes: int = 0,
    grid: int = GRID,
) -> Units:
    """Return `per_kind` units of each kind, kind by kind, and then `mixes` times as many units of two motifs."""
    groups = [group for kind in kinds for group in _draw_kind(kind, per_kind, numbers, words, grid=grid)]
    for _ in range(mixes):
        lattice = _draw_lattice(words)
        dice = Dice.on(_canvas(lattice, grid), per_kind, numbers, words)
        plates, traits, _ = draw_mix(dice)
        groups.append(_Group(plates=plates, traits=traits, kind=MIX, lattices=[lattice] * per_kind))
    traits = [each for group in groups for each in group.traits]
    captions = [caption(each, words) for each in traits]
    return Units(
        plates=torch.cat([group.plates for group in groups]),
        texts=[each.text for each in captions],
        palette=torch.tensor([each.palette for each in captions]),
        is_used=torch.tensor([each.is_used for each in captions]).float(),
        kinds=torch.tensor([group.kind for group in groups for _ in group.traits]),
        lattices=torch.tensor([lattice for group in groups for lattice in group.lattices]),
        traits=traits,
    )


def _draw_kind(kind: str, count: int, numbers: torch.Generator, words: random.Random, *, grid: int) -> Iterator[_Group]:
    """Yield a kind's units: half of a free form on some lattice's torus, a quarter of a motif in some other way."""
    label = KIND_NAMES.index(kind)
    ways = [way for way, varied in VARIED.items() if kind in varied]
    on_lattice = count // 2 if kind in FREE_FORMS else 0
    in_a_way = (count + 3) // 4 if ways and words.random() < VARIED_CHANCE else 0
    plain = count - on_lattice - in_a_way
    if plain:
        plates, traits = draw(kind, plain, numbers, words, canvas=_canvas(0, grid))
        lattices = [0] * plain if kind in FREE_FORMS else [_draw_lattice(words) for _ in traits]
        yield _Group(plates=plates, traits=traits, kind=label, lattices=lattices)
    if on_lattice:
        lattice = _draw_lattice(words)
        plates, traits = draw(kind, on_lattice, numbers, words, canvas=_canvas(lattice, grid))
        yield _Group(plates=plates, traits=traits, kind=label, lattices=[lattice] * on_lattice)
    if in_a_way:
        canvas = _canvas(0, grid)
        drawing = draw_varied(kind, words.choice(ways), Dice.on(canvas, in_a_way, numbers, words))
        lattices = [_draw_lattice(words) for _ in drawing.traits]
        yield _Group(plates=stack_layers(drawing.layers, canvas), traits=drawing.traits, kind=label, lattices=lattices)


def _draw_lattice(words: random.Random) -> int:
    """Return a lattice's place in LATTICES."""
    chance = words.random()
    if chance < STRAIGHT_SHARE:
        return 0
    return words.choice(HALVES) if chance < STRAIGHT_SHARE + HALF_SHARE else words.randrange(len(LATTICES))


def _canvas(lattice: int, grid: int) -> Canvas:
    axis, drop = LATTICES[lattice]
    return Canvas(grid=grid, drop=float(drop), axis=axis)


def seeded_units(
    per_kind: int, seed: int, kinds: Sequence[str] = KIND_NAMES, *, mixes: int = 0, grid: int = GRID
) -> Units:
    """Return the units that belong to a seed: the same on every call, and at every grid."""
    numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
    return draw_units(per_kind, numbers, words, kinds, mixes=mixes, grid=grid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sayings:
    """Captions alone, with the colours they mean: they cost next to nothing beside units."""

    ids: Tensor
    """[batch, 32] token numbers."""
    palette: Tensor
    """[batch, 5, 3], sRGB 0 to 1."""
    is_used: Tensor
    """[batch, 5], 1.0 for colours that can be seen."""


def say_again(units: Units, times: int, tokenizer: Tokenizer, words: random.Random) -> Sayings:
    """Return each unit captioned anew `times` times, in other words and colours."""
    captions = [caption(each, words) for each in units.traits for _ in range(times)]
    return Sayings(
        ids=encode_texts(tokenizer, [each.text for each in captions], words),
        palette=torch.tensor([each.palette for each in captions]),
        is_used=torch.tensor([each.is_used for each in captions]).float(),
    )


def build_tokenizer() -> Tokenizer:
    """Return the tokenizer for every word of the grammar, found by speaking it at length."""
    return Tokenizer.build([*seeded_units(160, VOCABULARY_SEED, mixes=4, grid=VOCABULARY_GRID).texts, *COLOUR_NAMES])


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], words: random.Random | None = None) -> Tensor:
    """Return token numbers [batch, 32]; with `words`, now and then an unknown word is put among them."""
    rows = []
    for text in texts:
        row = tokenizer.encode(text)
        if words is not None and words.random() < UNKNOWN_CHANCE:
            row.insert(words.randrange(row.index(PAD) + 1 if PAD in row else LENGTH), UNKNOWN)
        rows.append(row[:LENGTH])
    return torch.tensor(rows, dtype=torch.long)
