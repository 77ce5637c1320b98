"""Pictures to inks: what a user's checkpoint painted, in as few colours as a press has, chosen and told apart in Lab.

Distances in Lab are about what the eye sees; in RGB a dark blue and a black are farther apart than two greens. Colours
are chosen from flat places only: the soft edge between two inks is no third one. Nothing is drawn by chance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.printing import INKS_MAX
from halfdrop.hub.printing.spot_inks import lab_of, lab_of_levels

Bytes = NDArray[np.uint8]
Labs = NDArray[np.float64]

BITS = 5
"""Of each channel that colours are counted with: 32,768 kinds."""

FLAT_LEVELS = 12
"""A place is flat if it differs by no more than this from those to the right and below."""

FLAT_SHARE_MIN = 0.2
"""With fewer flat places a picture is of continuous tone: its flat places are its dullest, and all of it counts."""

RARE_SHARE = 5e-4
"""A colour of less of the picture than this is no ink of its own."""

ROUNDS = 24
SAME_LAB = 2.3
"""Two inks nearer than this are one: a just noticeable difference."""


class Quantised(NamedTuple):
    """A picture in inks."""

    indices: Bytes
    """[height, width]: the place in the palette of each pixel."""

    palette: tuple[str, ...]
    """"#rrggbb", the commonest first: the ground."""


def quantise(pixels: Bytes, inks: int, *, palette: Sequence[str] = ()) -> Quantised:
    """Return the picture in up to `inks` colours, or in those of `palette`.

    pixels: [height, width, 3] sRGB, a tile that wraps. Raises InvalidInput for more inks than a press has.
    """
    if not 1 <= inks <= INKS_MAX or len(palette) > INKS_MAX:
        raise InvalidInput("inks", got=max(inks, len(palette)), allowed=f"1 to {INKS_MAX}")
    places = _kinds(pixels)
    if palette:
        centres = np.array([lab_of(colour) for colour in palette])
        return Quantised(_nearest(lab_of_levels(_kind_levels()), centres)[places], tuple(palette))
    is_flat = _flat(pixels)
    used, counts = np.unique(places[is_flat], return_counts=True)
    is_common = counts >= RARE_SHARE * places.size
    if is_flat.mean() < FLAT_SHARE_MIN or not is_common.any():  # continuous tone, or noise from edge to edge
        used, counts = np.unique(places, return_counts=True)
        is_common = np.ones(len(used), np.bool_)
    used, counts = used[is_common], counts[is_common]
    centres = _choose(lab_of_levels(_kind_levels()[used]), counts, inks)
    labels = _nearest(lab_of_levels(_kind_levels()), centres)[places]
    order = np.argsort(-np.bincount(labels.ravel(), minlength=len(centres)), kind="stable")
    rank = np.empty(len(order), np.uint8)
    rank[order] = np.arange(len(order))
    indices = rank[labels]
    return Quantised(indices, tuple(_commonest_colour(pixels, indices, place) for place in range(len(centres))))


def drop_picture_specks(indices: Bytes, smallest_px: int) -> tuple[Bytes, int]:
    """Return the picture without spots smaller than `smallest_px` across and along, and how many it had.

    They become what lies nearest. The tile wraps: a spot in two halves at opposite edges is one.
    """
    height, width = indices.shape
    margin = min(smallest_px + 1, height, width)
    wide = np.pad(indices, margin, mode="wrap")
    is_speck = np.zeros(wide.shape, np.bool_)
    count = 0
    for ink in np.unique(indices):
        labels, _ = ndimage.label(wide == ink, structure=np.ones((3, 3)))
        for number, (down, across) in enumerate(ndimage.find_objects(labels), start=1):
            if max(down.stop - down.start, across.stop - across.start) >= smallest_px:
                continue
            if down.start == 0 or across.start == 0 or down.stop == wide.shape[0] or across.stop == wide.shape[1]:
                continue
            is_speck[down, across] |= labels[down, across] == number
            count += margin <= down.start < margin + height and margin <= across.start < margin + width
    if not is_speck.any() or is_speck.all():
        return indices, 0
    nearest = ndimage.distance_transform_edt(is_speck, return_distances=False, return_indices=True)
    cleared: Bytes = wide[tuple(nearest)][margin:-margin, margin:-margin]
    return np.ascontiguousarray(cleared), count


def smooth_edges(indices: Bytes) -> Bytes:
    """Return each pixel as the commonest ink among its nine, wrapped: takes away the one-pixel rims that soft edges
    leave, and steps of stairs. Of inks as common as another the pixel's own stays, else the lower place wins."""
    best, most = indices.copy(), np.zeros(indices.shape, np.int16)
    for ink in np.unique(indices):
        mine = (indices == ink).astype(np.int16)
        rows = mine + np.roll(mine, 1, 0) + np.roll(mine, -1, 0)
        votes = 2 * (rows + np.roll(rows, 1, 1) + np.roll(rows, -1, 1)) + mine
        is_more = votes > most
        best[is_more] = ink
        most[is_more] = votes[is_more]
    return best


