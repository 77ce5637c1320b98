"""What a kind returns: layers with the traits that a caption may mention, and the dice it draws with."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from halfdrop.contracts.repeats import Axis
from halfdrop.models.house.kinds.fields import GRID, rotate

HIGHEST_TURN = 16
"""Noise holds waves of up to this many turns a unit: above four times the most `cycles` that a kind asks for."""


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
    partner: Traits | None = None
    """The second motif of a mix, its layers numbered as in the shared unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A batch of units of one kind: up to four layers [batch, 64, 64] in grid pixels, and their traits."""

    layers: list[Tensor]
    traits: list[Traits]


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """Where units are drawn: how finely, and the lattice on whose torus they close.

    Coordinates do not depend on the grid: a unit is 64 wide whether 64 samples or 256 cross it, so that one seed is
    one unit at every grid. With a drop d the point (u + 1, v + d) is the point (u, v) again.
    """

    grid: int = GRID
    """Samples along each side."""
    drop: float = 0.0
    """Shift of each column of units against the one before, down, as a share of the unit; 0 is the straight torus."""
    axis: Axis = "columns"
    """What is shifted; "rows" move to the right."""

    @property
    def u(self) -> Tensor:
        """From the left edge of the unit, 0 to 1: [1, 1, grid]."""
        return ((torch.arange(self.grid) + 0.5) / self.grid).view(1, 1, -1)

    @property
    def v(self) -> Tensor:
        """From its top edge, 0 to 1: [1, grid, 1]."""
        return self.u.view(1, -1, 1)

    def short_way(self, across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        """Return steps across and down, in units, by the short way round the lattice's torus."""
        if self.axis == "rows":
            down, across = replace(self, axis="columns").short_way(down, across)
            return across, down
        turns = across.round()
        down = down - self.drop * turns
        return across - turns, down - down.round()

    def wave(self, across: int, down: int) -> Tensor:
        """Return the phase [1, grid, grid] of a plane wave that closes on the lattice: the nearest one to so many
        turns across and down the unit."""
        if self.axis == "rows":
            return replace(self, axis="columns").wave(down, across).transpose(1, 2)
        return (round(across + down * self.drop) - down * self.drop) * self.u + down * self.v


STRAIGHT = Canvas()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dice:
    """Seeded randomness for one batch of `count` units, and the coordinates they are drawn in.

    `x` runs right and `y` runs up from the centre of the motif, in grid pixels (64 to a unit); `u` runs right and `v`
    runs down from the unit's top left corner, 0 to 1. All broadcast to [count, grid, grid].
    """

    count: int
    numbers: torch.Generator
    words: random.Random
    canvas: Canvas
    x: Tensor
    y: Tensor

    @classmethod
    def on(cls, canvas: Canvas, count: int, numbers: torch.Generator, words: random.Random) -> Dice:
        """Return dice whose motif stands in the middle of the unit."""
        x, y = (canvas.u - 0.5) * GRID, (0.5 - canvas.v) * GRID
        return cls(count=count, numbers=numbers, words=words, canvas=canvas, x=x, y=y)

    @property
    def u(self) -> Tensor:
        return self.canvas.u

    @property
    def v(self) -> Tensor:
        return self.canvas.v

    def moved(self, across: float, down: float) -> Dice:
        """Return dice whose motif stands at another place of the unit, 0 to 1, and wraps round the lattice's torus."""
        dx, dy = self.canvas.short_way(self.u - across, self.v - down)
        return replace(self, x=dx * GRID, y=-dy * GRID)

    def turned(self, angle: float) -> Dice:
        """Return dice whose motif is turned clockwise by `angle` radians."""
        x, y = rotate(self.x, self.y, angle)
        return replace(self, x=x, y=y)

    def scaled(self, scale: float) -> Dice:
        """Return dice whose motif is drawn `scale` times as large; its fields must be multiplied by that as well."""
        return replace(self, x=self.x / scale, y=self.y / scale)

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
        """Return [count, grid, grid] Gaussian noise of unit variance and no mean, about `cycles` per side, that
        closes on the lattice's torus.

        A sum of the lattice's own plane waves; their spectrum is round in the plane, not in the lattice's indices.
        """
        drop, rows = self.canvas.drop, torch.arange(-HIGHEST_TURN, HIGHEST_TURN + 1.0)
        columns = rows.view(1, -1) - drop * rows.view(-1, 1)
        power = columns**2 + rows.view(-1, 1) ** 2
        height = torch.exp(-power / (2 * cycles * cycles)) * (power > 0)
        waves = torch.randn(self.count, *height.shape, 2, generator=self.numbers) * height.unsqueeze(-1)
        place = (torch.arange(self.canvas.grid) + 0.5) / self.canvas.grid
        along = torch.polar(torch.ones(()), 2 * math.pi * rows.view(-1, 1) * place)
        across = torch.view_as_complex(waves) @ along
        if drop:
            across = across * torch.polar(torch.ones(()), -2 * math.pi * drop * rows.view(-1, 1) * place)
        field = (along.T @ across).real
        scaled: Tensor = field / field.std((1, 2), keepdim=True, correction=0)
        return scaled.transpose(1, 2) if self.canvas.axis == "rows" else scaled

    def noun(self, nouns: Sequence[str]) -> str:
        """Return one of several names for the same thing."""
        return self.words.choice(nouns)


def seeded_words(seed: int) -> random.Random:
    """Return the dice for words that belong to a seed."""
    return random.Random(seed)  # noqa: S311 - it chooses words for training data, no secrets


def flat(values: Tensor) -> list[float]:
    """Return a [count, 1, 1] tensor as a list, one entry per unit."""
    return [float(value) for value in values.flatten()]
