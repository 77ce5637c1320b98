"""All-over kinds without a ruler: chips, patches, veins and skins, grown from periodic noise.

They close on the torus of the lattice they are drawn for: noise, points and phases are the lattice's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from halfdrop.models.house.kinds.drawing import Detail, Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import GRID, fraction, only_where, slope_px

NESTED = Detail(layer=1, phrases=("nested with {}", "with {} inner shape"))
RINGS = Detail(layer=1, phrases=("with {} rings", "ringed in {}"), is_optional=False)


def _scatter(dice: Dice, side: int, wander: float) -> Tensor:
    """Return [count, side², 2] points, one in each cell of a square grid, off its middle by `wander` cells."""
    cells = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(1, -1, 2)
    jitter = torch.rand(dice.count, side * side, 2, generator=dice.numbers) - 0.5
    drift = torch.rand(dice.count, 1, 2, generator=dice.numbers)
    return (cells + 0.5 + wander * jitter) / side + drift


def _offsets_px(dice: Dice, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return [count, points, grid, grid] steps right and down from each point, the short way round the torus."""
    dx = dice.u.unsqueeze(1) - points[..., 0, None, None]
    dy = dice.v.unsqueeze(1) - points[..., 1, None, None]
    dx, dy = dice.canvas.short_way(dx, dy)
    return dx * GRID, dy * GRID


def terrazzo(dice: Dice) -> Drawing:
    """Stone chips in three colours: Voronoi cells, each drawn in from its neighbours."""
    points = _scatter(dice, 4, 0.8)
    dx, dy = _offsets_px(dice, points)
    distance = torch.sqrt(dx * dx + dy * dy)
    nearest, index = distance.topk(2, 1, largest=False)
    owner = index[:, 0]
    colours = torch.randint(3, (dice.count, 16), generator=dice.numbers)
    gap = dice.uniform(1.6, 2.6)
    colour = colours.gather(1, owner.flatten(1)).view(owner.shape)
    inside = (nearest[:, 1] - nearest[:, 0]) / 2 - gap
    layers = []
    for layer in range(3):
        far = (colours != layer).view(dice.count, 16, 1, 1) * 1e3
        away = -(((distance + far).amin(1) - nearest[:, 0]) / 2 + gap)
        layers.append(torch.where(colour == layer, inside, away))
    nouns = ["terrazzo", "terrazzo chips"]
    return Drawing(layers=layers, traits=[Traits(noun=dice.noun(nouns), body=(0, 1, 2)) for _ in range(dice.count)])


def _patch(noise: Tensor, level: Tensor | float) -> Tensor:
    """Return where the noise is above a level, as a distance to first order."""
    return (noise - level) / (slope_px(noise) + 0.02)


def camouflage(dice: Dice) -> Drawing:
    """Three patchy colours, one over the other."""
    layers = [_patch(dice.noise(2.3), level) for level in (0.1, 0.55, 0.95)]
    nouns = ["camouflage", "camo"]
    return Drawing(layers=layers, traits=[Traits(noun=dice.noun(nouns), body=(0, 1, 2)) for _ in range(dice.count)])


def blobs(dice: Dice) -> Drawing:
    """Rounded patches, now and then with a second colour inside."""
    noise, level = dice.noise(2.2), dice.uniform(0.1, 0.5)
    is_nested = dice.flag(0.4)
    traits = [
        Traits(noun=dice.noun(["organic blobs", "blobs", "abstract blobs"]), details=(NESTED,) if nested else ())
        for nested in is_nested.flatten()
    ]
    return Drawing(layers=[_patch(noise, level), only_where(is_nested, _patch(noise, level + 0.7))], traits=traits)


def _warped(phase: Tensor, share: Tensor | float) -> Tensor:
    """Return stripes along a phase that noise has bent; distances follow the local slope."""
    # The slope is taken through cosine and sine, which do not jump where the phase wraps.
    turn = 2 * math.pi * phase
    slope = torch.sqrt(slope_px(turn.cos()) ** 2 + slope_px(turn.sin()) ** 2) / (2 * math.pi)
    return (share / 2 - (fraction(phase) - 0.5).abs()) / (slope + 0.004)


def marble(dice: Dice) -> Drawing:
    """Broad soft veins with fine ones between them, slanting across the unit."""
    bend = dice.noise(1.7) * dice.uniform(0.07, 0.11)
    phase = dice.canvas.wave(1, 1) + bend
    ripple = dice.noise(4.0) * 0.03
    broad, fine = _warped(phase + 0.5, dice.uniform(0.16, 0.24)), _warped(phase + ripple + 0.08, 0.07)
    nouns = ["marble", "marble veins"]
    return Drawing(layers=[broad, fine], traits=[Traits(noun=dice.noun(nouns), body=(0, 1)) for _ in range(dice.count)])


def zebra(dice: Dice) -> Drawing:
    """Upright stripes that swell, lean and fork."""
    phase = dice.canvas.wave(4, 0) + dice.noise(1.8) * 0.26
    nouns = ["zebra stripes", "zebra print"]
    traits = [Traits(noun=dice.noun(nouns), names_ground=True) for _ in range(dice.count)]
    return Drawing(layers=[_warped(phase, dice.uniform(0.46, 0.54))], traits=traits)


def leopard(dice: Dice) -> Drawing:
    """Patches, each within a broken ring."""
    points = _scatter(dice, 3, 0.3)
    dx, dy = _offsets_px(dice, points)
    bearing = torch.atan2(dy, dx)
    turns = torch.rand(dice.count, 9, 1, 1, generator=dice.numbers) * 2 * math.pi
    radius = torch.sqrt(dx * dx + dy * dy) * (1 + 0.14 * torch.cos(2 * bearing + turns))
    patch = (4.0 - radius).amax(1)
    gap = (torch.cos(3 * bearing + turns) + 0.7) * 4.0
    arc = torch.minimum(1.9 - (radius - 7.4).abs(), gap)
    nouns = ["leopard spots", "leopard print"]
    traits = [Traits(noun=dice.noun(nouns), details=(RINGS,)) for _ in range(dice.count)]
    return Drawing(layers=[patch, arc.amax(1)], traits=traits)
