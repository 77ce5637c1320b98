"""What the refiner is trained for: the place of every edge, not the field far from it."""

from __future__ import annotations

import torch
from torch import Tensor

from halfdrop.models.house.refiner.settings import RefinerSettings

ROUNDING = 0.01
"""Errors far below this, in bands (0.06 grid pixels), count by their square: an absolute error has no slope at zero."""
EDGE = 0.2
"""Width, in bands (1.2 grid pixels), of what counts as on an edge."""
NEAR = 0.4
"""Only steps of the field between samples this near to an edge, in bands, are held against the exact ones."""
STEP_SCALE = 6.0
"""Brings errors of steps (a twelfth of a band each) to the size of errors of place."""


def refining_loss(drawn: Tensor, fine: Tensor, where: Tensor, settings: RefinerSettings) -> Tensor:
    """Return the loss of drawn fields against exact ones, both [n, 128, 128], a layer each.

    Where the exact field is saturated it is enough to be beyond it. where: [n, 128, 128], 0 for what is not
    to be learnt from.
    """
    side = fine.sign()
    is_far = fine.abs() >= 1
    short = torch.where(is_far, (1 - side * drawn).clamp(min=0), (drawn - fine).abs())
    weight = where * (1 + settings.edge_weight * torch.exp(-((fine / EDGE) ** 2)))
    place = (_rounded(short) * weight).mean()
    return place + settings.gradient_weight * _step_loss(drawn, fine, where)


def _step_loss(drawn: Tensor, fine: Tensor, where: Tensor) -> Tensor:
    """Return the mean error, over both axes, of the steps between neighbouring samples near an edge."""
    is_near = where * (fine.abs() < NEAR)
    error = drawn - fine
    total = drawn.new_zeros(())
    for axis in (1, 2):
        both = is_near * is_near.roll(-1, axis)
        total = total + (_rounded(STEP_SCALE * (error.roll(-1, axis) - error)) * both).mean()
    return total


def _rounded(error: Tensor) -> Tensor:
    return torch.sqrt(error * error + ROUNDING * ROUNDING) - ROUNDING
