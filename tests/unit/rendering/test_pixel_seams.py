"""Seams seen in pixels alone: none where the tile repeats, and one where it was torn."""

import numpy as np
import pytest

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.pixel_seams import border_step_ratio
from halfdrop.models.renderer import compose_tile

HALF_DROP = Repeat(layout="half-drop", units=4)


def test_what_repeats_has_no_seam_and_what_was_torn_has_one(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    tile = compose_tile(units["camouflage"], palette, Repeat(units=2), 512)
    dropped = np.concatenate([tile[:, :256], np.roll(tile[:, 256:], 128, axis=0)], axis=1)
    assert border_step_ratio(tile, Repeat(units=2)) < 1.1
    assert border_step_ratio(dropped, HALF_DROP) > 1.5


def test_level_stripes_torn_by_a_drop_are_found(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    tile = compose_tile(units["level stripes"], palette, Repeat(units=4), 512)
    torn = np.concatenate([np.roll(tile[:, 128 * n : 128 * (n + 1)], 64 * (n % 2), axis=0) for n in range(4)], axis=1)
    assert border_step_ratio(tile, Repeat(units=4)) < 1.1
    assert border_step_ratio(torn, HALF_DROP) > 10


def test_an_edge_along_the_border_is_no_seam() -> None:
    down, across = np.indices((512, 512)) // 64 % 2
    board = np.repeat(255 * (down ^ across)[..., None], 3, axis=2).astype(np.uint8)
    assert border_step_ratio(board, Repeat(units=2)) == pytest.approx(1)
