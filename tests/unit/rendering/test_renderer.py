"""Tiles have exact colours and areas at any size; previews are their masters made small; borders do not show."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from halfdrop.contracts.plates import GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import (
    compose_layers,
    compose_proof,
    compose_strips,
    compose_tile,
    used_layers,
)

HALF_DROP = Repeat(layout="half-drop", units=4)


def shrink(tile: NDArray[np.uint8], size_px: int) -> NDArray[np.float64]:
    times = len(tile) // size_px
    return np.asarray(tile.reshape(size_px, times, size_px, times, 3).mean(axis=(1, 3)))


def psnr_db(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_a_preview_is_its_master_made_small(unit: Fields, palette: tuple[str, ...], repeat: Repeat) -> None:
    preview = compose_tile(unit, palette, repeat, 256)
    master = compose_tile(unit, palette, repeat, 2048)
    assert psnr_db(preview, shrink(master, 256)) > 34


@pytest.mark.parametrize("many", [8, 12, 16])
def test_tiny_units_do_not_alias(units: dict[str, Fields], palette: tuple[str, ...], many: int) -> None:
    for name in ("heart", "camouflage"):
        lattice = Repeat(layout="half-drop", units=many)
        preview = compose_tile(units[name], palette, lattice, 256)
        assert psnr_db(preview, shrink(compose_tile(units[name], palette, lattice, 2048), 256)) > 30


def test_flat_areas_have_the_palettes_very_colours(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    tile = compose_tile(units["heart"], palette, Repeat(units=1), 512)
    found = {tuple(pixel) for pixel in (tile[0, 0], tile[160, 160], tile[256, 256])}
    assert found == {tuple(bytes.fromhex(colour[1:])) for colour in palette[:3]}
    counts = np.unique(tile.reshape(-1, 3), axis=0, return_counts=True)[1]
    assert np.sort(counts)[-3:].sum() > 0.98 * tile.size / 3


@pytest.mark.parametrize("size_px", [64, 100, 257, 1000])
def test_a_dot_covers_its_area_at_every_size(units: dict[str, Fields], size_px: int, repeat: Repeat) -> None:
    share = compose_layers(units["dot"], repeat, size_px).mean() / 255
    assert share == pytest.approx(np.pi * 20**2 / GRID_PX**2, rel=0.01)


def test_an_unused_layer_has_no_separation_and_its_colour_is_not_used(
    palette: tuple[str, ...], units: dict[str, Fields]
) -> None:
    fields = units["heart"][[3, 0, 2, 1]]
    assert used_layers(fields) == (1, 3)
    assert compose_layers(fields, HALF_DROP, 128).shape == (2, 128, 128)
    colours = {tuple(pixel) for pixel in compose_tile(fields, palette, HALF_DROP, 512).reshape(-1, 3)}
    assert tuple(bytes.fromhex(palette[4][1:])) in colours
    assert tuple(bytes.fromhex(palette[1][1:])) not in colours


def test_bare_ground_is_a_plain_tile(palette: tuple[str, ...]) -> None:
    bare = np.full((4, GRID_PX, GRID_PX), -1, np.float32)
    assert (compose_tile(bare, palette, HALF_DROP, 64) == list(bytes.fromhex(palette[0][1:]))).all()
    assert compose_layers(bare, HALF_DROP, 64).shape == (0, 64, 64)


@pytest.mark.parametrize("size_px", [300, 512, 777])
def test_strips_tiles_and_separations_are_one_picture_on_any_number_of_threads(
    units: dict[str, Fields], palette: tuple[str, ...], repeat: Repeat, size_px: int
) -> None:
    fields = units["camouflage"]
    strips = list(compose_strips(fields, palette, repeat, size_px, threads=2))
    assert strips[0].top_px == 0
    assert all(strip.top_px + len(strip.rgb) == below.top_px for strip, below in pairwise(strips))
    tile = compose_tile(fields, palette, repeat, size_px, threads=2)
    np.testing.assert_array_equal(tile, compose_tile(fields, palette, repeat, size_px))
    np.testing.assert_array_equal(tile, np.concatenate([strip.rgb for strip in strips]))
    layers = np.concatenate([strip.coverage for strip in strips], axis=1)
    np.testing.assert_array_equal(layers, compose_layers(fields, repeat, size_px))


def test_the_largest_master_needs_little_memory_beside_what_it_yields(
    units: dict[str, Fields], palette: tuple[str, ...]
) -> None:
    tracemalloc.start()
    try:
        rows = sum(len(strip.rgb) for strip in compose_strips(units["heart"], palette, Repeat(units=1), 8192))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 8192
    assert peak_bytes < 48 * 2**20


def test_progress_is_told_and_can_stop_the_work(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    told: list[tuple[int, int]] = []
    compose_tile(units["heart"], palette, Repeat(units=1), 1024, on_rows=lambda done, rows: told.append((done, rows)))
    assert len(told) > 2
    assert told[-1] == (1024, 1024)
    assert told == sorted(told)

    def stop(done: int, rows: int) -> None:
        raise TimeoutError(f"stopped at {done} of {rows}")

    with pytest.raises(TimeoutError, match="stopped at 256 of 1024"):
        compose_tile(units["heart"], palette, Repeat(units=1), 1024, threads=2, on_rows=stop)


def test_a_proof_is_nine_tiles_of_bounded_size(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    proof = compose_proof(units["heart"], palette, HALF_DROP, 200)
    np.testing.assert_array_equal(proof[200:400, 400:], compose_tile(units["heart"], palette, HALF_DROP, 200))
    assert compose_proof(units["heart"], palette, HALF_DROP, 8192).shape == (3072, 3072, 3)
