"""Training pairs for the refiner: an exact unit on the fine grid, and the same unit as a preview draws it.

The student itself is the best teacher of its own mistakes: an exact unit is noised to a middle level and the student
walks from there, so that the composition stays and the mistakes are real ones. Beside those come units degraded by
formula, some of them with mistakes that the student makes rarely, and units left exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from halfdrop.models.fields import tidy_fields
from halfdrop.models.house.batches import DRAWN_AGAIN, MIXES
from halfdrop.models.house.data import MIX, Units, draw_units, encode_texts
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, KIND_NAMES
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.net import Denoiser, TextEncoder, load_student
from halfdrop.models.house.refiner.degrading import degrade, displacement_px
from halfdrop.models.house.refiner.settings import RefinerSettings
from halfdrop.models.house.refiner.symmetry import symmetrise
from halfdrop.models.house.schedule import CLEAN_LIMIT
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import LATTICES

FINE_GRID = 128
LEVELS = (0.4, 0.75)
"""From and to which noise level an exact unit is noised before the student draws on: below, hardly a mistake is made;
above, the unit comes back in another size or place."""
STEP_DOWN = 0.4
"""The student's last step starts here; from higher levels it walks as it does in a preview."""
MISPLACED_PX = 0.9
"""A unit whose edges the student moved farther than this on average is another composition: no pair."""

TORN_SAMPLES = 16
"""Fine samples beside a torn border that nothing is learnt from: 8 grid pixels."""
STRAIGHT = 0
"""Place of the straight lattice in LATTICES."""


class Pairs(NamedTuple):
    """Coarse and fine fields of the same units; the first dimension is the batch."""

    coarse: Tensor
    """[batch, 4, 64, 64], -1 to 1, degraded."""
    fine: Tensor
    """[batch, 4, 128, 128], -1 to 1, exact."""
    ids: Tensor
    """[batch, 32] token numbers."""
    kinds: Tensor
    """[batch], index into KIND_NAMES, or MIX."""
    lattices: Tensor
    """[batch], index into LATTICES: free forms close on the torus of theirs."""

    def picked(self, picks: Tensor) -> Pairs:
        """Return the pairs at `picks`, in 32 bits."""
        return Pairs(
            coarse=self.coarse[picks].float(),
            fine=self.fine[picks].float(),
            ids=self.ids[picks],
            kinds=self.kinds[picks],
            lattices=self.lattices[picks],
        )


class Student:
    """The shipped preview model, as a source of mistakes."""

    def __init__(self, bundle: Path) -> None:
        self._text_encoder: TextEncoder
        self._denoiser: Denoiser
        self._text_encoder, self._denoiser = load_student(bundle)
        self._tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")

    @torch.no_grad()
    def redraw(self, units: Units, level: float, numbers: torch.Generator) -> Tensor:
        """Return exact units noised to `level` and drawn from there by the student, [batch, 4, 64, 64], -1 to 1."""
        condition, _ = self._text_encoder(encode_texts(self._tokenizer, units.texts))
        fields = (1 - level) * units.plates + level * torch.randn(units.plates.shape, generator=numbers)
        for at, following in pairwise(_walk(level)):
            clean = self._denoiser(fields, torch.full((len(fields),), at), condition)
            if following == 0:
                drawn: Tensor = clean.clamp(-1, 1)
                return drawn
            clean = clean.clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
            fields = clean + (fields - clean) * (following / at)
        raise AssertionError("a walk ends at 0")


def _walk(level: float) -> tuple[float, ...]:
    return (level, STEP_DOWN, 0.0) if level > 1.4 * STEP_DOWN else (level, 0.0)


