"""Gates on patterns drawn from formulas: what is right passes, and what was broken on purpose is caught and shown.

Long because each gate is held against a pattern that it must pass and one that it must not.
"""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.templates import AtLeast, AtMost, Gates
from halfdrop.hub.files import encode_picture
from halfdrop.hub.gates.blank import measure_ink, measure_noise
from halfdrop.hub.gates.checking import Checked, check_file, check_pattern, check_plate, check_raster
from halfdrop.hub.gates.colours import count_colours
from halfdrop.hub.gates.copies import print_distance, sketch_distance, sketch_of, take_print
from halfdrop.hub.gates.marks import MARK
from halfdrop.hub.gates.repeats import measure_repeats
from halfdrop.hub.gates.size import read_measure
from halfdrop.hub.gates.specimen import Specimen, take_specimen
from halfdrop.hub.gates.stroke import measure_stroke
from halfdrop.models.fields import Fields
from halfdrop.models.provenance import describe_provenance
from halfdrop.models.renderer import compose_layers, compose_tile

PALETTE = ("#f4ead8", "#c0392b", "#1f5f8b", "#e0a526", "#2d2d2d")
STRAIGHT = Repeat(units=2)
HALF_DROP = Repeat(layout="half-drop", units=2).normalise()
SEAMS = Gates(seams=AtMost(max=1.1))

_places = (np.arange(GRID_PX) + 0.5) / GRID_PX
U, V = np.meshgrid(_places, _places)


def stack(*distances: NDArray[np.float64]) -> Fields:
    """Return the fields of layers given in grid pixels."""
    fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
    for layer, distance in enumerate(distances):
        fields[layer] = np.clip(distance / BAND_PX, -1, 1)
    return fields


def blob(u: float, v: float, radius_px: float, rows: float = 1.0) -> NDArray[np.float64]:
    """A disc that wraps; rows < 1 makes it an oval."""
    across, down = np.abs(U - u), np.abs(V - v)
    across, down = np.minimum(across, 1 - across), np.minimum(down, 1 - down)
    return radius_px - GRID_PX * np.hypot(across, down / rows)


def lopsided() -> Fields:
    """A motif that is like nothing but itself."""
    return stack(
        np.maximum(blob(0.35, 0.4, 17), blob(0.62, 0.55, 11)), blob(0.3, 0.36, 6), blob(0.72, 0.83, 7, rows=0.7)
    )


def look(fields: Fields, repeat: Repeat, *, size_px: int = 512, dpi: int = 300) -> Specimen:
    return take_specimen(fields, PALETTE, repeat, size_px=size_px, dpi=dpi)


def broken(specimen: Specimen, tile: NDArray[np.uint8]) -> Specimen:
    return Specimen(
        tile=tile,
        repeat=specimen.repeat,
        size_px=specimen.size_px,
        dpi=specimen.dpi,
        fields=specimen.fields,
        palette=specimen.palette,
    )


def is_marked(checked: Checked) -> bool:
    return checked.picture is not None and bool((checked.picture == MARK).all(axis=-1).any())


def left_right_wrap_is_whole(unit: NDArray[np.uint8]) -> bool:
    """The test that knows no lattice: does the right edge of the unit go on at the left edge, at the same height?"""
    step = np.abs(unit[:, 0].astype(int) - unit[:, -1]).mean()
    inside = np.abs(np.diff(unit.astype(int), axis=1)).mean(axis=(0, 2))
    return bool(step <= 1.5 * inside.max())


def test_a_half_drop_that_is_right_passes_where_a_left_right_test_would_call_it_wrong() -> None:
    crossing = stack(blob(0.02, 0.3, 14))  # lies on the border: its other half hangs half a unit lower
    specimen = look(crossing, HALF_DROP)
    unit = specimen.tile[:256, :256]
    assert not left_right_wrap_is_whole(unit)
    [checked] = check_pattern(specimen, SEAMS, retried=0)
    assert checked.finding.verdict == "pass"
    assert checked.picture is None


