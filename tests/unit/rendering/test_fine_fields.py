"""Fields on a grid twice as fine as the plates': the same picture, nearer to the exact one; drops, hygiene and SVG."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields, band_samples, tidy_fields
from halfdrop.models.renderer import compose_layers, compose_tile
from halfdrop.models.vector import trace_svg

PALETTE = ("#f4efe6", "#c0392b", "#1d3557", "#000000", "#ffffff")
LATTICES = (Repeat(), Repeat(layout="half-drop"), Repeat(layout="brick"), Repeat(layout="drop", drop="1/3", units=3))


def square(grid: int, half_width_px: float = 17.3) -> Fields:
    """A square, its sides between samples; sharp corners are what a coarse grid rounds."""
    place = np.abs((np.arange(grid) + 0.5) * GRID_PX / grid - GRID_PX / 2)
    fields = np.full((LAYERS, grid, grid), -1, np.float32)
    fields[0] = np.clip((half_width_px - np.maximum(place, place[:, None])) / BAND_PX, -1, 1)
    return fields


def camouflage(grid: int) -> Fields:
    """An all-over field of waves that close on the straight torus."""
    u = 2 * np.pi * (np.arange(grid) + 0.5) / grid
    waves = np.sin(u + 1) + np.sin(2 * u[:, None] + 0.3) * np.cos(u) + 0.4 * np.sin(u[:, None])
    fields = np.full((LAYERS, grid, grid), -1, np.float32)
    fields[0] = np.clip(waves * 1.2, -1, 1)
    return fields


@pytest.mark.parametrize("draw", [square, camouflage])
@pytest.mark.parametrize("repeat", LATTICES, ids=lambda lattice: lattice.layout)
def test_a_finer_grid_is_the_same_picture_on_every_lattice(draw, repeat: Repeat) -> None:
    coarse, fine = (compose_tile(draw(grid), PALETTE, repeat, 384).astype(float) for grid in (64, 128))
    assert np.abs(coarse - fine).mean() < 0.4


def test_a_finer_grid_draws_a_corner_sharper() -> None:
    size_px, scale = 1024, 1024 / GRID_PX
    place = np.abs(np.arange(size_px) + 0.5 - size_px / 2)
    covered = np.clip(17.3 * scale - place + 0.5, 0, 1)
    exact = covered * covered[:, None]
    drawn = [compose_layers(square(grid), Repeat(units=1), size_px)[0] / 255 for grid in (64, 128)]
    errors = [np.abs(coverage - exact).sum() for coverage in drawn]
    assert errors[1] < 0.75 * errors[0]


def test_a_drawing_of_a_finer_grid_has_its_corners_where_they_are() -> None:
    drawing = ET.fromstring(trace_svg(square(128), PALETTE, Repeat(units=1), 640))
    [path] = [node for node in drawing.iter() if node.tag.endswith("path")]
    points = np.array([[float(x) for x in pair.split(",")] for pair in path.attrib["d"].strip("MZ").split()])
    scale = 640 / GRID_PX
    np.testing.assert_allclose(points.max(0), (GRID_PX / 2 + 17.3) * scale, atol=0.4)
    np.testing.assert_allclose(points.min(0), (GRID_PX / 2 - 17.3) * scale, atol=0.4)


def test_hygiene_knows_how_wide_the_band_is_on_a_finer_grid() -> None:
    fields = square(128)
    assert band_samples(fields) == 2 * band_samples(square(64)) == 2 * BAND_PX
    tidied = tidy_fields(fields)
    near = np.abs(fields[0]) < 0.3
    np.testing.assert_allclose(tidied[0][near], fields[0][near], atol=0.02)
    soft = np.where(np.abs(fields) < 1, fields * 0.5, fields)
    restored = tidy_fields(soft)
    assert np.abs(restored[0] - fields[0])[np.abs(fields[0]) < 0.15].max() < np.abs(soft[0] - fields[0])[near].max()
