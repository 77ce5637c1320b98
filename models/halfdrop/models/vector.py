"""Plates to contours: an SVG whose unit is traced once and laid by reference.

Layers are stacked whole, never cut out of each other: cut-outs leave white hairlines where two shapes meet. For the
same reason a layer that runs over the unit's border is traced a little beyond it, so that neighbours overlap in
their own colour. Contours are taken between point samples of the continuous field, in coordinates that start at the
unit's border: there is no half-pixel to lose.
"""

from collections.abc import Sequence
from html import escape
from math import ceil

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from halfdrop.contracts.plates import GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.lattice import extend_unit, fit_to_lattice, sample_weights
from halfdrop.models.renderer import used_layers

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

OUTSIDE = 1e-6
"""Width, in grid pixels, of the rim in which contours that meet the border are closed."""


def trace_svg(
    fields: Fields, palette: Sequence[str], repeat: Repeat, size_px: int, *, title: str = "Halfdrop pattern"
) -> str:
    """Return an SVG of one tile, `size_px` square: the ground and a group "layer-n" for each layer with ink.

    fields, palette: as in `renderer.compose_tile`. Scales to any size; contours are simplified for this one.
    """
    fields, lattice = fit_to_lattice(fields, repeat.normalise())
    margin = _margin(fields.shape[-1])
    unit = extend_unit(fields, lattice, margin)
    unit_px = size_px / lattice.units
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{size_px}" height="{size_px}"'
        f' viewBox="0 0 {size_px} {size_px}">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(_describe(lattice))}</desc>\n"
        f'<rect id="ground" width="{size_px}" height="{size_px}" fill="{palette[0]}"/>\n'
    )
    layers = [
        _lay_layer(
            f"layer-{layer + 1}", palette[layer + 1], _trace_path(unit[layer], margin, unit_px), lattice, unit_px
        )
        for layer in used_layers(fields)
    ]
    return head + "".join(layers) + "</svg>\n"


def _describe(lattice: Repeat) -> str:
    drop = f", {lattice.shifted_axis} shifted by {lattice.shift}" if lattice.shift else ""
    return f"Repeat: {lattice.layout}{drop}; {lattice.units} units across. The tile wraps in both directions."


def _margin(grid: int) -> int:
    """Return how many samples of its neighbours a unit is traced with: for interpolation, and for the bleed."""
    return INTERPOLATION + ceil(BLEED_GRID_PX * grid / GRID_PX)


def _trace_path(field: Fields, margin: int, unit_px: float) -> str:
    """Return the path data of one layer's contours, in pixels from the unit's border."""
    grid = len(field) - 2 * margin
    scale = unit_px / GRID_PX
    step = FINE_STEP if scale > FINE_ABOVE_PX else COARSE_STEP
    places = np.arange(-BLEED_GRID_PX, GRID_PX + BLEED_GRID_PX + step / 2, step)
    weights = sample_weights(places * (grid / GRID_PX), margin, grid)
    samples = np.pad(weights @ field @ weights.T, 1, constant_values=-1.0)
    rim = np.concatenate([places[:1] - OUTSIDE, places, places[-1:] + OUTSIDE]) * scale
    contours = contour_generator(rim, rim, samples, line_type=LineType.Separate).lines(0.0)
    return "".join(_format(_simplify(np.asarray(contour), TOLERANCE_PX)) for contour in contours)


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


def _format(ring: Points) -> str:
    """Return one closed subpath; nothing for a ring that the simplification has flattened."""
    if len(ring) < 4:
        return ""
    return "M" + " ".join(f"{_number(x)},{_number(y)}" for x, y in ring[:-1].tolist()) + "Z"


def _number(value: float) -> str:
    """Return two decimals at most: a hundredth of a pixel, a tenth of the tolerance."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _lay_layer(name: str, colour: str, path: str, lattice: Repeat, unit_px: float) -> str:
    """Return the layer: its unit, a line of units along the axis that is shifted, and those lines side by side."""
    pitch_px, count = unit_px, lattice.units
    unit = f'<path id="{name}-unit" d="{path}"/>\n'
    if lattice.layout == "mirror":
        pitch_px, count = 2 * unit_px, lattice.units // 2
        unit = _mirror_unit(name, path, pitch_px)
    is_rows = lattice.shifted_axis == "rows"
    first = -1 if lattice.shift else 0
    line = "".join(_use(f"{name}-unit", place * pitch_px, 0.0, is_rows) for place in range(first, count))
    shifts = [float(lattice.shift * place % 1) * unit_px for place in range(count)]
    lines = "".join(_use(f"{name}-line", shift, place * pitch_px, is_rows) for place, shift in enumerate(shifts))
    return (
        f'<defs>\n{unit}<g id="{name}-line">{line}</g>\n</defs>\n'
        f'<g id="{name}" fill="{colour}" fill-rule="evenodd">{lines}</g>\n'
    )


def _mirror_unit(name: str, path: str, pitch_px: float) -> str:
    """Return four units in a square, the right-hand and the lower ones flipped."""
    across = _number(pitch_px)
    flips = (f"matrix(-1 0 0 1 {across} 0)", f"matrix(1 0 0 -1 0 {across})", f"matrix(-1 0 0 -1 {across} {across})")
    flipped = "".join(f'<use xlink:href="#{name}-quarter" transform="{flip}"/>' for flip in flips)
    return f'<g id="{name}-unit"><path id="{name}-quarter" d="{path}"/>{flipped}</g>\n'


def _use(name: str, along_px: float, aside_px: float, is_rows: bool) -> str:
    """Return a reference moved along the shifted axis (down a column, right in a row) and aside of it.

    Its attribute keeps the older prefix, without which drawing programs of some years ago show nothing.
    """
    x, y = (along_px, aside_px) if is_rows else (aside_px, along_px)
    return f'<use xlink:href="#{name}" x="{x:.9g}" y="{y:.9g}"/>'
