"""Exact drawings have true contours and whole lines; melted, torn and cut ones do not; a shift is no error."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from halfdrop.models.house.gates.contours import measure_contours
from halfdrop.models.house.gates.exact import Likeness, Pool, draw_exact, draw_pool, find_likeness
from halfdrop.models.house.gates.lines import count_broken_lines

Fields = NDArray[np.float32]
GOAL = 4.0
EXACT = 1.5
"""What the measure itself may be off by: fields of 64 samples, numbers found by steering."""
POOL_SEED, UNIT_SEED = 11, 12


def unit_of(kind: str) -> tuple[Fields, Pool, list[int]]:
    """Return an exact unit, and the pool with the places of those that look like it, whatever their numbers."""
    pool = draw_pool(kind, None, POOL_SEED)
    plates, traits = draw_exact(kind, 1, seed=UNIT_SEED)
    layers = [detail.layer for detail in traits[0].details]
    allowed = [
        place
        for place, each in enumerate(pool.traits)
        if [detail.layer for detail in each.details] == layers and len(each.body) == len(traits[0].body)
    ]
    return plates[0].numpy(), pool, allowed


def likeness_of(fields: Fields, pool: Pool, allowed: list[int]) -> Likeness:
    return find_likeness(torch.from_numpy(fields), pool, allowed, seed=1)


def melted(fields: Fields, passes: int = 8) -> Fields:
    for _ in range(passes):
        for axis in (-1, -2):
            fields = (np.roll(fields, 1, axis) + 2 * fields + np.roll(fields, -1, axis)) / 4
    return fields


@pytest.mark.parametrize("kind", ["stars", "hearts", "snowflakes", "sprigs", "trellis", "chevron"])
def test_exact_units_have_true_contours_and_melted_ones_do_not(kind: str) -> None:
    fields, pool, allowed = unit_of(kind)
    assert measure_contours(fields, likeness_of(fields, pool, allowed)).median < EXACT
    ruined = melted(fields, passes=40)
    assert measure_contours(ruined, likeness_of(ruined, pool, allowed)).median > GOAL


def test_a_motif_that_floats_is_no_worse_and_one_of_another_shape_is() -> None:
    fields, pool, allowed = unit_of("stars")
    floating = np.roll(fields, (1, -2), axis=(1, 2))
    assert measure_contours(floating, likeness_of(floating, pool, allowed)).median < EXACT
    squares, _ = draw_exact("squares", 1, seed=3)
    other = squares[0].numpy()
    assert measure_contours(other, likeness_of(other, pool, allowed)).median > 3 * GOAL


def test_rippled_edges_are_measured_by_their_height() -> None:
    fields, pool, allowed = unit_of("dots")
    down, across = np.indices((64, 64))
    rippled = fields + np.float32(1.0 / 6) * np.where((down // 4 + across // 4) % 2, 1, -1).astype(np.float32)
    # An edge off by one grid pixel either way: 1/64 of the unit.
    assert measure_contours(rippled, likeness_of(rippled, pool, allowed)).median == pytest.approx(1000 / 64, rel=0.35)


def test_a_missing_layer_is_as_far_away_as_it_can_be() -> None:
    fields, pool, allowed = unit_of("sprigs")
    bare = fields.copy()
    bare[1] = -1
    assert measure_contours(bare, likeness_of(bare, pool, allowed)).p90 > 20


def test_a_finer_grid_gives_the_same_verdict() -> None:
    fields, pool, allowed = unit_of("hearts")
    true = likeness_of(fields, pool, allowed)
    assert measure_contours(true.at(128).numpy(), true).median < 0.2
    assert measure_contours(true.at(256).numpy(), true).median < 0.5


@pytest.mark.parametrize("kind", ["pinstripes", "windowpane", "trellis", "snowflakes", "argyle", "rings"])
def test_thin_lines_are_whole_until_they_are_cut(kind: str) -> None:
    fields, pool, allowed = unit_of(kind)
    true = likeness_of(fields, pool, allowed)
    whole = count_broken_lines(fields, true)
    assert whole.lines > 0
    assert whole.broken == 0
    cut = fields.copy()
    cut[:, 18:21] = -1
    assert count_broken_lines(cut, true).broken > 0
    dashed = fields.copy()
    dashed[:, np.arange(64) % 8 < 3] = -1
    assert count_broken_lines(dashed, true).broken > whole.lines / 4


def test_lines_that_run_beside_their_place_or_end_early_are_not_broken() -> None:
    fields, pool, allowed = unit_of("pinstripes")
    true = likeness_of(fields, pool, allowed)
    bent = np.roll(fields, 1, axis=2)
    assert count_broken_lines(bent, true).broken == 0
    fields, pool, allowed = unit_of("suns")
    true = likeness_of(fields, pool, allowed)
    shorter = np.minimum(fields, (26.0 - np.hypot(*(np.indices((64, 64)) - 31.5))).astype(np.float32) / 6)
    assert count_broken_lines(shorter, true).broken == 0


def test_fat_shapes_have_no_thin_lines() -> None:
    for kind in ("stars", "diamonds", "checkerboard", "mushrooms"):
        pool = draw_pool(kind, None, POOL_SEED, 24)
        plain = [place for place, each in enumerate(pool.traits) if not [d for d in each.details if d.is_optional]]
        fields = pool.plates[plain[0]].numpy()
        assert count_broken_lines(fields, likeness_of(fields, pool, plain)).lines == 0, kind
