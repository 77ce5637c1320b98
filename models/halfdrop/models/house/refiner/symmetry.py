"""Make equal what was meant to be equal: symmetries that a layer nearly has are found and made exact.

A preview's petals, points and checks are each hand-cut a little differently. Where a layer, turned, flipped or moved,
meets itself within what the preview model's edges wander, it is replaced by the mean over that symmetry: its edges
then wander less by the root of the number of copies. Nothing is learnt here, so it holds for motifs nobody trained
for; a layer without symmetry comes back as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from halfdrop.models.house.kinds.fields import BAND_PX, GRID

NEAR_PX = 0.5
"""Farthest that a layer may lie from its image on average, in grid pixels, to count as symmetric."""
FAR_PX, FAR_SHARE = 2.0, 0.03
"""An edge farther off than this has not wandered; so much of it is forgiven, for tips and notches."""
MOVED_PX = 0.4
"""Farthest that all symmetries together may move a layer's edges on average: beyond, a thin line is seen to jump."""
SNAP_PX = 0.8
"""A motif whose middle lies this near to the unit's was meant to stand in it."""
TAPS = 2
"""Samples that bicubic interpolation needs beyond the unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A map of the plane about a centre; `order` times it is no move at all. Either it turns or it steps, or it is a
    flip, which may do both."""

    order: int
    matrix: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    step: tuple[float, float] = (0.0, 0.0)
    """To the right and down, in parts of the unit."""


def _turn(parts: int) -> Move:
    cosine, sine = math.cos(2 * math.pi / parts), math.sin(2 * math.pi / parts)
    return Move(order=parts, matrix=((cosine, -sine), (sine, cosine)))


def _steps() -> tuple[Move, ...]:
    straight = [(part, step) for part in (8, 6, 5, 4, 3, 2) for step in ((1 / part, 0.0), (0.0, 1 / part))]
    slanted = [(2, (1 / 2, 1 / 2)), (4, (1 / 4, 1 / 2)), (4, (1 / 2, 1 / 4)), (4, (1 / 4, 1 / 4)), (4, (1 / 4, -1 / 4))]
    return tuple(Move(order=order, step=step) for order, step in straight + slanted)


MIRRORED_X, MIRRORED_Y = ((-1.0, 0.0), (0.0, 1.0)), ((1.0, 0.0), (0.0, -1.0))
TURNS = tuple(_turn(parts) for parts in (16, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2))
"""Tried in this order; the first that holds is taken, so a disc is turned by sixteenths."""
FLIPS = (
    Move(order=2, matrix=MIRRORED_X),
    Move(order=2, matrix=MIRRORED_Y),
    Move(order=2, matrix=((0.0, 1.0), (1.0, 0.0))),
    Move(order=2, matrix=((0.0, -1.0), (-1.0, 0.0))),
)
STEPS = _steps()
SHIFTED_FLIPS = tuple(
    move
    for step in (0.25, 0.5, -0.25)
    for move in (
        Move(order=2, matrix=MIRRORED_X, step=(step, 0.0)),
        Move(order=2, matrix=MIRRORED_Y, step=(0.0, step)),
    )
)
"""About lines beside the middle: a check is mirrored in each of its squares."""


def symmetrise(plates: Tensor) -> Tensor:
    """Return plates [batch, 4, 64, 64], -1 to 1, each layer made as symmetric as it nearly was."""
    layers = plates.flatten(0, 1).clone()
    has_edges = (layers.amax((1, 2)) > 0) & (layers.amin((1, 2)) < 0)
    border = torch.cat([layers[:, 0], layers[:, -1], layers[:, :, 0], layers[:, :, -1]], 1)
    is_motif = border.amax(1) < 0
    motifs, others = (has_edges & is_motif).nonzero().flatten(), (has_edges & ~is_motif).nonzero().flatten()
    if len(motifs):
        layers[motifs] = _unless_moved(layers[motifs], _symmetrise_motifs(layers[motifs]))
    if len(others):
        layers[others] = _unless_moved(layers[others], _symmetrise_all_overs(layers[others]))
    return layers.view_as(plates)


def _unless_moved(fields: Tensor, made: Tensor) -> Tensor:
    """Return what was made of each field, or the field itself where one mean upon another has carried it away."""
    return torch.where(_meets(fields, made, MOVED_PX)[:, None, None], made, fields)