def _kinds(pixels: Bytes) -> NDArray[np.int64]:
    """Return which kind of colour each pixel is: BITS of each channel."""
    red, green, blue = (pixels[..., channel].astype(np.int64) >> (8 - BITS) for channel in range(3))
    return (red << 2 * BITS) | (green << BITS) | blue


def _kind_levels() -> Bytes:
    """Return [kinds, 3]: the middle of each kind."""
    kinds = np.arange(1 << 3 * BITS)
    channels = np.stack([kinds >> 2 * BITS, kinds >> BITS, kinds], axis=-1) & ((1 << BITS) - 1)
    return (channels * 255 / ((1 << BITS) - 1)).round().astype(np.uint8)


def _flat(pixels: Bytes) -> NDArray[np.bool_]:
    signed = pixels.astype(np.int16)
    steps = [np.abs(signed - np.roll(signed, 1, axis)).max(axis=-1) for axis in (0, 1)]
    is_flat: NDArray[np.bool_] = np.maximum(*steps) <= FLAT_LEVELS
    return is_flat


def _choose(labs: Labs, counts: NDArray[np.int64], inks: int) -> Labs:
    """Return up to `inks` Lab values: Lloyd's rounds from the commonest colour and those farthest from all before.

    Far ones that are rare are worth little: distance is weighed with the root of how common a colour is.
    """
    weight = np.sqrt(counts)
    chosen = [labs[counts.argmax()]]
    far = np.full(len(labs), np.inf)
    while len(chosen) < inks:
        far = np.minimum(far, np.linalg.norm(labs - chosen[-1], axis=-1))
        if far.max() < SAME_LAB:
            break
        chosen.append(labs[(far * weight * (far >= SAME_LAB)).argmax()])
    centres = np.array(chosen)
    for _ in range(ROUNDS):
        nearest = _nearest(labs, centres)
        sums = np.array([np.bincount(nearest, counts * labs[:, axis], len(centres)) for axis in range(3)]).T
        shares = np.bincount(nearest, counts, len(centres))
        moved = np.where(shares[:, None] > 0, sums / np.maximum(shares, 1)[:, None], centres)
        if np.allclose(moved, centres, atol=1e-3):
            break
        centres = moved
    return centres


def _nearest(labs: Labs, centres: Labs) -> Bytes:
    nearest: Bytes = np.linalg.norm(labs[:, None] - centres[None], axis=-1).argmin(axis=1).astype(np.uint8)
    return nearest


def _commonest_colour(pixels: Bytes, indices: Bytes, place: int) -> str:
    """Return the commonest exact colour of an ink: flat artwork keeps its own to the digit."""
    found = pixels[indices == place]
    if not len(found):
        return "#000000"
    packed = found.astype(np.int64) @ np.array([65536, 256, 1])
    values, counts = np.unique(packed, return_counts=True)
    return f"#{values[counts.argmax()]:06x}"