def draw_pairs(
    settings: RefinerSettings,
    student: Student,
    tokenizer: Tokenizer,
    numbers: torch.Generator,
    words: random.Random,
    *,
    kinds: Sequence[str] = KIND_NAMES,
    mixes: int = MIXES,
    restores: bool = True,
) -> tuple[Pairs, list[str]]:
    """Return `settings.units_per_kind` pairs of each kind, and of each of `mixes` pairs of motifs; and captions.

    restores: restore the coarse side's symmetries, as the refiner does before its network.
    """
    units, fine = draw_twice(settings.units_per_kind, numbers, words, kinds, mixes=mixes)
    exact = units.plates
    coarse = degrade(exact, numbers)
    level = float(torch.rand((), generator=numbers)) * (LEVELS[1] - LEVELS[0]) + LEVELS[0]
    chance = torch.rand(len(exact), generator=numbers)
    closes_straight = whole_border(units.kinds, units.lattices)
    asks = ((chance < settings.student_share) & closes_straight).nonzero().flatten()
    if len(asks):
        redrawn = student.redraw(units.picked(asks), level, numbers)
        is_kept = displacement_px(redrawn, exact[asks]) < MISPLACED_PX
        coarse[asks[is_kept]] = redrawn[is_kept]
    # What reaches the hub was tidied at the edge.
    coarse = torch.from_numpy(tidy_fields(coarse.flatten(0, 1).numpy())).view_as(coarse)
    coarse = symmetrise(coarse) if restores else coarse
    is_exact = (chance > 1 - settings.exact_share)[:, None, None, None]
    pairs = Pairs(
        coarse=torch.where(is_exact, exact, coarse),
        fine=fine,
        ids=encode_texts(tokenizer, units.texts, words),
        kinds=units.kinds,
        lattices=units.lattices,
    )
    return pairs, units.texts


def whole_border(kinds: Tensor, lattices: Tensor) -> Tensor:
    """Return [batch] whether units close on the straight torus, as the student here and the refiner take them to do.

    Free forms and mixes close on the torus of their own lattice; all others are drawn on the straight one.
    """
    free = torch.tensor([MIX, *(KIND_NAMES.index(kind) for kind in FREE_FORMS)])
    return (lattices == STRAIGHT) | ~torch.isin(kinds, free)


def border_weight(pairs: Pairs) -> Tensor:
    """Return [batch, 1, 128, 128]: 0 near a border that is torn on the straight torus, 1 elsewhere.

    The hub refines such borders in windows of their own (`house.refining`), so nothing need be learnt of the tear.
    """
    weight = torch.ones(len(pairs.kinds), 1, FINE_GRID, FINE_GRID)
    for unit in (~whole_border(pairs.kinds, pairs.lattices)).nonzero().flatten().tolist():
        across = weight[unit] if LATTICES[int(pairs.lattices[unit])][0] == "columns" else weight[unit].transpose(1, 2)
        across[..., :TORN_SAMPLES] = 0
        across[..., -TORN_SAMPLES:] = 0
    return weight


def draw_twice(
    per_kind: int, numbers: torch.Generator, words: random.Random, kinds: Sequence[str] = KIND_NAMES, *, mixes: int = 0
) -> tuple[Units, Tensor]:
    """Return units on the coarse grid, and their plates on the fine one, [units, 4, 128, 128]."""
    before = numbers.get_state(), words.getstate()
    fine = draw_units(per_kind, numbers, words, kinds, mixes=mixes, grid=FINE_GRID).plates
    numbers.set_state(before[0])
    words.setstate(before[1])
    return draw_units(per_kind, numbers, words, kinds, mixes=mixes), fine


def pool_batches(settings: RefinerSettings, student: Student, tokenizer: Tokenizer, seed: int) -> Iterator[Pairs]:
    """Yield shuffled batches without end, each pair about `settings.uses` times, from a pool that is kept fresh."""
    numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
    refills: list[Pairs] = []
    owed = 0.0
    while True:
        while len(refills) < 2 or owed >= 1:
            drawn, _ = draw_pairs(settings, student, tokenizer, numbers, words, kinds=(*KIND_NAMES, *DRAWN_AGAIN))
            refills.append(drawn._replace(coarse=drawn.coarse.half(), fine=drawn.fine.half()))
            owed = max(0.0, owed - 1)
            if len(refills) > settings.pool_refills:
                refills.pop(0)
        per_refill = len(refills[0].ids)
        picks = torch.randperm(per_refill * len(refills), generator=numbers)[: settings.batch]
        parts = [refills[pick // per_refill].picked(torch.tensor([pick % per_refill])) for pick in picks.tolist()]
        yield Pairs(*(torch.cat(part) for part in zip(*parts, strict=True)))
        owed += settings.batch / (settings.uses * per_refill)


def held_out_pairs(
    settings: RefinerSettings, student: Student, tokenizer: Tokenizer, seed: int, *, restores: bool = True
) -> tuple[Pairs, list[str]]:
    """Return pairs that belong to a seed, of every kind but those that no exact unit can be held against."""
    numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
    kinds = [kind for kind in KIND_NAMES if kind not in FREE_FORMS]
    return draw_pairs(settings, student, tokenizer, numbers, words, kinds=kinds, mixes=0, restores=restores)