def test_a_broken_half_drop_is_caught_and_its_borders_are_marked() -> None:
    right = look(lopsided(), HALF_DROP)
    camouflage = look(stack(blob(0.0, 0.5, 20), blob(0.5, 0.0, 15)), HALF_DROP)
    for specimen in (right, camouflage):
        assert check_pattern(specimen, SEAMS, retried=0)[0].finding.verdict == "pass"
    column = camouflage.tile[:, :256]
    hung_wrong = broken(camouflage, np.concatenate([column, np.roll(column, 77, axis=0)], axis=1))
    [checked] = check_pattern(hung_wrong, SEAMS, retried=0)
    assert checked.finding.verdict == "fail"
    assert checked.finding.number > 1.5
    assert is_marked(checked)


def test_the_seam_gate_looks_at_files_and_plates_too() -> None:
    fields = stack(blob(0.02, 0.3, 14), blob(0.5, 0.02, 9))
    specimen = look(fields, HALF_DROP)
    tile, planes = compose_tile(fields, PALETTE, HALF_DROP, 512), compose_layers(fields, HALF_DROP, 512)
    assert check_raster("master.png", tile, specimen, SEAMS, retried=0)[0].finding.verdict == "pass"
    torn = np.concatenate([tile[:, :256], np.roll(tile[:, 256:], 60, axis=0)], axis=1)
    assert is_marked(check_raster("master.png", torn, specimen, SEAMS, retried=0)[0])
    assert check_plate("plate-1", planes[0], fields[0], specimen, SEAMS, retried=0)[0].finding.verdict == "pass"
    torn_plate = np.concatenate([planes[0][:, :256], np.roll(planes[0][:, 256:], 60, axis=0)], axis=1)
    [checked] = check_plate("plate-1", torn_plate, fields[0], specimen, SEAMS, retried=0)
    assert (checked.finding.stage, checked.finding.verdict) == ("plate-1", "fail")


@pytest.mark.parametrize(
    "repeat",
    [
        STRAIGHT,
        HALF_DROP,
        Repeat(layout="brick", units=4),
        Repeat(layout="drop", drop="1/3", units=3),
        Repeat(layout="mirror", units=2),
    ],
    ids=lambda repeat: str(repeat.layout),
)
def test_a_pattern_is_not_blamed_for_the_repeat_that_its_lattice_implies(repeat: Repeat) -> None:
    assert measure_repeats(look(lopsided(), repeat)).correlation < 0.8
    for stripes in (8 - np.abs(U - 0.5) * GRID_PX, 8 - np.abs(V - 0.5) * GRID_PX):
        assert measure_repeats(look(stack(stripes), repeat)).correlation < 0.9, "stripes go on, they do not repeat"


def test_a_unit_that_repeats_inside_and_columns_that_do_not_hang_are_found() -> None:
    fours = stack(np.max([blob(u, v, 9) for u in (0.25, 0.75) for v in (0.25, 0.75)], axis=0))
    inside = measure_repeats(look(fours, STRAIGHT))
    assert inside.correlation > 0.99
    assert {inside.across % 0.5, inside.down % 0.5} == {0.0}
    dropped = look(lopsided(), HALF_DROP)
    column = dropped.tile[:, :256]
    upright = broken(dropped, np.concatenate([column, column], axis=1))
    between = measure_repeats(upright)
    assert between.correlation > 0.99
    assert (between.across, between.down) == (1.0, 0.0)
    [checked] = check_pattern(upright, Gates(repeats=AtMost(max=0.95)), retried=0)
    assert "1.00 units across and 0.00 down" in checked.finding.says
    assert is_marked(checked)


def test_a_blank_tile_and_pure_noise_are_told_from_a_pattern() -> None:
    specimen = look(lopsided(), STRAIGHT)
    blank = np.full_like(specimen.tile, 200)
    noise = np.random.default_rng(1).integers(0, 256, specimen.tile.shape, dtype=np.uint8)
    assert measure_ink(blank) == 0
    assert measure_ink(specimen.tile) > 0.2
    assert measure_noise(blank) == 0
    assert measure_noise(specimen.tile) < 0.05
    assert measure_noise(noise) > 0.9
    gates = Gates(blank=AtLeast(min=0.02, retry_with_new_seed=1), noise=AtMost(max=0.5))
    assert [each.finding.verdict for each in check_pattern(specimen, gates, retried=0)] == ["pass", "pass"]
    assert [each.finding.verdict for each in check_pattern(broken(specimen, blank), gates, retried=0)] == [
        "retry",
        "pass",
    ]
    assert [each.finding.verdict for each in check_pattern(broken(specimen, noise), gates, retried=0)] == [
        "pass",
        "fail",
    ]


