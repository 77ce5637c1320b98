"""How many colours are there to print? Counted in the picture, not believed from the order.

Only pixels count whose four neighbours have their very colour: the blends along edges are no inks.
"""

import numpy as np

from halfdrop.hub.gates.blank import pack
from halfdrop.hub.gates.specimen import Bytes

LEAST_SHARE = 0.0005
"""Of the flat pixels: what covers less than a two-thousandth is a speck, not an ink."""

FLAT_SHARE_MIN = 0.2
"""With fewer flat pixels than this a picture is of continuous tone, and its colours are counted as a printer sees
them."""

TONE_BITS = 4
"""Of each channel, for continuous tone: 16 steps from dark to light can still be told apart in print."""


def count_colours(tile: Bytes) -> int:
    """Return the number of colours, the ground included."""
    colours = pack(tile)
    is_flat = np.ones(colours.shape, np.bool_)
    for axis in (0, 1):
        for by in (1, -1):
            is_flat &= colours == np.roll(colours, by, axis=axis)
    flat = colours[is_flat]
    if flat.size < FLAT_SHARE_MIN * colours.size:
        flat = pack(tile >> np.uint8(8 - TONE_BITS)).ravel()
    _, counts = np.unique(flat, return_counts=True)
    return int((counts >= LEAST_SHARE * flat.size).sum())
