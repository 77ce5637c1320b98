"""A unit meets its true neighbours: motifs stand as drawn, all-over fields are slanted only where they must be."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS
from halfdrop.contracts.repeats import Axis, Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.house.kinds.catalogue import FREE_FORMS, draw
from halfdrop.models.house.kinds.drawing import Canvas, seeded_words
from halfdrop.models.lattice import extend_unit, fit_to_lattice

HALF_DROP = Repeat(layout="half-drop", units=2)
BRICK = Repeat(layout="brick", units=2)


def test_a_motif_with_a_margin_stands_as_drawn(units: dict[str, Fields], repeat: Repeat) -> None:
    assert fit_to_lattice(units["heart"], repeat).fields is units["heart"]


def test_stripes_along_the_shift_stand_and_stripes_across_it_slant(units: dict[str, Fields]) -> None:
    upright, level = units["upright stripes"], units["level stripes"]
    assert fit_to_lattice(upright, HALF_DROP).fields is upright
    assert fit_to_lattice(level, BRICK).fields is level
    assert fit_to_lattice(level, HALF_DROP).fields is not level
    assert fit_to_lattice(upright, BRICK).fields is not upright


def test_a_shift_that_is_a_symmetry_of_the_field_changes_nothing() -> None:
    places = (np.arange(GRID_PX) + 8) // 16 % 2  # no edge on the border
    checks = np.where(places[:, None] ^ places[None, :], 1, -1).astype(np.float32)
    fields = np.concatenate([checks[None], np.full((LAYERS - 1, GRID_PX, GRID_PX), -1, np.float32)])
    assert fit_to_lattice(fields, HALF_DROP).fields is fields


@pytest.mark.parametrize("drop", ["1/3", "1/4", "2/5", "3/8"])
@pytest.mark.parametrize("kind", ["plaid", "gingham", "argyle", "houndstooth", "ogee", "scallops", "trellis", "waves"])
def test_ruled_kinds_are_laid_straight_under_any_other_drop_and_never_slanted(kind: str, drop: str) -> None:
    plates, _ = draw(kind, 1, torch.Generator().manual_seed(1), seeded_words(1))
    fields = plates[0].numpy()
    fitted = fit_to_lattice(fields, Repeat(layout="drop", drop=drop, units=8).normalise())
    assert fitted.fields is fields
    assert fitted.repeat.shift in (0, Fraction(drop))


@pytest.mark.parametrize("drop", ["1/2", "1/3", "3/8"])
@pytest.mark.parametrize("axis", ["columns", "rows"])
@pytest.mark.parametrize("kind", sorted(FREE_FORMS))
def test_free_forms_drawn_on_their_lattice_stand_and_those_of_another_are_sheared(
    kind: str, axis: Axis, drop: str
) -> None:
    repeat = Repeat(layout="drop", drop=drop, axis=axis, units=8).normalise()

    def drawn(canvas: Canvas) -> Fields:
        return draw(kind, 1, torch.Generator().manual_seed(3), seeded_words(3), canvas=canvas)[0][0].numpy()

    own, straight = drawn(Canvas(drop=float(Fraction(drop)), axis=axis)), drawn(Canvas())
    assert fit_to_lattice(own, repeat).fields is own
    assert fit_to_lattice(straight, repeat).fields is not straight


def test_blocks_that_end_at_the_border_are_staggered_not_slanted() -> None:
    places = np.arange(GRID_PX) // 32 % 2
    checks = np.where(places[:, None] ^ places[None, :], 1, -1).astype(np.float32)
    fields = checks[None]
    assert fit_to_lattice(fields, HALF_DROP).fields is fields


@pytest.mark.parametrize("seed", range(5))
def test_checks_that_the_model_drew_unevenly_are_not_slanted(seed: int) -> None:
    """Edges half a grid pixel off, on the border too: as real output of the model has them."""
    places = np.arange(GRID_PX) + 0.5
    edges = 8 - np.abs(places % 32 - 16)
    checks = np.minimum(np.abs(edges[None, :]), np.abs(edges[:, None])) * np.sign(edges[None, :] * edges[:, None])
    cycles = np.fft.fftfreq(GRID_PX) * GRID_PX
    low = np.exp(-(cycles[:, None] ** 2 + cycles[None, :] ** 2) / 100)
    wobble = np.fft.ifft2(np.fft.fft2(np.random.default_rng(seed).standard_normal((GRID_PX, GRID_PX))) * low).real
    fields = ((checks + 0.5 * wobble / wobble.std()) / BAND_PX).astype(np.float32)[None]
    assert fit_to_lattice(fields, HALF_DROP).fields is fields
    assert fit_to_lattice(fields, BRICK).fields is fields


def test_a_motif_that_touches_one_border_is_not_slanted(units: dict[str, Fields]) -> None:
    touching = np.roll(units["dot"], 12, axis=2)
    assert touching[0, :, -1].max() > 0
    assert touching[0, :, 0].max() < 0
    assert fit_to_lattice(touching, HALF_DROP).fields is touching


def test_straight_and_mirror_never_slant(units: dict[str, Fields]) -> None:
    for layout in (Repeat(units=3), Repeat(layout="mirror", units=2)):
        assert fit_to_lattice(units["camouflage"], layout).fields is units["camouflage"]


@pytest.mark.parametrize("name", ["camouflage", "level stripes"])
def test_slanted_fields_run_on_into_the_neighbour(units: dict[str, Fields], name: str) -> None:
    """Over the border the field changes by no more than it does inside."""
    for lattice in (HALF_DROP, BRICK, Repeat(layout="drop", drop="1/3", units=3)):
        unit = extend_unit(*fit_to_lattice(units[name], lattice), 2)
        torn = extend_unit(units[name], lattice, 2)
        axis = 1 if lattice.shifted_axis == "rows" else 2
        inside = np.abs(np.diff(unit, axis=axis)).max()
        over = np.abs(np.diff(unit, axis=axis).take([1, GRID_PX + 1], axis=axis)).max()
        assert over <= 1.1 * inside
        if fit_to_lattice(units[name], lattice).fields is not units[name]:
            assert np.abs(np.diff(torn, axis=axis).take([1, GRID_PX + 1], axis=axis)).max() > 1.5 * inside


def test_neighbours_of_a_half_drop_hang_half_a_unit_lower(units: dict[str, Fields]) -> None:
    fields = units["camouflage"]
    unit = extend_unit(fields, HALF_DROP, 2)
    below = np.roll(fields, GRID_PX // 2, axis=1)
    np.testing.assert_array_equal(unit[:, 2:-2, -2:], below[:, :, :2])
    np.testing.assert_array_equal(unit[:, 2:-2, :2], below[:, :, -2:])


def test_a_mirror_reflects_at_every_border(units: dict[str, Fields]) -> None:
    unit = extend_unit(units["camouflage"], Repeat(layout="mirror", units=2), 2)
    np.testing.assert_array_equal(unit[:, :, :2], unit[:, :, 3:1:-1])
    np.testing.assert_array_equal(unit[:, -2:], unit[:, -3:-5:-1])