def test_colours_are_counted_without_the_blends_of_edges() -> None:
    tile = look(lopsided(), HALF_DROP).tile
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) > 30
    assert count_colours(tile) == 4
    ramp = np.repeat(np.linspace(0, 255, 256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    photo = np.clip(ramp + np.random.default_rng(1).normal(0, 20, ramp.shape), 0, 255).astype(np.uint8)
    assert count_colours(photo) > 30


@pytest.mark.parametrize(("width", "is_gap"), [(3, False), (4, True)])
def test_thin_lines_and_gaps_are_found_in_mm(width: int, is_gap: bool) -> None:
    # Of a tile of 2 units and 256 px a unit has 128: a grid pixel is 2 file pixels, of 0.1 mm each.
    line = width / 2 / 2 - np.abs(U - 0.5) * GRID_PX
    specimen = look(stack(-line if is_gap else line), STRAIGHT, size_px=256, dpi=254)
    found = measure_stroke(specimen, 0.6)
    assert found.is_gap == is_gap
    assert abs(found.width_px - width) <= 1
    [checked] = check_pattern(specimen, Gates(stroke=AtLeast(min=0.6)), retried=0)
    assert checked.finding.verdict == "fail"
    assert ("gap" if is_gap else "line") in checked.finding.says
    assert is_marked(checked)


def test_leaves_with_slender_tips_and_bold_shapes_have_no_thin_lines() -> None:
    lens = np.minimum(blob(0.5, 0.2, 26), blob(0.5, 0.8, 26))  # two arcs that meet in a tip on either side
    for fields in (stack(lens), lopsided()):
        specimen = look(fields, HALF_DROP, size_px=1024, dpi=254)
        [checked] = check_pattern(specimen, Gates(stroke=AtLeast(min=0.5)), retried=0)
        assert checked.finding.verdict == "pass", checked.finding.says


def test_a_file_is_measured_by_what_it_says_itself() -> None:
    specimen = look(lopsided(), STRAIGHT)
    data = encode_picture(specimen.tile, describe_provenance(PatternSpec(prompt="x", model_digest="0" * 64)))
    measure = read_measure(data)
    assert (measure.width_px, measure.height_px, round(measure.dpi)) == (512, 512, 300)
    gates = Gates(size=AtMost(max=0.05))
    [right] = check_file("master.png", measure, gates, size_px=512, dpi=300)
    assert right.finding.verdict == "pass"
    lost = io.BytesIO()
    Image.open(io.BytesIO(data)).save(lost, "PNG", dpi=(72, 72))
    [wrong] = check_file("master.png", read_measure(lost.getvalue()), gates, size_px=512, dpi=300)
    assert wrong.finding.verdict == "fail"
    assert wrong.finding.number > 100
    with pytest.raises(ValueError, match="not a picture"):
        read_measure(b"not a picture at all")


def test_a_copy_is_known_wherever_it_begins_and_in_other_colours() -> None:
    cell = look(lopsided(), HALF_DROP).cell
    moved = np.roll(cell, (90, 31), axis=(0, 1))
    recoloured = 255 - cell
    other = look(stack(blob(0.5, 0.5, 21, rows=0.5), blob(0.1, 0.1, 8)), HALF_DROP).cell
    first = take_print(cell)
    for copy in (moved, recoloured):
        printed = take_print(copy)
        assert print_distance(first, printed) < 0.02
        assert sketch_distance(sketch_of(first), sketch_of(printed)) <= 5
    assert print_distance(first, take_print(other)) > 0.3
    assert print_distance(first, take_print(np.full_like(cell, 9))) == 1
