"""Whatever the unit, the lattice and the size: a tile is what its definition says, and wraps."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.repeats import Axis, Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.lattice import fit_to_lattice
from halfdrop.models.renderer import compose_layers, compose_tile

PALETTE = ("#ffffff", "#c0392b", "#1f5f8b", "#e0a526", "#000000")
AXES: tuple[Axis, ...] = ("columns", "rows")

layouts = st.one_of(
    st.sampled_from([Repeat(), Repeat(layout="half-drop"), Repeat(layout="brick"), Repeat(layout="mirror")]),
    st.builds(
        lambda under, over, axis: Repeat(layout="drop", drop=f"{over % under}/{under}", axis=axis),
        st.integers(2, 8),
        st.integers(1, 7),
        st.sampled_from(AXES),
    ),
)


def some_fields(seed: int) -> Fields:
    """Return a few smooth waves per layer, running over all borders."""
    dice = np.random.default_rng(seed)
    places = (np.arange(GRID_PX) + 0.5) / GRID_PX
    fields = np.zeros((4, GRID_PX, GRID_PX))
    for layer in range(4):
        for _ in range(3):
            across, down = dice.integers(-3, 4, 2)
            phase = dice.uniform(0, 2 * np.pi)
            fields[layer] += np.cos(2 * np.pi * (across * places[None, :] + down * places[:, None]) + phase) / 2
        fields[layer] -= dice.uniform(0, 0.5)
    return np.clip(fields, -1, 1).astype(np.float32)


def lay(repeat: Repeat, units: int) -> Repeat:
    return Repeat(layout=repeat.layout, drop=repeat.drop, axis=repeat.axis, units=units).normalise()


@settings(max_examples=40, deadline=None)
@given(layout=layouts, units=st.integers(1, 8), drop_px=st.integers(5, 20), seed=st.integers(0, 99))
def test_a_tile_moved_by_a_lattice_vector_is_itself(layout: Repeat, units: int, drop_px: int, seed: int) -> None:
    lattice = lay(layout, units)
    side_px = drop_px * lattice.shift.denominator  # so that units and drops are whole in pixels
    size_px = side_px * lattice.units
    tile = compose_tile(some_fields(seed), PALETTE, lattice, size_px)
    drop_px = int(lattice.shift * side_px)
    if lattice.layout == "mirror":
        np.testing.assert_array_equal(tile, tile[::-1])
        np.testing.assert_array_equal(tile, tile[:, ::-1])
        vectors = [(2 * side_px, 0), (0, 2 * side_px)]
    elif lattice.shifted_axis == "columns":
        vectors = [(side_px, 0), (drop_px, side_px)]
    else:
        vectors = [(0, side_px), (side_px, drop_px)]
    for vector in vectors:
        assert most_different(np.roll(tile, vector, axis=(0, 1)), tile) <= 1


@settings(max_examples=30, deadline=None)
@given(
    layout=layouts.filter(lambda lattice: GRID_PX % lattice.shift.denominator == 0 and lattice.layout != "mirror"),
    units=st.integers(1, 4),
    more_px=st.integers(0, 150),
    seed=st.integers(0, 99),
)
def test_a_tile_of_any_size_is_the_whole_plane_of_samples_made_larger(
    layout: Repeat, units: int, more_px: int, seed: int
) -> None:
    """The plain definition: put samples of all units side by side, interpolate on the tile's torus, threshold."""
    lattice = lay(layout, units)
    size_px = lattice.units * GRID_PX + more_px  # below, finer samples are averaged: tested against masters
    fields = some_fields(seed)
    plane = lay_samples(*fit_to_lattice(fields, lattice))
    weights = wrapped_bicubic(size_px, lattice.units * GRID_PX)
    slope_px = BAND_PX * size_px / (lattice.units * GRID_PX)
    used = [layer for layer in range(4) if fields[layer].max() > 0]
    expected = np.clip(0.5 + slope_px * (weights @ plane[used] @ weights.T), 0, 1) * 255
    assert np.abs(compose_layers(fields, lattice, size_px) - expected).max() < 1


def lay_samples(fields: Fields, lattice: Repeat) -> NDArray[np.float64]:
    shifted, along = (1, 2) if lattice.shifted_axis == "columns" else (2, 1)
    lines = []
    for place in range(lattice.units):
        moved = np.roll(fields, int(lattice.shift * place * GRID_PX), axis=shifted)
        lines.append(np.concatenate([moved] * lattice.units, axis=shifted))
    return np.concatenate(lines, axis=along).astype(np.float64)


def wrapped_bicubic(size_px: int, samples: int) -> NDArray[np.float64]:
    """Return [size, samples]: Keys' kernel written out, pixel by pixel."""
    weights = np.zeros((size_px, samples))
    for pixel in range(size_px):
        place = Fraction(2 * pixel + 1, 2 * size_px) * samples - Fraction(1, 2)
        for tap in range(int(place // 1) - 1, int(place // 1) + 3):
            away = abs(float(place - tap))
            near = 1.5 * away**3 - 2.5 * away**2 + 1
            far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
            weights[pixel, tap % samples] += near if away <= 1 else far if away < 2 else 0.0
    return weights


def most_different(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())
