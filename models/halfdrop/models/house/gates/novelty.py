"""Is anything copied, and is anything left behind: distance to training tiles, and the evenness of what is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from halfdrop.models.house.gates.exact import NEAR


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
