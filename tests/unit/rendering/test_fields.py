"""Fields survive the way into plates and back, and hygiene removes what cannot be printed and nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, SAMPLE_SCALE, decode_plates, encode_plates
from halfdrop.models.fields import SPECK_SAMPLES, Fields, choose_palette, decode_fields, fields_to_plates, tidy_fields


def one_layer(distance: NDArray[np.float64]) -> Fields:
    fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
    fields[0] = np.clip(distance / BAND_PX, -1, 1)
    return fields


def disc(radius_px: float, across: float = 32, down: float = 32) -> NDArray[np.float64]:
    places = np.arange(GRID_PX) + 0.5
    x = (places - across + 32) % GRID_PX - 32
    y = (places - down + 32) % GRID_PX - 32
    return np.asarray(radius_px - np.hypot(x[None, :], y[:, None]))


def cover(fields: Fields) -> Fields:
    """Return each sample's coverage, 0 to 1, when a sample is a pixel."""
    return np.asarray(np.clip(0.5 + BAND_PX * fields, 0, 1))


def test_plates_hold_fields_to_half_a_step(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    for fields in units.values():
        plates = fields_to_plates(fields, palette, pattern_key="0" * 32, model_digest="d")
        back = decode_fields(decode_plates(encode_plates(plates)))
        assert back.dtype == np.float32
        assert np.abs(back - fields).max() <= 0.51 / SAMPLE_SCALE


def test_plates_are_little_endian_rows_from_the_top(palette: tuple[str, ...]) -> None:
    fields = np.zeros((LAYERS, GRID_PX, GRID_PX), np.float32)
    fields[0, 0, 1] = 1
    plates = fields_to_plates(fields, palette, pattern_key="0" * 32, model_digest="d")
    assert plates.fields[:4] == b"\x00\x00\xff\x7f"


def test_values_beyond_the_band_are_clamped(palette: tuple[str, ...]) -> None:
    fields = np.full((LAYERS, GRID_PX, GRID_PX), 3.0, np.float32)
    plates = fields_to_plates(fields, palette, pattern_key="0" * 32, model_digest="d")
    assert (decode_fields(plates) == 1).all()


def test_plates_with_too_few_colours_are_refused() -> None:
    fields = np.zeros((LAYERS, GRID_PX, GRID_PX), np.float32)
    with pytest.raises(PermanentError, match="3 colours"):
        fields_to_plates(fields, ("#000000",) * 3, pattern_key="0" * 32, model_digest="d")


def test_a_users_colours_come_first_and_exactly() -> None:
    drawn = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0, 0], [0, 0.2, 0], [2, -1, 0]], np.float32)
    assert choose_palette(drawn, ("#123456",)) == ("#123456", "#ffffff", "#800000", "#003300", "#ff0000")
    assert choose_palette(drawn, ()) == ("#000000", "#ffffff", "#800000", "#003300", "#ff0000")


def test_exact_fields_are_left_alone(unit: Fields) -> None:
    tidy = tidy_fields(unit)
    assert np.abs(cover(tidy) - cover(unit)).mean() < 0.01
    assert np.abs(cover(tidy_fields(tidy)) - cover(tidy)).mean() < 0.005


def test_soft_edges_become_crisp_where_they_were() -> None:
    exact = one_layer(disc(20))
    tidy = tidy_fields(np.float32(0.4) * exact)
    near = np.abs(exact[0]) < 0.25
    assert np.abs(tidy[0][near] - exact[0][near]).max() < 0.15 / BAND_PX
    assert ((tidy > 0) == (exact > 0)).all()


@pytest.mark.parametrize("corner", [(32, 32), (0, 0), (0, 20), (41, 64)])
def test_specks_vanish_also_across_the_unit_s_border(corner: tuple[float, float]) -> None:
    speck = one_layer(disc(1.1, *corner))
    assert 0 < (speck[0] > 0).sum() < SPECK_SAMPLES
    assert (tidy_fields(speck) < 0).all()


def test_pin_holes_close() -> None:
    pierced = one_layer(np.minimum(disc(24), -disc(1.1, 30, 30)))
    tidy = tidy_fields(pierced)
    assert (tidy[0] > 0).sum() == (one_layer(disc(24))[0] > 0).sum()


def test_small_dots_and_thin_lines_stay() -> None:
    places = np.arange(GRID_PX) + 0.5
    diagonal = 0.6 - np.abs((places[None, :] - places[:, None] + 32) % GRID_PX - 32) / np.sqrt(2)
    for drawn in (one_layer(disc(1.8)), one_layer(diagonal)):
        assert ((tidy_fields(drawn) > 0) == (drawn > 0)).all()


def test_only_the_speck_goes_when_a_speck_lies_beside_a_motif() -> None:
    motif = one_layer(np.maximum(disc(12, 24, 24), disc(1.1, 50, 50)))
    assert ((tidy_fields(motif) > 0) == (one_layer(disc(12, 24, 24)) > 0)).all()
