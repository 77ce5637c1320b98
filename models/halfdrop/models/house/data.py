"""Training batches: units of every kind with captions, generated while training and never stored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfdrop.models.house.captions import caption
from halfdrop.models.house.kinds.catalogue import KIND_NAMES, draw
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.palettes import COLOUR_NAMES
from halfdrop.models.house.tokenizer import LENGTH, PAD, UNKNOWN, Tokenizer

VOCABULARY_SEED = 1
UNKNOWN_CHANCE = 0.06
"""Share of training captions in which a word is added that the model has never seen."""


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
    """[batch], index into KIND_NAMES."""


def draw_units(
    per_kind: int, numbers: torch.Generator, words: random.Random, kinds: Sequence[str] = KIND_NAMES
) -> Units:
    """Return `per_kind` units of each kind, kind by kind."""
    plates: list[Tensor] = []
    captions = []
    labels: list[int] = []
    for kind in kinds:
        drawn, traits = draw(kind, per_kind, numbers, words)
        plates.append(drawn)
        captions += [caption(each, words) for each in traits]
        labels += [KIND_NAMES.index(kind)] * per_kind
    return Units(
        plates=torch.cat(plates),
        texts=[each.text for each in captions],
        palette=torch.tensor([each.palette for each in captions]),
        is_used=torch.tensor([each.is_used for each in captions]).float(),
        kinds=torch.tensor(labels),
    )


def seeded_units(per_kind: int, seed: int, kinds: Sequence[str] = KIND_NAMES) -> Units:
    """Return the units that belong to a seed: the same on every call."""
    return draw_units(per_kind, torch.Generator().manual_seed(seed), seeded_words(seed), kinds)


def build_tokenizer() -> Tokenizer:
    """Return the tokenizer for every word of the grammar, found by speaking it at length."""
    return Tokenizer.build([*seeded_units(160, VOCABULARY_SEED).texts, *COLOUR_NAMES])


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], words: random.Random | None = None) -> Tensor:
    """Return token numbers [batch, 32]; with `words`, now and then an unknown word is put among them."""
    rows = []
    for text in texts:
        row = tokenizer.encode(text)
        if words is not None and words.random() < UNKNOWN_CHANCE:
            row.insert(words.randrange(row.index(PAD) + 1 if PAD in row else LENGTH), UNKNOWN)
        rows.append(row[:LENGTH])
    return torch.tensor(rows, dtype=torch.long)
