"""Signed-distance fields on the unit grid: the vocabulary every kind is drawn with.

All fields are [batch, grid, grid] float32 tensors in *grid pixels*, of which a unit has 64 however finely it is
sampled; positive inside a shape. Coordinates come from the dice (`drawing`). The zero set of every primitive is exact.
Away from corners the distance is exact too; where shapes are joined by `union` or `overlap` it is a bound, which the
clamp at a few pixels makes good enough.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GRID = 64
"""Samples along each side of a unit."""
BAND_PX = 6.0
"""Distance, in grid pixels, at which a stored field saturates at -1 or 1."""
PLATES = 4
"""Layers a unit has room for, beside its ground colour."""
REACH_PX = 29.0
"""Farthest a set motif may reach from the centre: it leaves 2 grid pixels of margin and a rounding."""
ABSENT = -99.0
"""Field value of a layer that is not there; clamps to -1."""

Scalar = Tensor | float


def union(first: Tensor, *others: Tensor) -> Tensor:
    """Return the field of everything inside any of the shapes."""
    for other in others:
        first = torch.maximum(first, other)
    return first


def overlap(first: Tensor, *others: Tensor) -> Tensor:
    """Return the field of everything inside all of the shapes."""
    for other in others:
        first = torch.minimum(first, other)
    return first


def only_where(present: Tensor, field: Tensor) -> Tensor:
    """Return the field where `present` [batch, 1, 1] is true and an absent layer elsewhere."""
    return torch.where(present, field, torch.full((), ABSENT))


def outline(field: Tensor, half_width_px: Scalar) -> Tensor:
    """Return a line of the given half width along the field's edge."""
    return half_width_px - field.abs()


