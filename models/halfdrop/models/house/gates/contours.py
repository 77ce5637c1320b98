"""Shapes: how far a drawn unit's contours lie from those of the true motif that it is most like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.models.house.gates.exact import Likeness
from halfdrop.models.house.kinds.catalogue import SET_MOTIFS
from halfdrop.models.lattice import sample_weights

FINE_GRID = 128
"""Contours are traced at this grid, whatever the drawn fields' own."""
POINTS_MAX = 700
"""Points of each contour whose distance is measured; they are spread evenly."""
FARTHEST = 0.1
"""Distances are counted up to this many units; a contour that is missing altogether is as far away."""
SHIFT_MAX, SCALE_MAX = 1.5 / GRID_PX, 0.04
ALIGNING_ROUNDS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ContourDistance:
    """Distances between the visible contours of a unit and of its likeness, in 1/1000 of the unit."""

    median: float
    p90: float


def measure_contours(fields: NDArray[np.float32], likeness: Likeness) -> ContourDistance:
    """Return the distances, in both directions and over all layers, between drawn contours and the true ones.

    fields: [4, N, N], any grid N. The true motif is moved by up to 1.5 grid pixels, and a set motif scaled by up to
    4 %, to where it fits best: neither is what makes a star a blob. Both directions count, so that a missing petal and
    an invented one are errors alike; contours under another layer do not, because nobody sees them.
    """
    drawn, true = enlarge(fields), likeness.at(FINE_GRID).numpy()
    distances: list[NDArray[np.float32]] = []
    drawn_points = [_trace(layer) for layer in drawn]
    true_points = [_trace(layer) for layer in true]
    moved, scale = _align(drawn_points, true, has_scale=likeness.kind in SET_MOTIFS)
    for layer in range(len(drawn)):
        ours, theirs = drawn_points[layer], true_points[layer]
        if not len(ours) and not len(theirs):
            continue
        placed = _place(ours, moved, scale)
        seen_ours, seen_theirs = placed[_is_seen(ours, drawn, layer)], theirs[_is_seen(theirs, true, layer)]
        distances += [_distances(seen_ours, theirs), _distances(seen_theirs, placed)]
    if not distances or not sum(map(len, distances)):
        return ContourDistance(median=0.0, p90=0.0)
    all_of_them = np.concatenate(distances) * 1000
    return ContourDistance(median=float(np.median(all_of_them)), p90=float(np.quantile(all_of_them, 0.9)))


def enlarge(fields: NDArray[np.float32], grid: int = FINE_GRID) -> NDArray[np.float32]:
    """Return fields on another grid, interpolated on the straight torus as the renderer does."""
    if fields.shape[-1] == grid:
        return fields
    size, margin = fields.shape[-1], 2
    weights = sample_weights((np.arange(grid) + 0.5) * size / grid, margin, size).astype(np.float32)
    wide = np.pad(fields, ((0, 0), (margin, margin), (margin, margin)), mode="wrap")
    enlarged = weights @ wide @ weights.T
    return np.asarray(enlarged, np.float32)


def _trace(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [points, 2] (down, across; 0 to 1): where the field is zero on the lines between samples."""
    grid = len(field)
    points = []
    for axis in (0, 1):
        ahead = np.roll(field, -1, axis)
        where = np.argwhere((field > 0) != (ahead > 0))
        near, far = field[tuple(where.T)], ahead[tuple(where.T)]
        places = (where + 0.5).astype(np.float32)
        places[:, axis] += near / (near - far)
        points.append(places / grid % 1)
    return np.concatenate(points)


def _align(
    points: list[NDArray[np.float32]], true: NDArray[np.float32], *, has_scale: bool
) -> tuple[NDArray[np.float32], float]:
    """Return the shift [2] and the scale that bring drawn contours nearest to the true fields' zero, by least squares.

    A field is a distance: its value at a drawn point says how far off it is, its gradient in which direction.
    """
    moved = np.zeros(2, np.float32)
    scale = 1.0
    slopes = [np.stack([np.roll(f, -1, 0) - np.roll(f, 1, 0), np.roll(f, -1, 1) - np.roll(f, 1, 1)], -1) for f in true]
    for _ in range(ALIGNING_ROUNDS):
        rows, values = [], []
        for layer, ours in enumerate(points):
            placed = _place(ours, moved, scale)
            away = _read(true[layer], placed) * (BAND_PX / GRID_PX)
            slope = _read(slopes[layer], placed) * (BAND_PX / GRID_PX * FINE_GRID / 2)
            near = np.abs(away) < SHIFT_MAX * 1.5
            columns = [slope[near]]
            if has_scale:
                columns.append((slope[near] * (placed[near] - 0.5)).sum(-1, keepdims=True))
            rows.append(np.concatenate(columns, -1))
            values.append(away[near])
        matrix, target = np.concatenate(rows), -np.concatenate(values)
        if len(matrix) < 8:
            break
        ridge = 1e-3 * len(matrix) * np.eye(matrix.shape[1])
        step = np.linalg.solve(matrix.T @ matrix + ridge, matrix.T @ target)
        moved = np.clip(moved + step[:2], -SHIFT_MAX, SHIFT_MAX).astype(np.float32)
        if has_scale:
            scale = float(np.clip(scale + float(step[2]), 1 - SCALE_MAX, 1 + SCALE_MAX))
    return moved, scale


def _read(field: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a field's values at points of the torus, interpolated between four samples; [points] or [points, 2]."""
    grid = len(field)
    places = points * grid - 0.5
    first = np.floor(places).astype(np.int64)
    share = (places - first).reshape(-1, 2, *(1,) * (field.ndim - 2))
    (top, left), (bottom, right) = (first % grid).T, ((first + 1) % grid).T
    down, across = share[:, 0], share[:, 1]
    upper = field[top, left] * (1 - across) + field[top, right] * across
    lower = field[bottom, left] * (1 - across) + field[bottom, right] * across
    values: NDArray[np.float32] = upper * (1 - down) + lower * down
    return values


def _place(points: NDArray[np.float32], moved: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    placed: NDArray[np.float32] = ((points - 0.5) * np.float32(scale) + 0.5 + moved).astype(np.float32)
    return placed


def _is_seen(points: NDArray[np.float32], fields: NDArray[np.float32], layer: int) -> NDArray[np.bool_]:
    """Return which points of a layer's contour no upper layer covers."""
    grid = fields.shape[-1]
    where = tuple((points % 1 * grid).astype(np.int64).T % grid)
    covered = np.zeros(len(points), np.bool_)
    for upper in fields[layer + 1 :]:
        covered |= upper[where] > 0
    return ~covered


def _distances(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each of (some of) our points is from the nearest of theirs on the torus, in units."""
    ours = ours[:: -(-len(ours) // POINTS_MAX) or 1]
    if not len(ours) or not len(theirs):
        return np.full(len(ours), FARTHEST, np.float32)
    turns = np.array([(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)], np.float32)
    wrapped = (theirs + turns[:, None]).reshape(-1, 2)
    near = ((wrapped > -FARTHEST) & (wrapped < 1 + FARTHEST)).all(-1)
    targets: Tensor = torch.from_numpy(wrapped[near])
    nearest = torch.cdist(torch.from_numpy(np.ascontiguousarray(ours % 1)), targets).amin(1)
    return nearest.clamp(max=FARTHEST).numpy()
