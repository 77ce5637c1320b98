"""An endless supply of shuffled training batches from one seed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from halfdrop.models.house.data import Units, draw_units, encode_texts
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.settings import DistillationSettings, TrainingSettings
from halfdrop.models.house.tokenizer import Tokenizer

DRAWN_AGAIN = ("stripes", "stripes", "stripes", "stripes", "stars", "fish", "terrazzo")
"""Kinds drawn once more for each time they stand here: stripes come in eighteen looks, most kinds in one to four."""
MIXES = 10
"""Pairs of motifs drawn each time, as many units of each as of a kind: one unit in six holds two motifs."""


def draw_batches(
    settings: TrainingSettings | DistillationSettings, tokenizer: Tokenizer, seed: int
) -> Iterator[tuple[Units, Tensor, torch.Generator]]:
    """Yield shuffled batches of fresh units, their token numbers, and the dice for the noise; without end."""
    numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
    while True:
        pool = draw_units(settings.units_per_kind, numbers, words, (*KIND_NAMES, *DRAWN_AGAIN), mixes=MIXES)
        ids = encode_texts(tokenizer, pool.texts, words)
        order = torch.randperm(len(ids), generator=numbers)
        for picks in torch.split(order, settings.batch):
            if len(picks) == settings.batch:
                yield pool.picked(picks), ids[picks], numbers