def rotate(x: Tensor, y: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Turn the frame so that what is drawn in it appears turned clockwise by `angle` radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * x - sine * y, sine * x + cosine * y


def fraction(value: Tensor) -> Tensor:
    """Return the part after the point, 0 to 1, also for negative values."""
    return value - value.floor()


def circle(x: Tensor, y: Tensor, radius: Scalar) -> Tensor:
    """Return a disc."""
    return radius - torch.sqrt(x * x + y * y)


def ellipse(x: Tensor, y: Tensor, half_width: Scalar, half_height: Scalar) -> Tensor:
    """Return an ellipse, its distance corrected to first order by the gradient."""
    a, b = x / half_width, y / half_height
    level = torch.sqrt(a * a + b * b + 1e-6)
    slope = torch.sqrt((a / half_width) ** 2 + (b / half_height) ** 2 + 1e-6)
    return -level * (level - 1) / slope


def box(x: Tensor, y: Tensor, half_width: Scalar, half_height: Scalar) -> Tensor:
    """Return an axis-aligned rectangle."""
    dx, dy = x.abs() - half_width, y.abs() - half_height
    outside = torch.sqrt(dx.clamp(min=0) ** 2 + dy.clamp(min=0) ** 2)
    return -(outside + torch.maximum(dx, dy).clamp(max=0))


def segment(x: Tensor, y: Tensor, start: tuple[Scalar, Scalar], end: tuple[Scalar, Scalar], radius: Scalar) -> Tensor:
    """Return a straight stroke with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = x - start[0], y - start[1]
    along = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return radius - torch.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2)


def vesica(x: Tensor, y: Tensor, half_length: Scalar, half_width: Scalar) -> Tensor:
    """Return the upright lens of two equal circles: a leaf."""
    offset = (half_length * half_length - half_width * half_width) / (2 * half_width)
    radius = offset + half_width
    ax, ay = x.abs(), y.abs()
    tip = torch.sqrt(ax * ax + (ay - half_length) ** 2)
    side = torch.sqrt((ax + offset) ** 2 + ay * ay) - radius
    return -torch.where((ay - half_length) * offset > ax * half_length, tip, side)


def star(x: Tensor, y: Tensor, radius: Tensor, points: Tensor, sharpness: Tensor) -> Tensor:
    """Return a star with a point upwards; sharpness 0 is a needle, 1 the regular polygon."""
    sector = math.pi / points
    edge = math.pi / (2 + (points - 2) * sharpness)
    bearing = torch.remainder(torch.atan2(x, y), 2 * sector) - sector
    length = torch.sqrt(x * x + y * y)
    px = length * bearing.cos() - radius * sector.cos()
    py = length * bearing.sin().abs() - radius * sector.sin()
    along = (-(px * edge.cos() + py * edge.sin())).clamp(min=0)
    along = torch.minimum(along, radius * sector.sin() / edge.sin())
    px, py = px + edge.cos() * along, py + edge.sin() * along
    return -torch.sqrt(px * px + py * py) * px.sign()


def heart(x: Tensor, y: Tensor, size: Tensor) -> Tensor:
    """Return a heart about 1.2 sizes wide and 1.1 high, centred."""
    ax, ay = (x / size).abs(), y / size + 0.552
    lobe = torch.sqrt((ax - 0.25) ** 2 + (ay - 0.75) ** 2) - math.sqrt(2) / 4
    foot = 0.5 * (ax + ay).clamp(min=0)
    below = torch.minimum(ax * ax + (ay - 1) ** 2, (ax - foot) ** 2 + (ay - foot) ** 2)
    return -torch.where(ax + ay > 1, lobe, torch.sqrt(below) * (ax - ay).sign()) * size


def rhombus(x: Tensor, y: Tensor, half_width: Tensor, half_height: Tensor) -> Tensor:
    """Return an upright diamond."""
    ax, ay = x.abs(), y.abs()
    square = half_width**2 + half_height**2
    along = ((half_width - 2 * ax) * half_width - (half_height - 2 * ay) * half_height) / square
    along = along.clamp(-1, 1)
    dx, dy = ax - 0.5 * half_width * (1 - along), ay - 0.5 * half_height * (1 + along)
    side = ax * half_height + ay * half_width - half_width * half_height
    return -torch.sqrt(dx * dx + dy * dy) * side.sign()


def teardrop(x: Tensor, y: Tensor, foot: Scalar, tip: float, height: Scalar) -> Tensor:
    """Return a drop: a disc of radius `foot` at the origin drawn out upwards to radius `tip`."""
    slope = (foot - tip) / height
    flank = (1 - slope * slope) ** 0.5
    ax = x.abs()
    turn = -slope * ax + flank * y
    low = torch.sqrt(ax * ax + y * y) - foot
    high = torch.sqrt(ax * ax + (y - height) ** 2) - tip
    return -torch.where(turn < 0, low, torch.where(turn > flank * height, high, ax * flank + y * slope - foot))


def petals(x: Tensor, y: Tensor, count: Tensor, radius: Scalar, fatness: Scalar) -> Tensor:
    """Return `count` elliptic petals round the origin, one of them upwards; fatness is width over length."""
    step = 2 * math.pi / count
    bearing = (fraction(torch.atan2(x, y) / step + 0.5) - 0.5) * step
    length = torch.sqrt(x * x + y * y)
    half_length = radius * 0.36
    reach = length * bearing.cos() - (radius - half_length)
    return ellipse(reach, length * bearing.sin(), half_length, half_length * fatness)


def stripe(phase: Tensor, share: Scalar, period_px: Scalar) -> Tensor:
    """Return stripes centred on phase one half, covering `share` of each period of `period_px` pixels."""
    return (share / 2 - (fraction(phase) - 0.5).abs()) * period_px


def slope_px(field: Tensor) -> Tensor:
    """Return the gradient's length per grid pixel; at the borders from inside, so that any torus will do."""
    gy, gx = torch.gradient(field, spacing=GRID / field.shape[-1], dim=(1, 2), edge_order=2)
    return torch.sqrt(gx * gx + gy * gy + 1e-6)
