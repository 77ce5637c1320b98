"""The refiner that ships: whole, small, and nearer to exact units than the previews it is given."""

import msgspec
import numpy as np
import pytest
import torch

from halfdrop.models.bundle import MANIFEST_NAME, open_bundle, shipped_bundle_dir, shipped_refiner_dir
from halfdrop.models.house.refiner.degrading import displacement_px
from halfdrop.models.house.refiner.pairs import Pairs, Student, held_out_pairs
from halfdrop.models.house.refiner.settings import RefinerSettings
from halfdrop.models.house.refining import Refiner, open_refiner
from halfdrop.models.house.tokenizer import Tokenizer

SEED = 31_415
"""Nothing was trained, validated or measured on it."""


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return open_refiner(shipped_refiner_dir())


@pytest.fixture(scope="module")
def spoilt() -> tuple[Pairs, list[str]]:
    """One unit of every ruled kind, noised and drawn again by the shipped student, beside the exact one."""
    settings = RefinerSettings(units_per_kind=1, student_share=1.0, exact_share=0.0)
    return held_out_pairs(settings, Student(shipped_bundle_dir()), Tokenizer({}), SEED, restores=False)


def test_it_is_a_whole_bundle_of_its_kind_and_says_what_it_was_made_of() -> None:
    manifest = msgspec.json.decode((shipped_refiner_dir() / MANIFEST_NAME).read_bytes())
    assert open_bundle(shipped_refiner_dir()).name == manifest["name"] == "house-render"
    assert manifest["kind"] == "house-render"
    assert manifest["training"]["samples"] > 10_000
    assert manifest["gates"]["sample_error_after_p50"] < manifest["gates"]["sample_error_before_p50"]
    assert sum(file["bytes"] for file in manifest["files"].values()) < 20 * 2**20


def test_refined_units_are_nearer_to_the_exact_ones_than_their_previews(
    refiner: Refiner, spoilt: tuple[Pairs, list[str]]
) -> None:
    pairs, texts = spoilt
    units = pairs.coarse.numpy()
    refined = np.stack([refiner.refine_layers(fields, text).fields for fields, text in zip(units, texts, strict=True)])
    enlarged = np.stack([refiner.enlarge(fields) for fields in units])
    before = displacement_px(torch.from_numpy(enlarged), pairs.fine)
    after = displacement_px(torch.from_numpy(refined), pairs.fine)
    assert (after / before).median() < 0.95  # of each unit by itself: units differ more than refining changes them
    assert (after < before).float().mean() > 0.6


def test_what_is_exact_stays_exact(refiner: Refiner) -> None:
    settings = RefinerSettings(units_per_kind=1, student_share=0.0, exact_share=1.0)
    pairs, texts = held_out_pairs(settings, Student(shipped_bundle_dir()), Tokenizer({}), SEED)
    refined = np.stack(
        [refiner.refine_layers(unit, text).fields for unit, text in zip(pairs.coarse.numpy(), texts, strict=True)]
    )
    assert displacement_px(torch.from_numpy(refined), pairs.fine).median() < 0.1


def test_a_unit_is_refined_alike_every_time(refiner: Refiner, spoilt: tuple[Pairs, list[str]]) -> None:
    fields = spoilt[0].coarse[0].numpy()
    first, again = refiner.refine(fields, "polka dots"), refiner.refine(fields, "polka dots")
    np.testing.assert_array_equal(first, again)
