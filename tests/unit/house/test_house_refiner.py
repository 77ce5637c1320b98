"""The refiner: what it is trained on, what its network and its symmetries guarantee, and what guards its results."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.bundle import Bundle, Manifest, shipped_bundle_dir
from halfdrop.models.fields import Fields
from halfdrop.models.house.data import build_tokenizer, seeded_units
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.refiner.degrading import degrade, displacement_px
from halfdrop.models.house.refiner.net import RefinerConfig, RefinerNet
from halfdrop.models.house.refiner.pairs import Pairs, Student, border_weight, draw_pairs, draw_twice
from halfdrop.models.house.refiner.settings import RefinerSettings
from halfdrop.models.house.refiner.symmetry import MOVED_PX, symmetrise
from halfdrop.models.house.refiner.train import begin_run, step
from halfdrop.models.house.refining import STRAY_SHARE, Refiner, stray_share
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.lattice import extend_unit, runs_on, sample_weights

TOKENIZER = Tokenizer.build(["red stars on white"])


def fresh_net(*, is_silent: bool) -> RefinerNet:
    """A net as it is before training (silent: it corrects nothing), or with something to say in every layer."""
    torch.manual_seed(3)
    net = RefinerNet(RefinerConfig(vocabulary_size=TOKENIZER.size)).eval()
    if not is_silent:
        for weights in net.parameters():
            if not weights.any():
                torch.nn.init.normal_(weights, std=0.05)
    return net


def refiner_of(net: RefinerNet) -> Refiner:
    manifest = Manifest(name="small", version="1", licence="Apache-2.0", training_data="none", files={})
    bundle = Bundle(name="small", version="1", digest="0" * 64, directory=Path(), manifest=manifest)
    return Refiner(bundle, net, TOKENIZER)


def unit_of(kind: str, seed: int = 5) -> Tensor:
    return seeded_units(1, seed, [kind]).plates


def test_rolling_the_coarse_fields_by_a_cell_rolls_the_fine_ones() -> None:
    net, ids = fresh_net(is_silent=False), torch.tensor([TOKENIZER.encode("red stars")])
    coarse = unit_of("houndstooth")
    with torch.no_grad():
        fine = net(coarse, ids)
        rolled = net(coarse.roll((2, -18), (2, 3)), ids)
    assert (fine - net.enlarging @ coarse @ net.enlarging.T).abs().max() > 0.01
    torch.testing.assert_close(rolled, fine.roll((4, -36), (2, 3)), atol=1e-4, rtol=0)


def test_a_layer_without_ink_is_left_alone_whatever_the_net_has_to_say() -> None:
    coarse = unit_of("pinstripes")
    assert (coarse[0, 1:].amax((1, 2)) <= 0).all()
    with torch.no_grad():
        fine = fresh_net(is_silent=False)(coarse, torch.tensor([TOKENIZER.encode("red stars")]))
    assert (fine[0, 1:] == -1).all()
    assert fine[0, 0].max() > 0


def test_an_untrained_net_gives_what_the_renderer_would_interpolate() -> None:
    fields = unit_of("stars")[0].numpy()
    refined = refiner_of(fresh_net(is_silent=True)).refine_layers(fields, "red stars")
    places = (np.arange(128) + 0.5) / 2
    weights = sample_weights(places, 2)
    expected = np.clip(weights @ extend_unit(fields, Repeat(), 2) @ weights.T, -1, 1).astype(np.float32)
    assert refined.refined == (0,)
    # the star is symmetric already: its symmetries move no edge by a tenth of a grid pixel
    assert displacement_px(torch.from_numpy(refined.fields)[None], torch.from_numpy(expected)[None])[0] < 0.1


@pytest.mark.parametrize(
    "lattice", [Repeat(layout="half-drop"), Repeat(layout="brick"), Repeat(layout="drop", drop="1/3")]
)
def test_a_unit_that_runs_on_over_a_dropped_border_is_refined_across_it(lattice: Repeat) -> None:
    lattice = lattice.normalise()
    fields = free_form_on(lattice)
    refined = refiner_of(fresh_net(is_silent=True)).refine(fields, "blobs", lattice)
    places = (np.arange(128) + 0.5) / 2
    weights = sample_weights(places, 2)
    expected = np.clip(weights @ extend_unit(fields, lattice, 2) @ weights.T, -1, 1)
    np.testing.assert_allclose(refined, expected, atol=2e-4)


def free_form_on(lattice: Repeat) -> Fields:
    """A unit of blobs that closes on the lattice's torus and not on the straight one."""
    from halfdrop.models.house.kinds.catalogue import draw
    from halfdrop.models.house.kinds.drawing import Canvas

    canvas = Canvas(drop=float(lattice.shift), axis=lattice.shifted_axis)
    for seed in range(20):
        plates, _ = draw("blobs", 1, torch.Generator().manual_seed(seed), seeded_words(seed), canvas=canvas)
        fields = plates[0].numpy()
        upright = fields.swapaxes(-1, -2) if lattice.shifted_axis == "rows" else fields
        if runs_on(upright, lattice.shift):
            return fields
    raise AssertionError("twenty units, and none crosses the border")


