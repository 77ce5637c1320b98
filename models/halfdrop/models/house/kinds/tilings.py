"""All-over kinds that tile the plane: zigzags, waves, cells, scales and lattices.

As in `weaves`, two periods or more each way keep them joined under a half drop and a brick.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from halfdrop.models.house.kinds.drawing import Detail, Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import GRID, circle, fraction, only_where, outline, stripe, union

NESTED = Detail(layer=1, phrases=("nested with {}", "with {} inner shape"))
DOTS_INSIDE = Detail(layer=2, phrases=("with {} dots inside", "with {} inner dots"))
NODES = Detail(layer=1, phrases=("with {} nodes", "with {} knots"))
COLUMNS = 2
WIDTH_PX = GRID / COLUMNS


def _banded(dice: Dice, phase: Tensor, period_px: Tensor | float, nouns: list[str]) -> Drawing:
    """Return bands along a bent phase, now and then with a second, thinner one between."""
    share = dice.uniform(0.45, 0.52)
    is_double = dice.flag(0.3)
    second = only_where(is_double, stripe(phase + 0.5, 0.2, period_px))
    traits = [
        Traits(noun=dice.noun(nouns), body=(0, 1) if double else (0,), names_ground=not double)
        for double in is_double.flatten()
    ]
    return Drawing(layers=[stripe(phase, share, period_px), second], traits=traits)


def chevron(dice: Dice) -> Drawing:
    """Zigzag bands."""
    rise = 0.2
    slope = rise * 2 * COLUMNS
    phase = 4 * (dice.v + rise * (fraction(dice.u * COLUMNS) * 2 - 1).abs())
    return _banded(dice, phase, GRID / 4 / math.sqrt(1 + slope * slope), ["chevron", "zigzag", "chevron zigzag"])


def waves(dice: Dice) -> Drawing:
    """Bands that follow a sine."""
    height, turn = 0.05, 2 * math.pi * COLUMNS
    slope = height * turn * torch.cos(turn * dice.u)
    phase = 4 * (dice.v + height * torch.sin(turn * dice.u))
    return _banded(dice, phase, GRID / 4 / torch.sqrt(1 + slope * slope), ["waves", "wavy lines", "wavy stripes"])


def hexagons(dice: Dice) -> Drawing:
    """A honeycomb of cells with a gap between, a little taller than regular."""
    width, rise = GRID / 4, GRID / 2

    def cell(across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        x, y = (fraction(across) - 0.5).abs() * width, (fraction(down) - 0.5).abs() * rise
        # The slanting side runs from (width / 2, rise / 6) to (0, rise / 3).
        nx, ny = rise / 6, width / 2
        slant = (nx * x + ny * (y - rise / 3)) / math.hypot(nx, ny)
        return -torch.maximum(x - width / 2, slant), torch.sqrt(x * x + y * y)

    (first, first_radius), (second, second_radius) = (
        cell(dice.u * 4, dice.v * 2),
        cell(dice.u * 4 + 0.5, dice.v * 2 + 0.5),
    )
    body = torch.maximum(first, second) - dice.uniform(1.1, 1.5)
    dot = 2.9 - torch.minimum(first_radius, second_radius)
    has_dot = dice.flag(0.4)
    nouns = ["hexagons", "honeycomb", "honeycomb hexagons"]
    traits = [Traits(noun=dice.noun(nouns), details=(DOTS_INSIDE,) if dotted else ()) for dotted in has_dot.flatten()]
    return Drawing(layers=[body, torch.full_like(body, -GRID), only_where(has_dot, dot)], traits=traits)


def scallops(dice: Dice) -> Drawing:
    """Fish scales: rows of discs, each row in front of the one above it."""
    radius, rows = WIDTH_PX / 2, 2 * COLUMNS
    line_px = dice.uniform(1.5, 2.0)
    row = (dice.v * rows).floor()
    scale: Tensor | None = None
    inner, in_front = dice.v, dice.v
    for step in (1, 0, -1):  # from the front row to the one behind
        shift = 0.5 * ((row - step) % 2)
        dx = (fraction(dice.u * COLUMNS + shift) - 0.5) * WIDTH_PX
        dy = (dice.v * rows - (row - step)) * radius
        disc = circle(dx, dy, radius)
        if scale is None:
            scale, inner, in_front = disc - line_px, disc - radius * 0.45, disc
        else:
            scale = union(scale, torch.minimum(disc - line_px, -in_front))
            inner = union(inner, torch.minimum(disc - radius * 0.45, -in_front))
            in_front = union(in_front, disc)
    assert scale is not None
    is_nested = dice.flag(0.5)
    nouns = ["scallops", "fish scales", "scale scallops"]
    traits = [Traits(noun=dice.noun(nouns), details=(NESTED,) if nested else ()) for nested in is_nested.flatten()]
    return Drawing(layers=[scale, only_where(is_nested, inner)], traits=traits)


def ogee(dice: Dice) -> Drawing:
    """Onion-shaped cells that nest into each other."""

    def cell(across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        x, y = (fraction(across) - 0.5) * 2, (fraction(down) - 0.5) * 2
        edge = 0.5 * (1 + torch.cos(math.pi * y)) - x.abs()
        gx = 2 * COLUMNS / GRID
        gy = math.pi / 2 * torch.sin(math.pi * y) * 2 * COLUMNS / GRID
        return edge / torch.sqrt(gx * gx + gy * gy), torch.sqrt(x * x + y * y) * WIDTH_PX / 2

    phase_u, phase_v = dice.u * COLUMNS, dice.v * COLUMNS
    (first, first_radius), (second, second_radius) = cell(phase_u, phase_v), cell(phase_u + 0.5, phase_v + 0.5)
    body = torch.maximum(first, second) - dice.uniform(1.3, 1.7)
    is_nested, has_dot = dice.flag(0.5), dice.flag(0.35)
    dot = 3.1 - torch.minimum(first_radius, second_radius)
    traits = []
    for nested, dotted in zip(is_nested.flatten(), has_dot.flatten(), strict=True):
        details = ((NESTED,) if nested else ()) + ((DOTS_INSIDE,) if dotted else ())
        traits.append(Traits(noun=dice.noun(["ogee", "ogee medallions"]), details=details))
    layers = [body, only_where(is_nested, outline(body - 3.4, 1.2)), only_where(has_dot, dot)]
    return Drawing(layers=layers, traits=traits)


def triangles(dice: Dice) -> Drawing:
    """Rows of upright triangles, each row half a step on."""
    size = GRID / 4
    down = fraction(dice.v * 4)
    across = fraction(dice.u * 4 + 0.5 * ((dice.v * 4).floor() % 2)) - 0.5
    slant = math.hypot(1.0, 0.5)
    body = torch.minimum((0.5 * down - across.abs()) * size / slant, (1 - down) * size)
    body = body - dice.uniform(0.6, 1.1)
    traits = [Traits(noun=dice.noun(["triangles", "geometric triangles"])) for _ in range(dice.count)]
    return Drawing(layers=[body], traits=traits)


def trellis(dice: Dice) -> Drawing:
    """A diagonal lattice of lines, now and then with knots on it or dots in its panes."""
    first, second = (dice.u + dice.v) * COLUMNS, (dice.u - dice.v) * COLUMNS
    period_px = WIDTH_PX / math.sqrt(2)
    body = union(stripe(first, dice.uniform(0.13, 0.17), period_px), stripe(second, 0.15, period_px))
    has_knots, has_dots = dice.flag(0.35), dice.flag(0.35)

    def around(offset: float, radius: float) -> Tensor:
        x = (fraction(first + offset) - 0.5) * period_px
        y = (fraction(second + offset) - 0.5) * period_px
        return circle(x, y, radius)

    traits = []
    for knotted, dotted in zip(has_knots.flatten(), has_dots.flatten(), strict=True):
        details = ((NODES,) if knotted else ()) + ((DOTS_INSIDE,) if dotted else ())
        traits.append(Traits(noun=dice.noun(["trellis", "diamond trellis", "lattice"]), details=details))
    layers = [body, only_where(has_knots, around(0.0, 3.9)), only_where(has_dots, around(0.5, 4.2))]
    return Drawing(layers=layers, traits=traits)
