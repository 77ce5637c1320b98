"""What a kind returns: layers with the traits that a caption may mention, and the dice it draws with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfdrop.models.house.kinds.fields import GRID


@dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """A layer beside the body, and the ways to name it; `{}` stands for its colour."""

    layer: int
    phrases: tuple[str, ...]
    is_optional: bool = True
    """Whether the kind is also drawn without it: then a caption must mention it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """All that a caption may say of one drawn unit, colours aside."""

    noun: str
    adjectives: tuple[str, ...] = ()
    body: tuple[int, ...] = (0,)
    """Layers whose colours are named with the noun, in the order named."""
    details: tuple[Detail, ...] = ()
    is_blended: bool = False
    """Whether layers 0 and 1 are overprints: half ground, half the colour of layer 2."""
    names_ground: bool = False
    """Whether 'black and white checks' is said of it: the last colour is then the ground."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A batch of units of one kind: up to four layers [batch, 64, 64] in grid pixels, and their traits."""

    layers: list[Tensor]
    traits: list[Traits]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dice:
    """Seeded randomness for one batch of `count` units."""

    count: int
    numbers: torch.Generator
    words: random.Random

    def uniform(self, low: float, high: float) -> Tensor:
        """Return [count, 1, 1] numbers between low and high."""
        return torch.rand(self.count, 1, 1, generator=self.numbers) * (high - low) + low

    def choice(self, values: Sequence[float]) -> Tensor:
        """Return [count, 1, 1] numbers out of the values."""
        picks = torch.randint(len(values), (self.count, 1, 1), generator=self.numbers)
        return torch.tensor(values, dtype=torch.float32)[picks]

    def flag(self, chance: float) -> Tensor:
        """Return [count, 1, 1] booleans, true with the given chance."""
        return torch.rand(self.count, 1, 1, generator=self.numbers) < chance

    def noise(self, cycles: float) -> Tensor:
        """Return [count, 64, 64] periodic Gaussian noise of unit variance, about `cycles` per side."""
        full = torch.fft.fftfreq(GRID) * GRID
        power = full.view(GRID, 1) ** 2 + full[: GRID // 2 + 1].view(1, -1) ** 2
        white = torch.randn(self.count, GRID, GRID, generator=self.numbers)
        # The mean is taken out: a threshold would otherwise cover a random share of the unit.
        spectrum = torch.fft.rfft2(white) * torch.exp(-power / (2 * cycles * cycles)) * (power > 0)
        smooth = torch.fft.irfft2(spectrum, s=(GRID, GRID))
        scaled: Tensor = smooth / smooth.std((1, 2), keepdim=True)
        return scaled

    def noun(self, nouns: Sequence[str]) -> str:
        """Return one of several names for the same thing."""
        return self.words.choice(nouns)


def seeded_words(seed: int) -> random.Random:
    """Return the dice for words that belong to a seed."""
    return random.Random(seed)  # noqa: S311 - it chooses words for training data, no secrets


def flat(values: Tensor) -> list[float]:
    """Return a [count, 1, 1] tensor as a list, one entry per unit."""
    return [float(value) for value in values.flatten()]