def _symmetrise_motifs(fields: Tensor) -> Tensor:
    """Turn and flip about the motif's own middle."""
    centres = _centres(fields)
    fields = _average(fields, TURNS, centres)
    for flip in FLIPS:
        fields = _average(fields, (flip,), centres)
    return fields


def _symmetrise_all_overs(fields: Tensor) -> Tensor:
    """Move over the torus, then turn by half and flip about the unit's middle."""
    middle = torch.full((len(fields), 2), GRID / 2)
    for move in (*STEPS, TURNS[-1], *FLIPS, *SHIFTED_FLIPS):
        fields = _average(fields, (move,), middle)
    return fields


def _centres(fields: Tensor) -> Tensor:
    """Return the middle of each field's ink, [n, 2] to the right and down in grid pixels, snapped to the unit's."""
    ink = (0.5 + BAND_PX * fields).clamp(0, 1)
    place = torch.arange(GRID) + 0.5
    total = ink.sum((1, 2)).clamp(min=1e-6)
    middle = torch.stack([(ink.sum(1) * place).sum(1) / total, (ink.sum(2) * place).sum(1) / total], 1)
    return torch.where((middle - GRID / 2).abs() < SNAP_PX, GRID / 2, middle)


def _average(fields: Tensor, moves: tuple[Move, ...], centres: Tensor) -> Tensor:
    """Return each field averaged over the first of the moves that it is symmetric under, or as it was."""
    result, left = fields.clone(), torch.arange(len(fields))
    for move in moves:
        image = _moved(fields[left], move, centres[left], 1)
        holds = _meets(fields[left], image, NEAR_PX)
        found = left[holds]
        if len(found):
            total = fields[found] + image[holds]
            for times in range(2, move.order):
                total = total + _moved(fields[found], move, centres[found], times)
            result[found] = total / move.order
        left = left[~holds]
        if len(left) == 0:
            break
    return result


def _moved(fields: Tensor, move: Move, centres: Tensor, times: int) -> Tensor:
    """Return fields [n, 64, 64] moved so many times about centres [n, 2]; periodic, interpolated where need be."""
    matrix = torch.matrix_power(torch.tensor(move.matrix), times)
    place = torch.arange(GRID) + 0.5
    x = place.view(1, 1, -1) - centres[:, 0].view(-1, 1, 1)
    y = place.view(1, -1, 1) - centres[:, 1].view(-1, 1, 1)
    source_x = matrix[0, 0] * x + matrix[0, 1] * y + centres[:, 0].view(-1, 1, 1) + move.step[0] * GRID * times
    source_y = matrix[1, 0] * x + matrix[1, 1] * y + centres[:, 1].view(-1, 1, 1) + move.step[1] * GRID * times
    shape = (len(fields), GRID, GRID)
    places = torch.stack([source_x.expand(shape), source_y.expand(shape)], -1) % GRID
    wide = functional.pad(fields[:, None], (TAPS,) * 4, mode="circular")
    grid = (places + TAPS) * (2 / (GRID + 2 * TAPS)) - 1
    return functional.grid_sample(wide, grid, mode="bicubic", padding_mode="border", align_corners=False)[:, 0]


def _meets(fields: Tensor, images: Tensor, near_px: float) -> Tensor:
    """Return [n] whether each field's edges lie on its image's, within `near_px` on average."""
    total, far, count = (torch.zeros(len(fields)) for _ in range(3))
    for axis in (1, 2):
        following = fields.roll(-1, axis)
        is_edge = (fields > 0) != (following > 0)
        share = torch.where(is_edge, fields / torch.where(is_edge, fields - following, 1.0), 0.0)
        away = torch.lerp(images, images.roll(-1, axis), share).abs() * BAND_PX
        total += (away * is_edge).sum((1, 2))
        far += ((away > FAR_PX) & is_edge).sum((1, 2))
        count += is_edge.sum((1, 2))
    # A check moved by one square has its edges in place, and all its squares wrong.
    flipped = ((fields > 0) != (images > 0)).sum((1, 2))
    return (total < near_px * count) & (far <= FAR_SHARE * count) & (flipped < near_px * count)
