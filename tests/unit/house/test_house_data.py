"""The training data: every kind stays in its range, closes on its torus, and can be said in known words."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from halfdrop.models.house.captions import caption
from halfdrop.models.house.data import MIX, build_tokenizer, encode_texts, seeded_units
from halfdrop.models.house.held_out import held_out_pairs, is_held_out, kind_of
from halfdrop.models.house.kinds.catalogue import (
    ALL_OVERS,
    FREE_FORMS,
    KIND_NAMES,
    KINDS,
    SET_MOTIFS,
    draw,
    stack_layers,
)
from halfdrop.models.house.kinds.drawing import STRAIGHT, Canvas, Detail, Dice, Traits, seeded_words
from halfdrop.models.house.kinds.fields import GRID, PLATES
from halfdrop.models.house.kinds.mixes import draw_mix
from halfdrop.models.house.kinds.variations import VARIED, draw_varied
from halfdrop.models.house.palettes import COLOURS_255, LIGHT_GROUND, accent_for, body_for, rgb, shade_of
from halfdrop.models.house.tokenizer import LENGTH, NEGATION, fold

MARGIN_PX = 2
UNITS = 12
THIN_LINED = {"pinstripes", "basketweave"}


def drawn(kind: str, seed: int = 3, **canvas: Any) -> torch.Tensor:
    numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
    return draw(kind, UNITS, numbers, words, canvas=Canvas(**canvas))[0]


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_kind_fills_its_range_with_finite_fields(kind: str) -> None:
    plates = drawn(kind)
    assert plates.shape == (UNITS, PLATES, GRID, GRID)
    assert torch.isfinite(plates).all()
    assert plates.min() >= -1
    assert plates.max() <= 1
    assert (plates > 0).flatten(1).any(1).all(), "a unit without ink"


@pytest.mark.parametrize("kind", SET_MOTIFS)
def test_every_set_motif_keeps_a_margin_on_which_nothing_is_printed(kind: str) -> None:
    plates = drawn(kind)
    border = torch.ones(GRID, GRID, dtype=torch.bool)
    border[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = False
    assert (plates[:, :, border] < 0).all()


@pytest.mark.parametrize("kind", SET_MOTIFS)
def test_every_set_motif_is_large_enough_to_be_seen(kind: str) -> None:
    inside = (drawn(kind) > 0).any(1)
    height = inside.any(2).sum(1)
    width = inside.any(1).sum(1)
    assert (torch.maximum(height, width) >= 0.5 * GRID).all()


@pytest.mark.parametrize("kind", ALL_OVERS)
def test_every_all_over_closes_on_its_torus(kind: str) -> None:
    plates = drawn(kind)
    for axis in (2, 3):
        steps = (plates.roll(-1, axis) - plates).abs()
        across = steps.narrow(axis, GRID - 1, 1).flatten(1).mean(1)
        # A join is whole when its step is among those found inside: of 63 rows, some are as steep.
        inside = steps.narrow(axis, 0, GRID - 1).mean((1, 5 - axis)).amax(1)
        assert (across <= inside * 1.25 + 0.02).all(), kind


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_seed_is_one_unit_however_finely_it_is_sampled(kind: str) -> None:
    coarse, fine = drawn(kind), drawn(kind, grid=2 * GRID)
    assert (torch.nn.functional.avg_pool2d(fine, 2) - coarse).abs().mean() < 0.02


@pytest.mark.parametrize("axis", ["columns", "rows"])
@pytest.mark.parametrize("eighths", [4, 2, 3])
@pytest.mark.parametrize("kind", sorted(FREE_FORMS))
def test_a_free_form_closes_on_the_torus_of_its_lattice(kind: str, eighths: int, axis: str) -> None:
    plates = drawn(kind, drop=eighths / 8, axis=axis)
    upright = plates if axis == "columns" else plates.transpose(2, 3)
    inside = (upright[..., 1:] - upright[..., :-1]).abs().mean()

    def step_at_the_join(drop_px: int) -> torch.Tensor:
        return (upright[..., 0].roll(drop_px, 2) - upright[..., -1]).abs().mean() / inside

    assert step_at_the_join(eighths * GRID // 8) < 1.15
    assert step_at_the_join(0) > 1.5, "it would close without the drop as well: the test sees nothing"


@pytest.mark.parametrize("kind", sorted(ALL_OVERS.keys() - FREE_FORMS))
def test_every_ruled_all_over_is_its_own_half_drop(kind: str) -> None:
    plates = drawn(kind)
    assert torch.allclose(plates, plates.roll(GRID // 2, 2), atol=2e-3)


@pytest.mark.parametrize("kind", sorted(SET_MOTIFS.keys() | ALL_OVERS.keys() - FREE_FORMS))
def test_edges_are_steep_enough_to_print_crisply(kind: str) -> None:
    plates = drawn(kind)
    down = (plates.roll(-1, 2) - plates.roll(1, 2)) / 2
    across = (plates.roll(-1, 3) - plates.roll(1, 3)) / 2
    slope = torch.sqrt(down**2 + across**2) * 6
    edge = slope[plates.abs() < 0.12]
    # One grid pixel of distance for each grid pixel walked. A line that is a few pixels thin has a ridge beside its
    # edge, over which this difference averages.
    assert edge.median() > (0.45 if kind in THIN_LINED else 0.9), kind


def test_units_and_captions_of_a_seed_are_always_the_same() -> None:
    first, second, other = seeded_units(2, 11), seeded_units(2, 11), seeded_units(2, 12)
    assert first.texts == second.texts
    assert torch.equal(first.plates, second.plates)
    assert first.texts != other.texts
    assert not torch.equal(first.plates, other.plates)


@pytest.mark.parametrize(("way", "kind"), [(way, kind) for way, kinds in VARIED.items() for kind in kinds])
def test_every_way_of_drawing_is_visible_said_and_within_the_margin(way: str, kind: str) -> None:
    def dice() -> Dice:
        return Dice.on(STRAIGHT, UNITS, torch.Generator().manual_seed(4), seeded_words(4))

    drawing = draw_varied(kind, way, dice())
    varied, plain = stack_layers(drawing.layers, STRAIGHT), stack_layers(KINDS[kind](dice()).layers, STRAIGHT)
    assert all(way in traits.adjectives for traits in drawing.traits)
    assert ((varied > 0) != (plain > 0)).float().mean((1, 2, 3)).min() > 0.003
    assert (varied[:, :, :MARGIN_PX] < 0).all()
    assert (varied[:, :, -MARGIN_PX:] < 0).all()


@pytest.mark.parametrize("drop", [0.0, 0.5, 1 / 3, 0.875])
@pytest.mark.parametrize("axis", ["columns", "rows"])
def test_a_mix_holds_two_whole_motifs_that_do_not_touch(drop: float, axis: str) -> None:
    for seed in range(12):
        dice = Dice.on(Canvas(drop=drop, axis=axis), 2, torch.Generator().manual_seed(seed), seeded_words(seed))
        plates, traits, _ = draw_mix(dice)
        first, second = (plates[:, :2] > 0).any(1), (plates[:, 2:] > 0).any(1)
        assert first.flatten(1).any(1).all()
        assert second.flatten(1).any(1).all()
        assert not (first & second).any()
        assert traits[0].partner is not None
        assert min(traits[0].partner.body) >= 2
        # What the second motif leaves on one border comes in again on the other, a drop further on.
        upright = second if axis == "columns" else second.transpose(1, 2)
        join = (upright[..., 0].roll(round(drop * GRID), 1) != upright[..., -1]).float().mean()
        steps = (upright[..., 1:] != upright[..., :-1]).float().mean((0, 1))
        assert join <= steps.max() + 0.03


def test_units_of_a_seed_are_drawn_for_many_lattices_and_the_same_at_every_grid() -> None:
    coarse, fine = seeded_units(4, 17, mixes=3), seeded_units(4, 17, mixes=3, grid=2 * GRID)
    assert coarse.texts == fine.texts
    assert torch.equal(coarse.lattices, fine.lattices)
    assert len(set(coarse.lattices.tolist())) > 10
    assert (coarse.kinds == MIX).sum() == 12
    assert fine.plates.shape[-1] == 2 * GRID


def test_every_caption_is_made_of_known_words_and_fits() -> None:
    tokenizer = build_tokenizer()
    texts = seeded_units(30, 21).texts
    assert {word for text in texts for word in tokenizer.unknown_words(text)} == set()
    assert all(tokenizer.encode(text)[LENGTH - 1] == 0 for text in texts), "a caption fills all tokens"


def test_captions_never_speak_of_layout_or_scale() -> None:
    arithmetic = {"half-drop", "brick", "straight", "tossed", "small", "large", "tiny", "layout", "scale"}
    texts = seeded_units(40, 22).texts
    # "scale scallops" and "fish scales" are names of a kind, not a scale.
    assert not [text for text in texts if (arithmetic - {"scale"}) & set(text.replace(",", "").split())]


HEARTS = Traits(noun="hearts", details=(Detail(layer=1, phrases=("outlined in {}", "with {} outline")),))
MIXED = Traits(
    noun="stars", partner=Traits(noun="leaves", body=(2,), details=(Detail(layer=3, phrases=("with {} veins",)),))
)
NAMES_BY_TOKEN = {"".join(name.split()): name for name in COLOURS_255}


def said_colours(text: str) -> list[str]:
    """Return the names of the colours that a caption asks for: those that it denies are none."""
    tokens = fold(text)
    denied = {place + 1 for place, token in enumerate(tokens) if token == NEGATION}
    return [
        NAMES_BY_TOKEN[token] for place, token in enumerate(tokens) if token in NAMES_BY_TOKEN and place not in denied
    ]


@pytest.mark.parametrize("traits", [HEARTS, MIXED, Traits(noun="stripes", body=(0, 1))])
def test_a_caption_asks_for_no_colour_that_its_palette_has_not(traits: Traits) -> None:
    words = seeded_words(5)
    for _ in range(400):
        said = caption(traits, words)
        seen = {colour for colour, is_used in zip(said.palette, said.is_used, strict=True) if is_used}
        assert {rgb(name) for name in said_colours(said.text)} <= seen, said.text


def test_a_row_of_colours_ends_with_the_ground() -> None:
    words = seeded_words(8)
    stripes = [caption(Traits(noun="stripes", names_ground=True), words) for _ in range(400)]
    rows = [said for said in stripes if "and" in said.text and "outline" not in said.text]
    assert len(rows) > 20
    for said in rows:
        body, ground = said_colours(said.text)
        assert (said.palette[1], said.palette[0]) == (rgb(body), rgb(ground)), said.text


def test_two_coloured_stripes_always_name_their_ground() -> None:
    words = seeded_words(9)
    for _ in range(300):
        said = caption(Traits(noun="stripes", body=(0, 1)), words)
        assert len(said_colours(said.text)) == 3, said.text


def test_a_cloth_that_is_named_one_colour_is_woven_of_its_shades() -> None:
    words = seeded_words(10)
    camouflage = [caption(Traits(noun="camouflage", body=(0, 1, 2)), words) for _ in range(400)]
    of_one = [(said, said_colours(said.text)) for said in camouflage if "on " in said.text]
    shaded = [
        (said, names[0]) for said, names in of_one if len(names) == 2 and fold(said.text)[-2:] == ["on", names[1]]
    ]
    assert shaded
    for said, name in shaded:
        assert said.palette[1] == rgb(name), said.text
        assert said.palette[2:4] == (shade_of(rgb(name), 1), shade_of(rgb(name), 2)), said.text


def test_a_caption_denies_only_what_is_not_there() -> None:
    words = seeded_words(11)
    texts = [fold(caption(HEARTS, words).text) for _ in range(600)]
    denying = [tokens for tokens in texts if NEGATION in tokens]
    assert 0.05 < len(denying) / len(texts) < 0.3
    assert not [tokens for tokens in texts if (NEGATION, "outline") in pairwise(tokens)]


def test_a_caption_without_a_ground_has_the_ground_that_suits_its_motif() -> None:
    words = seeded_words(6)
    said = [caption(Traits(noun="dots"), words) for _ in range(1500)]
    bare = [each for each in said if fold(each.text) == ["red", "dot"]]
    assert bare
    assert all(each.palette[0] == rgb(LIGHT_GROUND) for each in bare)


def test_combinations_that_are_held_out_are_never_captioned() -> None:
    words = seeded_words(12)
    for _ in range(1500):
        said = caption(Traits(noun="dots"), words)
        colours = {rgb(name): name for name in COLOURS_255}
        assert not is_held_out("dots", colours[said.palette[1]], colours[said.palette[0]]), said.text
    pairs = [(body, ground) for body in COLOURS_255 for ground in COLOURS_255 if body != ground]
    share = sum(is_held_out("dots", *pair) for pair in pairs) / len(pairs)
    assert 0.01 < share < 0.035


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_kind_has_combinations_to_be_tested_in(kind: str) -> None:
    pairs = held_out_pairs(kind)
    assert 3 <= len(pairs) <= 40
    assert all(is_held_out(kind, *pair) for pair in pairs)


@pytest.mark.parametrize("body", COLOURS_255)
def test_colours_left_unsaid_can_always_be_seen(body: str) -> None:
    for ground in COLOURS_255:
        for detail in ("outline", "leaves", "centres", "veins", "stars"):
            assert accent_for(detail, body, ground) not in (body, ground)
    assert body_for(body, "stars") != body


def test_every_noun_of_every_kind_is_known_by_its_kind() -> None:
    for index, kind in enumerate(KIND_NAMES):
        _, traits = draw(kind, 24, torch.Generator().manual_seed(index), seeded_words(index))
        assert {kind_of(each.noun) for each in traits} == {kind}


def test_an_unknown_word_is_put_into_some_training_captions_and_never_into_others() -> None:
    tokenizer = build_tokenizer()
    texts = ["red stars on white"] * 400
    plain, salted = encode_texts(tokenizer, texts), encode_texts(tokenizer, texts, seeded_words(9))
    assert not (plain == 1).any()
    share = (salted == 1).any(1).float().mean()
    assert 0.02 < share < 0.12
    assert salted.shape == (400, LENGTH)