def test_a_layer_that_departs_from_the_preview_is_kept_as_it_was() -> None:
    net = fresh_net(is_silent=True)
    assert net.head.bias is not None
    torch.nn.init.constant_(net.head.bias, 0.7)  # every edge moves outwards by 4 grid pixels
    fields = unit_of("stars")[0].numpy()
    refiner = refiner_of(net)
    refined = refiner.refine_layers(fields, "red stars")
    assert (refined.kept, refined.refined) == ((0,), ())
    np.testing.assert_allclose(refined.fields, refiner.enlarge(fields), atol=1 / 32767)
    assert refiner.refine(fields, "red stars") is fields, "a unit merely enlarged may be laid otherwise"


def test_straying_is_ink_far_from_the_previews_edges_and_not_an_edge_that_moved() -> None:
    def disc(radius_px: float, across_px: float) -> Fields:
        place = (np.arange(128) + 0.5) / 2
        away = np.hypot(place[None] - across_px, place[:, None] - 32)
        return np.clip((radius_px - away) / 6, -1, 1).astype(np.float32)

    assert stray_share(disc(20, 32.7), disc(20, 32)) == 0
    assert stray_share(disc(20, 37), disc(20, 32)) > STRAY_SHARE
    assert stray_share(np.maximum(disc(20, 32), disc(4, 6)), disc(20, 32)) > STRAY_SHARE


def test_uneven_petals_become_equal_and_a_lopsided_shape_stays_as_it_was() -> None:
    place = torch.arange(64) + 0.5 - 32
    x, y = place.view(1, -1), place.view(-1, 1)
    bearing, away = torch.atan2(x, -y), torch.sqrt(x * x + y * y)
    petals = 18 + 6 * torch.cos(5 * bearing)
    uneven = ((petals + 0.3 * torch.sin(3 * bearing + 1) - away) / 6).clamp(-1, 1)
    even = ((petals - away) / 6).clamp(-1, 1)
    lopsided = ((18 + 6 * torch.cos(5 * bearing) + 5 * torch.cos(bearing) - away) / 6).clamp(-1, 1)
    plates = torch.full((2, 4, 64, 64), -1.0)
    plates[0, 0], plates[1, 0] = uneven, lopsided
    made = symmetrise(plates)
    exact = plates[:1].clone()
    exact[0, 0] = even
    assert displacement_px(made[:1], exact) < 0.4 * displacement_px(plates[:1], exact)
    torch.testing.assert_close(made[:1], made[:1].flip(3), atol=0.02, rtol=0)
    torch.testing.assert_close(made[1], plates[1])


def test_symmetries_leave_exact_units_exact() -> None:
    units = seeded_units(1, 11)
    moved = displacement_px(symmetrise(units.plates), units.plates)
    assert moved.median() < 0.02
    assert moved.max() < 0.25


