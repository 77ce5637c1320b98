"""Plates to contours: the closed lines round the ink of each layer of one unit, for every vector file.

A unit is traced once, however many of it a tile holds. Layers are stacked whole, never cut out of each other: cut-outs
leave white hairlines where two shapes meet. For the same reason a layer that runs over the unit's border is traced a
little beyond it, so that neighbours overlap in their own colour. Contours are taken between point samples of the
continuous field, in coordinates that start at the unit's border: there is no half-pixel to lose.
"""

from math import ceil
from typing import NamedTuple

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from halfdrop.contracts.plates import GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.lattice import extend_unit, fit_to_lattice, sample_weights
from halfdrop.models.renderer import used_layers
from halfdrop.models.visible import visible_depths

Points = NDArray[np.float64]
INTERPOLATION = 2
"""Samples that bicubic interpolation needs beyond the last place traced."""

BLEED_GRID_PX = 0.5
"""How far a layer runs on beyond the unit's border, in grid pixels."""

FINE_STEP, COARSE_STEP = 1 / 8, 1 / 4
"""Distance of the samples between which an edge is taken as straight, in grid pixels."""

FINE_ABOVE_PX = 16.0
"""Pixels per grid pixel above which the finer step is needed to stay within the tolerance."""

TOLERANCE_PX = 0.1
"""Farthest that a simplified contour may lie from the traced one, in pixels of the size asked for."""

EXACT_PX = 0.02
"""The same where inks are knocked out: two that share an edge simplify it from different ends, and must still meet."""

GROUND = -1
"""What the ground is called where it is traced as the layers are."""

OUTSIDE = 1e-6
"""Width, in pixels, of the rim in which contours that meet the border are closed."""


class Contours(NamedTuple):
    """One layer's ink: closed rings (first and last point equal), in pixels from the unit's border, filled even-odd."""

    layer: int
    rings: list[Points]


class Outline(NamedTuple):
    """A tile as contours: its lattice, the unit's side in pixels, and the layers with ink, the lowest first."""

    lattice: Repeat
    unit_px: float
    layers: list[Contours]

    @property
    def pitch_px(self) -> float:
        """How far apart what is laid lies: one unit, or two where every other one is flipped."""
        return 2 * self.unit_px if self.lattice.layout == "mirror" else self.unit_px

    def line_places(self) -> list[tuple[float, float]]:
        """Return where units (or squares of flipped ones) lie along one line of the shifted axis, as (x, y)."""
        count = round(self.lattice.units * self.unit_px / self.pitch_px)
        first = -1 if self.lattice.shift else 0
        return [self._place(place * self.pitch_px, 0.0) for place in range(first, count)]

    def lines(self) -> list[tuple[float, float]]:
        """Return where those lines lie in the tile, side by side, each shifted against the one before, as (x, y)."""
        count = round(self.lattice.units * self.unit_px / self.pitch_px)
        shift = self.lattice.shift
        return [self._place(float(shift * line % 1) * self.unit_px, line * self.pitch_px) for line in range(count)]

    def _place(self, along_px: float, aside_px: float) -> tuple[float, float]:
        """Return a place along the shifted axis (down a column, right in a row) and aside of it, as (x, y)."""
        return (along_px, aside_px) if self.lattice.shifted_axis == "rows" else (aside_px, along_px)


def trace_outline(fields: Fields, repeat: Repeat, size_px: int, *, is_knocked_out: bool = False) -> Outline:
    """Return the contours of one tile, `size_px` square; they are simplified for this size.

    fields: as in `renderer.compose_tile`. is_knocked_out: trace what is seen of the ground (GROUND) and of each layer,
    without what lies under another.
    """
    fields, lattice = fit_to_lattice(fields, repeat.normalise())
    used = used_layers(fields)
    margin = _margin(fields.shape[-1])
    unit = extend_unit(fields[list(used)], lattice, margin)
    unit_px = size_px / lattice.units
    places, samples = _sample(unit, margin, unit_px)
    if not is_knocked_out:
        traced = zip(used, samples, strict=True)
        return Outline(lattice, unit_px, [Contours(layer, _trace_rings(places, plane)) for layer, plane in traced])
    seen = np.minimum(visible_depths(samples), 1.0)
    inks = zip((GROUND, *used), seen, strict=True)
    layers = [Contours(layer, _trace_rings(places, plane, EXACT_PX)) for layer, plane in inks]
    return Outline(lattice, unit_px, [contours for contours in layers if contours.rings])


def _margin(grid: int) -> int:
    """Return how many samples of its neighbours a unit is traced with: for interpolation, and for the bleed."""
    return INTERPOLATION + ceil(BLEED_GRID_PX * grid / GRID_PX)


def _sample(unit: Fields, margin: int, unit_px: float) -> tuple[Points, Points]:
    """Return places along a unit and its bleed, in pixels from its border, and the layers' depths there."""
    grid = unit.shape[-1] - 2 * margin
    scale = unit_px / GRID_PX
    step = FINE_STEP if scale > FINE_ABOVE_PX else COARSE_STEP
    places = np.arange(-BLEED_GRID_PX, GRID_PX + BLEED_GRID_PX + step / 2, step)
    weights = sample_weights(places * (grid / GRID_PX), margin, grid)
    samples: Points = weights @ unit @ weights.T
    return places * scale, samples


def _trace_rings(places: Points, samples: Points, tolerance_px: float = TOLERANCE_PX) -> list[Points]:
    """Return one layer's contours, in pixels from the unit's border, without those that simplifying has flattened."""
    rim = np.concatenate([places[:1] - OUTSIDE, places, places[-1:] + OUTSIDE])
    edged = np.pad(samples, 1, constant_values=-1.0)
    contours = contour_generator(rim, rim, edged, line_type=LineType.Separate).lines(0.0)
    rings = [_simplify(np.asarray(contour), tolerance_px) for contour in contours]
    return [ring for ring in rings if len(ring) >= 4]


def _simplify(ring: Points, tolerance: float) -> Points:
    """Return the ring's points (first and last equal) without those that lie on a line between others.

    Douglas and Peucker's rule, from a stack instead of by recursion: a ring may have thousands of points.
    """
    keep = np.zeros(len(ring), np.bool_)
    farthest = int(np.hypot(*(ring - ring[0]).T).argmax())
    keep[[0, farthest, -1]] = True
    spans = [(0, farthest), (farthest, len(ring) - 1)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        along = ring[end] - ring[start]
        away = ring[start + 1 : end] - ring[start]
        share = np.clip(away @ along / max(float(along @ along), 1e-12), 0, 1)
        distances = np.hypot(*(away - share[:, None] * along).T)
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = start + 1 + worst
            keep[middle] = True
            spans += [(start, middle), (middle, end)]
    kept: Points = ring[keep]
    return kept
