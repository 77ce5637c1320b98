"""The true motif that a drawn unit is most like: what its shapes are held against.

A prompt leaves much open (how large, how plump, how thick a line), so a drawn unit may not be held against one exact
unit. Many are drawn with the same looks, the nearest is taken, and its numbers are then turned a little at a time as
long as it comes nearer. A small shift is free: where a motif floats on its torus does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from halfdrop.models.house.kinds.catalogue import KINDS, stack_layers
from halfdrop.models.house.kinds.drawing import STRAIGHT, Canvas, Dice, Traits, seeded_words
from halfdrop.models.house.kinds.variations import draw_varied

EXEMPLARS = 96
"""Exact units of each kind (and way of drawing it) that a drawn one is laid over."""
STEERED = 12
"""Units tried in each round of steering."""
SPREADS = (0.5, 0.2, 0.08, 0.03)
"""How far numbers are turned in each round, as a share of their range."""
SHIFT_MAX_PX = 3
"""How far a drawn unit may float, in grid pixels, without being held to be wrong."""
NEAR = 0.5
"""Fields are compared up to this many bands from an edge: beyond it they say nothing of shapes."""


@dataclass(kw_only=True, slots=True)
class Tape:
    """The numbers that a kind asked its dice for, in order; played again they draw the same units at any grid."""

    values: list[Tensor] = field(default_factory=list)
    """[count, 1, 1] each."""
    ranges: list[tuple[float, float] | None] = field(default_factory=list)
    """Lowest and highest of each, None for what is chosen and not measured."""
    position: int | None = None
    """Where playing has come to; None while recording."""

    def pass_on(self, value: Tensor, limits: tuple[float, float] | None) -> Tensor:
        """Return what stands on the tape here, or record a value."""
        if self.position is None:
            self.values.append(value)
            self.ranges.append(limits)
            return value
        self.position += 1
        return self.values[self.position - 1]

    def steered(self, unit: int, count: int, spread: float, numbers: torch.Generator) -> Tape:
        """Return a tape of `count` units like the `unit`th, the first of them the same, for playing."""
        values = []
        for value, limits in zip(self.values, self.ranges, strict=True):
            base = value[unit : unit + 1].expand(count, 1, 1)
            if limits is not None:
                turn = (torch.rand(count, 1, 1, generator=numbers) * 2 - 1) * spread * (limits[1] - limits[0])
                turn[0] = 0
                base = (base + turn).clamp(*limits)
            values.append(base)
        return Tape(values=values, ranges=self.ranges, position=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class TapedDice(Dice):
    """Dice that write down, or play back, what they gave."""

    tape: Tape

    # Named classes instead of super(): a dataclass with slots is made twice, and super() finds the first.
    def uniform(self, low: float, high: float) -> Tensor:
        return self.tape.pass_on(Dice.uniform(self, low, high), (low, high))

    def choice(self, values: Sequence[float]) -> Tensor:
        return self.tape.pass_on(Dice.choice(self, values), None)

    def flag(self, chance: float) -> Tensor:
        return self.tape.pass_on(Dice.flag(self, chance), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Exact units of one kind, drawn in one way."""

    kind: str
    way: str | None
    plates: Tensor
    """[units, 4, 64, 64]."""
    traits: list[Traits]
    tape: Tape


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """The nearest true motif."""

    kind: str
    way: str | None
    traits: Traits
    plates: Tensor
    """[4, 64, 64], moved to where the drawn one stands."""
    tape: Tape
    """Draws it again."""
    moved_px: tuple[int, int]
    """How far it was moved, down and across, in grid pixels."""

    def at(self, grid: int) -> Tensor:
        """Return it at a finer grid, [4, grid, grid], a multiple of 64."""
        tape = Tape(values=self.tape.values, ranges=self.tape.ranges, position=0)
        plates, _ = _draw(self.kind, self.way, 1, tape, Canvas(grid=grid), seed=0)
        step = grid // STRAIGHT.grid
        return plates[0].roll((self.moved_px[0] * step, self.moved_px[1] * step), (1, 2))


