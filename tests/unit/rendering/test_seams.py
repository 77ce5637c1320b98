"""No border of an exact drawing shows, and whatever is torn at the border does."""

import numpy as np
import pytest

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import Bytes, compose_tile
from halfdrop.models.seams import seam_ratio

HALF_DROP = Repeat(layout="half-drop", units=2)
GOAL = 1.05


def test_no_border_shows_on_any_lattice(unit: Fields, palette: tuple[str, ...], repeat: Repeat) -> None:
    for size_px in (512, 1000):
        assert seam_ratio(compose_tile(unit, palette, repeat, size_px), unit, palette, repeat) < GOAL


@pytest.mark.parametrize("size_px", [128, 256, 768])
def test_columns_that_hang_lower_than_they_were_drawn_for_are_torn(
    units: dict[str, Fields], palette: tuple[str, ...], size_px: int
) -> None:
    fields, straight = units["camouflage"], Repeat(units=2)
    tile = compose_tile(fields, palette, straight, size_px)
    assert seam_ratio(tile, fields, palette, straight) < GOAL
    assert seam_ratio(moved(tile, size_px // 4), fields, palette, straight) > 2
    assert seam_ratio(moved(tile, size_px // 4), fields, palette, HALF_DROP) > 2


@pytest.mark.parametrize("down_px", [-1, 1])
@pytest.mark.parametrize("name", ["camouflage", "level stripes"])
@pytest.mark.parametrize("size_px", [128, 256, 768])
def test_one_pixel_is_found_in_either_direction(
    units: dict[str, Fields], palette: tuple[str, ...], size_px: int, name: str, down_px: int
) -> None:
    tile = compose_tile(units[name], palette, Repeat(units=2), size_px)
    assert seam_ratio(moved(tile, down_px), units[name], palette, Repeat(units=2)) > 1.2


def test_an_edge_along_the_border_is_no_seam(palette: tuple[str, ...]) -> None:
    away = (np.arange(64) + 0.5) % 32 - 16
    stripe = (8 - np.abs(away + 8)) / 6  # its edge lies on the border
    down, across = np.meshgrid(stripe, stripe, indexing="ij")
    fields = np.full((4, 64, 64), -1, np.float32)
    fields[0] = np.sign(down * across) * np.minimum(np.abs(down), np.abs(across))
    for repeat in (Repeat(units=2), HALF_DROP, Repeat(layout="brick", units=2), Repeat(layout="mirror", units=2)):
        assert seam_ratio(compose_tile(fields, palette, repeat, 512), fields, palette, repeat) < GOAL


def test_a_plain_tile_has_no_seam(palette: tuple[str, ...]) -> None:
    fields = np.full((4, 64, 64), -1, np.float32)
    tile = compose_tile(fields, palette, Repeat(units=2), 128)
    assert seam_ratio(tile, fields, palette, Repeat(units=2)) == pytest.approx(1)


def moved(tile: Bytes, down_px: int) -> Bytes:
    """Return a tile of two units across whose second column of units hangs lower by so many pixels."""
    half = len(tile) // 2
    return np.concatenate([tile[:, :half], np.roll(tile[:, half:], down_px, axis=0)], axis=1)
