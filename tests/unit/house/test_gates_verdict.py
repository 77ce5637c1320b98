"""Pictures are compared by the book, copies are found wherever they were moved, and verdicts say what was missed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halfdrop.contracts.errors import PermanentError
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.house.batches import draw_batches
from halfdrop.models.house.gates.asking import ask_list
from halfdrop.models.house.gates.exact import draw_pool
from halfdrop.models.house.gates.goals import GOALS, judge_figures, refuse_broken
from halfdrop.models.house.gates.likenesses import allowed, way_of
from halfdrop.models.house.gates.novelty import first_tiles, nearest_distance, shares_by, worst_of
from halfdrop.models.house.gates.similarity import box_shrink, psnr_db, ssim
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.settings import TrainingSettings
from halfdrop.models.house.tokenizer import Tokenizer

MET = {
    "kind_accuracy": 0.97,
    "kind_accuracy_worst": 0.9,
    "attribute_accuracy": 0.98,
    "contour_error": 2.0,
    "broken_lines": 0.01,
    "seam_ratio_p95": 1.02,
    "int8_psnr_db": 45.0,
    "preview_master_ssim_p50": 0.97,
    "preview_unrefined_ssim_p50": 0.995,
    "preview_cpu_ms_p50": 9.0,
    "preview_speedup_vs_eager": 14.0,
    "master_4096_s": 0.2,
    "weights_mb": {"edge": 8.0, "all": 40.0},
}


def picture(seed: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise_and_blur() -> None:
    one = np.kron(picture(1, 8), np.ones((16, 16, 1), np.uint8))
    assert ssim(one, one) == pytest.approx(1, abs=1e-6)
    noise = np.random.default_rng(2).normal(0, 12, one.shape)
    noisy = np.clip(one + noise, 0, 255).astype(np.uint8)
    noisier = np.clip(one + 3 * noise, 0, 255).astype(np.uint8)
    assert 1 > ssim(one, noisy) > ssim(one, noisier) > 0
    assert abs(ssim(picture(1), picture(2))) < 0.05
    assert ssim(one, noisy) == pytest.approx(ssim(noisy, one), abs=1e-6)


def test_ssim_of_flat_pictures_is_what_its_formula_says() -> None:
    dark, light = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, light) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-3)


def test_psnr_and_shrinking_are_arithmetic() -> None:
    dark, light = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 110, np.uint8)
    assert psnr_db(dark, light) == pytest.approx(20 * np.log10(25.5))
    assert psnr_db(dark, dark) == pytest.approx(90)
    board = np.kron(np.array([[0, 200], [200, 0]], np.uint8)[..., None].repeat(3, -1), np.ones((1, 1, 1), np.uint8))
    assert (box_shrink(np.tile(board, (4, 4, 1)), 4) == 100).all()


def test_a_copy_is_found_though_it_was_moved() -> None:
    tiles = draw_pool("camouflage", None, 1, 12).plates
    copy = tiles[3].roll((17, 40), (1, 2))
    assert nearest_distance(copy, tiles) < 1e-3
    fresh = draw_pool("camouflage", None, 2, 2).plates
    assert nearest_distance(fresh[0], tiles) > 0.05


def test_the_first_tiles_are_those_that_training_was_shown() -> None:
    settings = replace(TrainingSettings(), units_per_kind=2, processes=1, batch=8)
    tokenizer = Tokenizer.load(shipped_bundle_dir() / "tokenizer" / "vocab.json")
    shown = draw_batches(settings, tokenizer, settings.seed + 1000)
    units = [next(shown)[0] for _ in range(8)]
    zebras = torch.cat([each.plates[each.kinds == KIND_NAMES.index("zebra")] for each in units])
    assert len(zebras) > 0
    tiles = first_tiles(settings)["zebra"]
    assert all(nearest_distance(zebra, tiles) < 2e-3 for zebra in zebras)


def test_the_worst_of_several_shares_is_named() -> None:
    shares = shares_by([("red", True), ("red", False), ("blue", True)])
    assert shares == {"red": 0.5, "blue": 1.0}
    assert worst_of(shares) == ("red", 0.5)


def test_a_verdict_tells_passed_missed_and_not_measured() -> None:
    assert set(judge_figures(MET)["passed"]) == {goal.key for goal in GOALS}
    assert judge_figures(MET)["missed"] == []
    verdict = judge_figures({**MET, "kind_accuracy": 0.9, "weights_mb": {"edge": 21, "all": 40}})
    assert verdict["missed"] == ["kind_accuracy is 0.9, goal >= 0.95", "weights_mb.edge is 21, goal <= 20"]
    assert judge_figures({})["not_measured"] == [goal.key for goal in GOALS]


def test_a_weak_bundle_is_told_of_and_a_broken_one_refused() -> None:
    refuse_broken({"kind_accuracy": 0.6, "blank_share": 0.0})
    with pytest.raises(PermanentError, match="broken") as refused:
        refuse_broken({"kind_accuracy": 0.3, "blank_share": 0.0})
    assert refused.value.code == "bad-bundle"
    with pytest.raises(PermanentError, match="nothing at all in 90%"):
        refuse_broken({"kind_accuracy": 0.6, "blank_share": 0.9})


def test_written_prompts_allow_the_looks_that_they_say_and_no_others() -> None:
    asked = {each.prompt: each for each in ask_list()}
    stars = asked["eight-pointed white stars outlined in red, navy ground"]
    pool = draw_pool("stars", None, 1)
    looks = {(pool.traits[place].adjectives, len(pool.traits[place].details)) for place in allowed(stars, pool)}
    assert looks == {(("8-pointed",), 1)}
    tilted = asked["tilted yellow stars on royal blue, no outline"]
    assert way_of(tilted) == "tilted"
    pool = draw_pool("stars", "tilted", 1)
    assert all(not pool.traits[place].details for place in allowed(tilted, pool))
    for each in asked.values():
        assert allowed(each, draw_pool(each.kind, way_of(each), 1, 24)), each.prompt


def test_judging_needs_no_more_than_plates() -> None:
    from halfdrop.models.house.classifier import Classifier, name_kinds

    torch.manual_seed(0)
    names = name_kinds(Classifier().eval(), draw_pool("dots", None, 1, 5).plates)
    assert len(names) == 5
