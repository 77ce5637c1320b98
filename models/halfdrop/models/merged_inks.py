"""Layers of one colour become one plate, so that a press needs a screen for each ink and no more.

A layer shows where none lies above it. What shows of all layers of a colour is that ink's region; what has the ground's
colour is left bare. An ink runs on a little under the inks that are laid after it, so that no ground shines through
where two meet.
"""

from collections.abc import Sequence

import numpy as np

from halfdrop.contracts.plates import BAND_PX
from halfdrop.models.fields import Fields

UNDER_PX = 1.0
"""How far an ink runs on under the next, in grid pixels: a 64th of the unit, cut off where the next one ends."""


def merge_inks(fields: Fields, palette: Sequence[str]) -> tuple[Fields, tuple[str, ...]]:
    """Return the layers, each of a colour of its own and none of the ground's, and the palette that fills them.

    fields: [layers, grid, grid]. palette: "#rrggbb", the ground and then one for each layer. Layers whose colours
    differ already come back as they were."""
    used = [layer for layer, field in enumerate(fields) if field.max() > 0]
    ground, colours = palette[0], [palette[layer + 1] for layer in used]
    if len({ground, *colours}) == len(used) + 1:
        return fields, tuple(palette)
    inks = list(dict.fromkeys(colour for colour in colours if colour != ground))
    regions = {ink: np.full(fields.shape[1:], -1, np.float32) for ink in inks}
    above = np.full(fields.shape[1:], -1, np.float32)
    for layer in reversed(used):
        colour = palette[layer + 1]
        if colour != ground:
            regions[colour] = np.maximum(regions[colour], np.minimum(fields[layer], -above))
        above = np.maximum(above, fields[layer])
    merged = np.full_like(fields, -1)
    for place, ink in enumerate(inks):
        later = [regions[other] for other in inks[place + 1 :]]
        region = regions[ink]
        if later:
            under = np.minimum(region + np.float32(UNDER_PX / BAND_PX), np.max(later, axis=0))
            region = np.maximum(region, under)
        merged[place] = np.clip(region, -1, 1)
    filled = (ground, *inks)
    return merged, filled + (ground,) * (len(palette) - len(filled))


def recolour_inks(palette: Sequence[str], merged: Sequence[str], colours: Sequence[str]) -> tuple[str, ...]:
    """Return the colours of a colourway for merged layers: each ink takes those of the first role that had its colour.

    palette: by role, before merging. merged: after. colours: by role, fewer where the last ones stay.
    """
    roles = [palette.index(ink) for ink in merged]
    return tuple(colours[role] if role < len(colours) else palette[role] for role in roles)
