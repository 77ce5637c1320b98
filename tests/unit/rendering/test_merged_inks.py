"""Layers of one colour on one plate: the picture stays, the screens are fewer."""

import numpy as np

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.merged_inks import merge_inks, recolour_inks
from halfdrop.models.renderer import compose_tile, used_layers

REPEAT = Repeat(layout="half-drop", units=2).normalise()
TWO_INKS = ("#f4ead8", "#c0392b", "#f4ead8", "#c0392b", "#f4ead8")
THREE_INKS = ("#f4ead8", "#c0392b", "#1f5f8b", "#c0392b", "#f4ead8")


def test_the_picture_stays_and_each_ink_has_one_plate(units: dict[str, Fields]) -> None:
    for name in ("camouflage", "heart"):
        for palette in (TWO_INKS, THREE_INKS):
            fields = units[name]
            merged, inks = merge_inks(fields, palette)
            seen = {palette[layer + 1] for layer in used_layers(fields)} - {palette[0]}
            assert [inks[layer + 1] for layer in used_layers(merged)] == [
                ink for ink in dict.fromkeys(inks[1:]) if ink in seen
            ]
            before = compose_tile(fields, palette, REPEAT, 512).astype(int)
            after = compose_tile(merged, inks, REPEAT, 512).astype(int)
            differs = np.abs(before - after).max(axis=-1)
            assert (differs > 40).mean() < 0.004, f"{name}: corners of the outlines, no more"


def test_layers_of_different_colours_come_back_as_they_were(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    merged, inks = merge_inks(units["camouflage"], palette)
    assert merged is units["camouflage"]
    assert inks == palette


def test_a_colourway_follows_its_roles_to_the_merged_inks() -> None:
    merged = ("#f4ead8", "#c0392b", "#1f5f8b", "#f4ead8", "#f4ead8")
    assert recolour_inks(THREE_INKS, merged, ("#000000", "#111111", "#222222"))[:3] == ("#000000", "#111111", "#222222")
    assert recolour_inks(THREE_INKS, merged, ("#000000",))[:3] == ("#000000", "#c0392b", "#1f5f8b")


def test_what_has_the_colour_of_the_ground_is_no_ink(units: dict[str, Fields]) -> None:
    merged, inks = merge_inks(units["heart"], ("#ffffff",) * 5)
    assert used_layers(merged) == ()
    assert inks == ("#ffffff",) * 5
