"""What the palette head chooses from: a slot is a named colour, a shade of one, or an overprint; never in between.

A head that predicts red, green and blue answers a doubt with the mean of both colours, which nobody asked for. A head
that chooses is wrong at times and never muddy, and what it chooses is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfdrop.models.house.palettes import COLOUR_NAMES, rgb, shade_of

SHADES = (1, 2)
"""Steps of `shade_of`: darker and lighter."""
INKS: NDArray[np.float32] = np.array(
    [*(rgb(name) for name in COLOUR_NAMES), *(shade_of(rgb(name), step) for step in SHADES for name in COLOUR_NAMES)],
    np.float32,
)
"""[102, 3]: all colours that a slot can have by itself, sRGB 0 to 1."""
OVERPRINT = len(INKS)
"""The choice after them: half the ground and half the full ink, what one pass of a gingham shows."""
CHOICES = OVERPRINT + 1
GROUND_SLOT, FULL_INK_SLOT = 0, 3
"""Slots of a palette whose colours an overprint lies between."""
SAME = 1e-4
"""Colours nearer than this, in any channel, are one."""


def inks_of(palette: Tensor) -> Tensor:
    """Return the choice [batch, 5] behind each colour of palettes [batch, 5, 3] of captions.

    What is no ink is an overprint: captions have nothing else.
    """
    inks = torch.from_numpy(INKS).to(palette.device)
    distance, nearest = (palette[:, :, None] - inks).abs().amax(3).min(2)
    return torch.where(distance < SAME, nearest, OVERPRINT)


def palette_of(scores: Tensor) -> Tensor:
    """Return the palette [batch, 5, 3], sRGB 0 to 1, of scores [batch, 5, 103]: each slot's best choice."""
    choice = scores.argmax(2)
    inks = torch.from_numpy(INKS).to(scores.device)
    palette = inks[choice.clamp(max=OVERPRINT - 1)]
    # A ground or full ink that is an overprint itself has no meaning: it stays the last ink.
    overprint = (palette[:, GROUND_SLOT] + palette[:, FULL_INK_SLOT]) / 2
    return torch.where((choice == OVERPRINT)[..., None], overprint[:, None], palette)