def draw_exact(
    kind: str, count: int, *, seed: int, way: str | None = None, canvas: Canvas = STRAIGHT
) -> tuple[Tensor, list[Traits]]:
    """Return exact units of a kind, [count, 4, grid, grid], drawn plainly or in one of the ways of `variations`."""
    return _draw(kind, way, count, Tape(), canvas, seed=seed)


def draw_pool(kind: str, way: str | None, seed: int, count: int = EXEMPLARS) -> Pool:
    """Return exact units to hold drawn ones against."""
    tape = Tape()
    plates, traits = _draw(kind, way, count, tape, STRAIGHT, seed=seed)
    return Pool(kind=kind, way=way, plates=plates, traits=traits, tape=tape)


def find_likeness(drawn: Tensor, pool: Pool, allowed: Sequence[int], seed: int) -> Likeness:
    """Return the true motif nearest to drawn plates [4, 64, 64]: of the pool's `allowed` units and those like them."""
    numbers = torch.Generator().manual_seed(seed)
    picks = torch.tensor(list(allowed))
    best, distance, moved = nearest(drawn, pool.plates[picks])
    unit = int(picks[best])
    plates, tape, traits = pool.plates[unit], pool.tape.steered(unit, 1, 0.0, numbers), pool.traits[unit]
    if any(limits is not None for limits in pool.tape.ranges):
        for spread in SPREADS:
            candidates = tape.steered(0, STEERED, spread, numbers)
            turned, _ = _draw(pool.kind, pool.way, STEERED, candidates, STRAIGHT, seed=seed)
            best, new_distance, new_moved = nearest(drawn, turned)
            if new_distance < distance:
                distance, moved, plates = new_distance, new_moved, turned[best]
                tape = candidates.steered(best, 1, 0.0, numbers)
    return Likeness(
        kind=pool.kind,
        way=pool.way,
        traits=traits,
        plates=plates.roll(moved, (1, 2)),
        tape=tape,
        moved_px=moved,
    )


def nearest(drawn: Tensor, exemplars: Tensor) -> tuple[int, float, tuple[int, int]]:
    """Return the place of the nearest exemplar, its squared distance, and how far it had to be moved (down, across).

    drawn: [4, 64, 64]; exemplars: [n, 4, 64, 64]. Distances are between fields near their edges, over all layers.
    """
    wanted, known = drawn.clamp(-NEAR, NEAR), exemplars.clamp(-NEAR, NEAR)
    alike = torch.fft.irfft2((torch.fft.rfft2(wanted) * torch.fft.rfft2(known).conj()).sum(1), s=drawn.shape[-2:])
    offsets = torch.arange(-SHIFT_MAX_PX, SHIFT_MAX_PX + 1)
    windows = alike[:, offsets][:, :, offsets].flatten(1)
    distances = (wanted**2).sum() + (known**2).sum((1, 2, 3))[:, None] - 2 * windows
    place = int(distances.argmin())
    unit, window = divmod(place, windows.shape[1])
    down, across = divmod(window, len(offsets))
    return unit, float(distances.flatten()[place]), (int(offsets[down]), int(offsets[across]))


def _draw(
    kind: str, way: str | None, count: int, tape: Tape, canvas: Canvas, *, seed: int
) -> tuple[Tensor, list[Traits]]:
    plain = Dice.on(canvas, count, torch.Generator().manual_seed(seed), seeded_words(seed))
    dice = TapedDice(
        count=count, numbers=plain.numbers, words=plain.words, canvas=canvas, x=plain.x, y=plain.y, tape=tape
    )
    drawing = draw_varied(kind, way, dice) if way else KINDS[kind](dice)
    layers = [layer.expand(count, canvas.grid, canvas.grid) for layer in drawing.layers]
    return stack_layers(layers, canvas), drawing.traits
