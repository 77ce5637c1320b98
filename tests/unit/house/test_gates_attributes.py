"""Attributes are read from pictures: right on exact units, wrong on recoloured, swapped, bare and badly laid ones."""

from dataclasses import replace

import numpy as np
import pytest

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields, choose_palette
from halfdrop.models.house.gates.asking import ASKED_REPEATS, Asked, ask, role_slots
from halfdrop.models.house.gates.attributes import UNIT_PX, TrueUnit, measure_attributes
from halfdrop.models.house.gates.layouts import count_periods, has_layout
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, KIND_NAMES
from halfdrop.models.renderer import compose_tile

KINDS = ("dots", "stars", "sprigs", "mushrooms", "gingham", "plaid", "stripes", "scallops", "trellis", "camouflage")


@pytest.fixture(scope="module")
def asked() -> list[Asked]:
    return ask(3, 5, KINDS)


def fields_of(each: Asked) -> Fields:
    assert each.plates is not None
    fields: Fields = each.plates.numpy()
    return fields


def palette_of(each: Asked) -> tuple[str, ...]:
    assert each.traits is not None
    colours = np.full((5, 3), 0.5, np.float32)
    for role, slot in role_slots(each.traits).items():
        colours[slot] = each.colours[role]
    if each.traits.is_blended:
        colours[2] = colours[1]
    return choose_palette(colours, ())


def answers_of(each: Asked, fields: Fields, palette: tuple[str, ...]) -> dict[str, bool]:
    """Return for each attribute whether all of its answers are right."""
    assert each.plates is not None
    assert each.traits is not None
    rights: dict[str, bool] = {}
    for answer in measure_attributes(fields, palette, each, TrueUnit(plates=each.plates, traits=each.traits)):
        rights[answer.attribute] = rights.get(answer.attribute, True) and answer.is_right
    return rights


def test_exact_units_are_right_in_everything(asked: list[Asked]) -> None:
    for each in asked:
        wrong = [name for name, is_right in answers_of(each, fields_of(each), palette_of(each)).items() if not is_right]
        assert not wrong, (each.prompt, wrong)


def test_a_body_of_another_colour_is_wrong_and_its_ground_is_not(asked: list[Asked]) -> None:
    for each in asked:
        if each.kind in FREE_FORMS or each.kind in ("gingham", "plaid"):
            continue
        palette = palette_of(each)
        assert each.traits is not None
        slot = each.traits.body[0] + 1
        other = "#cc2482" if palette[slot] != "#cc2482" else "#0c7a7e"
        recoloured = (*palette[:slot], other, *palette[slot + 1 :])
        answers = answers_of(each, fields_of(each), recoloured)
        assert not answers["body"], each.prompt
        assert answers["ground"], each.prompt


def test_swapped_roles_are_wrong(asked: list[Asked]) -> None:
    for each in asked:
        if each.kind in FREE_FORMS:
            continue
        palette = palette_of(each)
        assert each.traits is not None
        slot = each.traits.body[0] + 1
        swapped = list(palette)
        swapped[0], swapped[slot] = swapped[slot], swapped[0]
        answers = answers_of(each, fields_of(each), tuple(swapped))
        assert not answers["ground"], each.prompt
        assert not answers["body"], each.prompt


def test_a_detail_that_is_missing_and_a_layer_too_many_are_found(asked: list[Asked]) -> None:
    each = next(each for each in asked if each.kind == "sprigs")
    bare = fields_of(each).copy()
    bare[2] = -1
    assert not answers_of(each, bare, palette_of(each))["detail present"]
    plain = next(each for each in asked if each.kind == "dots" and not each.present)
    blotted = fields_of(plain).copy()
    blotted[3] = (9 - np.hypot(*(np.indices((64, 64)) - 31.5))) / 6
    palette = (*palette_of(plain)[:4], "#ff00ff")
    assert not answers_of(plain, blotted, palette)["nothing else"]


@pytest.mark.parametrize("number", range(len(ASKED_REPEATS)))
def test_a_layout_is_told_from_every_other(asked: list[Asked], number: int) -> None:
    each = next(each for each in asked if each.kind == "sprigs")
    fields, palette, repeat = fields_of(each), palette_of(each), ASKED_REPEATS[number][1].normalise()
    tile = compose_tile(fields, palette, repeat, repeat.units * UNIT_PX)
    assert has_layout(tile, repeat, is_set_motif=True)
    for _, other in ASKED_REPEATS:
        lattice = other.normalise()
        if len(tile) % lattice.units == 0 and (lattice.layout, lattice.units) != (repeat.layout, repeat.units):
            assert not has_layout(tile, lattice, is_set_motif=True), (repeat, lattice)


def test_periods_are_counted_in_pixels(asked: list[Asked]) -> None:
    each = next(each for each in asked if each.kind == "sprigs")
    for units in (1, 2, 3, 4, 6):
        tile = compose_tile(fields_of(each), palette_of(each), Repeat(units=units), units * UNIT_PX)
        assert count_periods(tile) == (units, units)


def test_another_count_than_the_one_asked_for_is_wrong(asked: list[Asked]) -> None:
    each = replace(next(each for each in asked if each.kind == "stars"), repeat=Repeat(units=4))
    half_as_large = fields_of(each)[:, ::2, ::2]
    four = np.tile(half_as_large, (1, 2, 2))
    assert answers_of(each, fields_of(each), palette_of(each))["count"]
    assert not answers_of(each, four, palette_of(each))["count"]


def test_the_grammar_asks_for_what_training_never_sees(asked: list[Asked]) -> None:
    from halfdrop.models.house.captions import detail_word
    from halfdrop.models.house.held_out import is_held_out
    from halfdrop.models.house.palettes import COLOURS_255

    names = {tuple(level / 255 for level in levels): name for name, levels in COLOURS_255.items()}
    again = ask(3, 5, KINDS)
    assert [each.prompt for each in again] == [each.prompt for each in asked]
    assert [each.prompt for each in ask(3, 6, KINDS)] != [each.prompt for each in asked]
    for each in asked:
        if each.kind in ("gingham", "plaid", "camouflage"):
            continue
        assert each.traits is not None
        details = [(detail_word(d), names[each.colours[detail_word(d)]]) for d in each.traits.details]
        assert is_held_out(each.kind, names[each.colours["body"]], names[each.colours["ground"]], details), each.prompt


def test_every_kind_is_asked_for_in_every_repeat() -> None:
    for kind in KIND_NAMES[:3]:
        seen = {(each.repeat.layout, each.repeat.units) for each in ask(len(ASKED_REPEATS), 1, (kind,))}
        assert len(seen) == len(ASKED_REPEATS)


def test_an_open_colour_is_not_asked_about(asked: list[Asked]) -> None:
    each = next(each for each in asked if each.kind == "dots")
    open_ground = replace(each, colours={role: rgb for role, rgb in each.colours.items() if role != "ground"})
    answers = answers_of(open_ground, fields_of(each), ("#ff00ff", *palette_of(each)[1:]))
    assert "ground" not in answers
    assert answers["body"]
