"""Is anything copied, and is anything left behind: distance to training tiles, and the evenness of what is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from halfdrop.models.house.batches import DRAWN_AGAIN
from halfdrop.models.house.data import draw_units
from halfdrop.models.house.gates.exact import NEAR
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, KIND_NAMES
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.settings import TrainingSettings


def first_tiles(settings: TrainingSettings) -> dict[str, Tensor]:
    """Return tiles that a training with these settings was shown: every process' first pool, by kind of free form.

    Only these can be drawn again: later pools follow noise that depends on the run.
    """
    found: dict[str, list[Tensor]] = defaultdict(list)
    for rank in range(settings.processes):
        seed = settings.seed + 1000 * (rank + 1)
        numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
        pool = draw_units(settings.units_per_kind, numbers, words, (*KIND_NAMES, *DRAWN_AGAIN))
        for kind in FREE_FORMS:
            found[kind].append(pool.plates[pool.kinds == KIND_NAMES.index(kind)])
    return {kind: torch.cat(plates) for kind, plates in found.items()}


def nearest_distance(plates: Tensor, tiles: Tensor) -> float:
    """Return the root mean square distance of plates [4, 64, 64] to the nearest of tiles [n, 4, 64, 64].

    Over every shift of the torus: a copy that was moved is a copy. Fields are compared near their edges, 0 to 1.
    """
    wanted, known = plates.clamp(-NEAR, NEAR), tiles.clamp(-NEAR, NEAR)
    alike = torch.fft.irfft2((torch.fft.rfft2(wanted) * torch.fft.rfft2(known).conj()).sum(1), s=plates.shape[-2:])
    squared = (wanted**2).sum() + (known**2).sum((1, 2, 3)) - 2 * alike.flatten(1).amax(1)
    return float((squared.min().clamp(min=0) / plates.numel()).sqrt())


def shares_by(answers: Iterable[tuple[str, bool]]) -> dict[str, float]:
    """Return the share of right answers under each name."""
    counted: dict[str, list[bool]] = defaultdict(list)
    for name, is_right in answers:
        counted[name].append(is_right)
    return {name: sum(rights) / len(rights) for name, rights in counted.items()}


def worst_of(shares: Mapping[str, float]) -> tuple[str, float]:
    """Return the name with the least share, and the share; the first of equals."""
    return min(shares.items(), key=lambda named: named[1])