def test_symmetries_never_carry_a_layer_away() -> None:
    units = seeded_units(1, 13)
    spoilt = degrade(units.plates, torch.Generator().manual_seed(13))
    layers = spoilt.flatten(0, 1)[:, None]
    made = symmetrise(spoilt).flatten(0, 1)[:, None]
    moved = displacement_px(made, layers)
    assert (moved > 0.05).any()
    assert moved.max() < 1.1 * MOVED_PX


def test_one_seed_is_one_unit_on_both_grids() -> None:
    units, fine = draw_twice(
        1, torch.Generator().manual_seed(9), seeded_words(9), ["stars", "plaid", "camouflage"], mixes=1
    )
    assert fine.shape == (4, 4, 128, 128)
    reduced = fine.view(4, 4, 64, 2, 64, 2).mean((3, 5))
    assert (reduced - units.plates).abs().mean() < 0.003


def test_degraded_units_differ_a_little_and_bare_layers_stay_bare() -> None:
    exact = seeded_units(1, 12, ["hearts", "pinstripes", "snowflakes"]).plates
    spoilt = degrade(exact, torch.Generator().manual_seed(1))
    again = degrade(exact, torch.Generator().manual_seed(1))
    torch.testing.assert_close(spoilt, again)
    moved = displacement_px(spoilt, exact)
    assert ((moved > 0.01) & (moved < 1.5)).all()
    assert (spoilt[1, 1:] == exact[1, 1:]).all()


def test_pairs_are_spoilt_on_the_coarse_side_and_exact_on_the_fine_one() -> None:
    student, kinds = Student(shipped_bundle_dir()), ["stars", "argyle"]
    settings = RefinerSettings(units_per_kind=2, student_share=1.0, exact_share=0.0)
    pairs, texts = draw_pairs(
        settings, student, build_tokenizer(), torch.Generator().manual_seed(4), seeded_words(4), kinds=kinds, mixes=0
    )
    units, fine = draw_twice(2, torch.Generator().manual_seed(4), seeded_words(4), kinds)
    assert texts == units.texts
    torch.testing.assert_close(pairs.fine, fine)
    moved = displacement_px(pairs.coarse, units.plates)
    assert ((moved > 0.01) & (moved < 1.0)).all()


def test_nothing_is_learnt_from_a_border_that_the_straight_torus_tears() -> None:
    from halfdrop.models.house.kinds.catalogue import KIND_NAMES
    from halfdrop.models.house.torus import LATTICES

    half_drop = LATTICES.index(("columns", Fraction(1, 2)))
    pairs = Pairs(
        coarse=torch.zeros(3, 4, 64, 64),
        fine=torch.zeros(3, 4, 128, 128),
        ids=torch.zeros(3, 32, dtype=torch.long),
        kinds=torch.tensor([KIND_NAMES.index(kind) for kind in ("marble", "marble", "plaid")]),
        lattices=torch.tensor([0, half_drop, half_drop]),
    )
    weight = border_weight(pairs)
    assert weight[0].all()
    assert weight[2].all()
    assert not weight[1, 0, :, :16].any()
    assert not weight[1, 0, :, -16:].any()
    assert weight[1, 0, :, 16:-16].all()


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    settings = RefinerSettings(batch=2)
    units, fine = draw_twice(1, torch.Generator().manual_seed(2), seeded_words(2), ["stars", "plaid"])
    pairs = Pairs(
        coarse=degrade(units.plates, torch.Generator().manual_seed(2)),
        fine=fine,
        ids=torch.tensor([TOKENIZER.encode(text) for text in units.texts]),
        kinds=units.kinds,
        lattices=units.lattices,
    )
    run = begin_run(settings, TOKENIZER, "cpu")
    losses = [step(run, pairs, settings, 0.1) for _ in range(12)]
    assert losses[-1] < losses[0]
    run.save(tmp_path / "refiner.pt")
    resumed = begin_run(settings, TOKENIZER, "cpu")
    resumed.load(tmp_path / "refiner.pt")
    assert (resumed.progress.step, resumed.progress.samples) == (12, 24)
    assert step(resumed, pairs, settings, 0.2) == pytest.approx(step(run, pairs, settings, 0.2), rel=1e-5)
