"""Inks as data, and how they meet on a press."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.printing import MM_PER_INCH, PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.features import drop_specks, thinnest_lines
from halfdrop.hub.printing.separations import InkSheet, check_press, describe_inks, encode_ink_data, trap_plates
from halfdrop.hub.printing.spot_inks import delta_e_2000
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_layers, compose_tile

SPEC = PatternSpec(prompt="rosés", repeat=Repeat(units=1), model_digest="sha256:0f")
SIZE_PX = 1024
UNIT_MM = 64.0
PX_MM = UNIT_MM / SIZE_PX
CENTRES = (np.arange(GRID_PX) + 0.5) / GRID_PX
U, V = np.meshgrid(CENTRES, CENTRES)

SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, -1.1848, -84.8006), (50, 0, -82.7485), 1.0000),
    ((50, -0.9009, -85.5211), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0009), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
    ((50, -0.0010, 2.4900), (50, 0.0009, -2.4900), 4.8045),
    ((50, -0.0010, 2.4900), (50, 0.0011, -2.4900), 4.7461),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]
"""From the published table of Sharma, Wu and Dalal: hues that wrap, greys, pairs far apart and near."""


def artwork_of(fields: Fields, palette: tuple[str, ...], **options: object) -> Artwork:
    mill = PrintOptions(repeat_mm=UNIT_MM, **options)  # type: ignore[arg-type]
    return Artwork(fields=fields, palette=palette, spec=SPEC, size_px=SIZE_PX, options=mill)


def bars(*widths_px: float) -> Fields:
    """Upright bars in the middle of the unit, one on another, of so many grid pixels: a pixel is a millimetre."""
    fields = np.full((4, GRID_PX, GRID_PX), -1, np.float32)
    for layer, width_px in enumerate(widths_px):
        fields[layer] = np.clip((width_px / 2 - np.abs(U - 0.5) * GRID_PX) / BAND_PX, -1, 1)
    return fields


@pytest.mark.parametrize(("one", "other", "apart"), SHARMA)
def test_differences_of_colours_are_those_that_were_published(
    one: tuple[float, float, float], other: tuple[float, float, float], apart: float
) -> None:
    assert delta_e_2000(one, other) == pytest.approx(apart, abs=1e-4)
    assert delta_e_2000(other, one) == pytest.approx(apart, abs=1e-4)


def test_knocked_out_inks_share_every_pixel_and_leave_none_bare(unit: Fields, palette: tuple[str, ...]) -> None:
    plates = np.stack(trap_plates(artwork_of(unit, palette, trap_mm=0, min_feature_mm=0))).astype(int)
    # at most both inks round up; where three meet in a pixel, each is rounded
    assert plates.sum(axis=0).min() >= 254
    assert (plates.sum(axis=0) > 257).mean() < 1e-3
    uppermost = compose_layers(unit, SPEC.repeat, SIZE_PX)[-1]
    np.testing.assert_array_equal(plates[-1], uppermost)


def test_the_lighter_ink_runs_on_under_the_darker_by_the_trap(palette: tuple[str, ...]) -> None:
    # cream ground, red bar of 20 mm, on it a yellow one of 10: yellow is lighter than red, red darker than the ground
    colours = (palette[0], palette[1], "#e0a526", *palette[3:])
    exact = [plate.astype(float) for plate in trap_plates(artwork_of(bars(20, 10), colours, trap_mm=0))]
    trapped = [plate.astype(float) for plate in trap_plates(artwork_of(bars(20, 10), colours, trap_mm=0.5))]
    grown_mm = [(now - before).sum(axis=1).mean() / 255 * PX_MM for now, before in zip(trapped, exact, strict=True)]
    assert grown_mm == pytest.approx([1.0, 0.0, 1.0], abs=0.02)  # on both sides of a bar
    np.testing.assert_array_equal(trapped[1], exact[1])  # the darkest ink's edges are those that are seen


def test_spreading_never_reaches_beyond_the_neighbour(palette: tuple[str, ...]) -> None:
    # a thin dark line between two light areas takes both spreads, and they stop at its far edge
    colours = ("#ffffff", "#000000", *palette[2:])
    ground, line = trap_plates(artwork_of(bars(3), colours, trap_mm=2))
    assert ground.min() == 255
    assert line.sum(axis=1).mean() / 255 * PX_MM == pytest.approx(3, abs=0.02)


def test_each_ink_is_told_with_lab_order_coverage_and_difference(palette: tuple[str, ...]) -> None:
    artwork = replace(artwork_of(bars(16, 4), palette, trap_mm=0.25), asked=(palette[0], "#c0382b"))
    sheet = describe_inks(artwork)
    ground, red, blue = sheet.inks
    assert [ink.print_order for ink in sheet.inks] == [1, 2, 3]
    assert ground.coverage_percent == pytest.approx(75, abs=0.1)
    assert red.coverage_percent == pytest.approx(100 * 12 / 64, abs=0.1)
    assert blue.coverage_percent == pytest.approx(100 * 4 / 64, abs=0.1)
    assert red.plate_percent == pytest.approx(100 * 12.5 / 64, abs=0.1)
    assert (ground.delta_e, blue.delta_e, blue.asked) == (0, 0, "")
    assert 0 < red.delta_e < 1
    assert [ink.thinnest_mm for ink in sheet.inks] == [None, pytest.approx(6, abs=0.1), pytest.approx(4, abs=0.1)]
    assert msgspec.json.decode(encode_ink_data(artwork), type=InkSheet) == sheet
    assert sheet.dpi == pytest.approx(SIZE_PX * MM_PER_INCH / UNIT_MM, abs=0.01)


@pytest.mark.parametrize("angle", [0, 17, 45, 80, 90])
def test_a_line_is_as_thin_as_it_is_whatever_its_slant(angle: float) -> None:
    across = (U - 0.5) * np.cos(np.radians(angle)) + (V - 0.5) * np.sin(np.radians(angle))
    short = np.hypot(U - 0.5, V - 0.5) * GRID_PX - 20  # cut off within the unit: its ends are not measured
    line = np.minimum(2.5 / 2 - np.abs(across) * GRID_PX, -short)
    fields = np.clip(line / BAND_PX, -1, 1).astype(np.float32)[None]
    _, width_mm = thinnest_lines(fields, Repeat(units=1), 64.0)
    assert width_mm == pytest.approx(2.5, abs=0.15)


def test_what_is_too_thin_is_said(palette: tuple[str, ...]) -> None:
    sheet = describe_inks(artwork_of(bars(16, 2), palette, min_feature_mm=3))
    assert len(sheet.warnings) == 1
    assert "Plate 2 #1f5f8b: its thinnest line is" in sheet.warnings[0]
    assert "the mill prints 3 mm" in sheet.warnings[0]


def test_specks_across_a_dropped_border_are_found_and_lines_stay(palette: tuple[str, ...]) -> None:
    half = Repeat(layout="half-drop").normalise()
    fields = bars(4)
    # one dot in two halves: at the left border, and half a unit lower at the right one
    for across, down in ((0.0, 0.2), (1.0, 0.7)):
        dot = 3 - np.hypot(U - across, V - down) * GRID_PX
        fields[0] = np.maximum(fields[0], np.clip(dot / BAND_PX, -1, 1))
    cleared, counts = drop_specks(fields[:1], half, 64.0, 5.0)
    assert counts == [0]  # six across
    cleared, counts = drop_specks(fields[:1], half, 64.0, 7.0)
    assert counts == [2]  # a half at each border
    np.testing.assert_array_equal(cleared > 0, bars(4)[:1] > 0)
    sheet = describe_inks(replace(artwork_of(fields, palette, min_feature_mm=3), spec=replace_repeat(half)))
    assert [ink.specks for ink in sheet.inks] == [0, 0]


def replace_repeat(repeat: Repeat) -> PatternSpec:
    return msgspec.structs.replace(SPEC, repeat=repeat)


def test_holes_are_filled(palette: tuple[str, ...]) -> None:
    hole = np.hypot(U - 0.5, V - 0.5) * GRID_PX - 1.5
    fields = np.clip(np.minimum(20 - np.abs(U - 0.5) * GRID_PX, hole) / BAND_PX, -1, 1).astype(np.float32)[None]
    cleared, counts = drop_specks(fields, Repeat(units=1), 64.0, 4.5)
    assert counts == [1]
    assert (cleared > 0).sum() == (bars(40)[0] > 0).sum()


def test_a_palette_larger_than_the_press_is_refused(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    with pytest.raises(PermanentError, match="inks: got 4, the ground included; allowed: 3"):
        check_press(artwork_of(units["camouflage"], palette, inks_max=3))
    check_press(artwork_of(units["camouflage"], palette, inks_max=4))


def test_a_colourway_is_painted_from_the_same_coverage_to_the_bit(
    unit: Fields, palette: tuple[str, ...], repeat: Repeat
) -> None:
    spec = replace_repeat(repeat.normalise())
    artwork = Artwork(fields=unit, palette=palette, spec=spec, size_px=250)
    other = artwork.in_colours(("#102030", "#f0e0d0"))
    colours = ("#102030", "#f0e0d0", *palette[2:])
    np.testing.assert_array_equal(other.tile(), compose_tile(unit, colours, spec.repeat, 250))
    np.testing.assert_array_equal(artwork.tile(), compose_tile(unit, palette, spec.repeat, 250))
    np.testing.assert_array_equal(np.stack(artwork.planes()), compose_layers(unit, spec.repeat, 250))
    assert other.coverage.get() is artwork.coverage.get()
