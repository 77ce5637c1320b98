"""A preview shows exactly the composition of its plates: no pixel is lost on the way to WebP."""

import io

import numpy as np
import pytest
from PIL import Image

from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.previewer import compose_webp
from halfdrop.models.fields import decode_fields, fields_to_plates
from halfdrop.models.renderer import compose_tile

PALETTE = ("#f4efe6", "#c0392b", "#1d3557", "#2a9d8f", "#e9c46a")


@pytest.mark.parametrize("layout", ["straight", "half-drop", "brick", "mirror"])
@pytest.mark.parametrize("size_px", [128, 256])
def test_a_preview_is_its_plates_to_the_last_pixel(layout: str, size_px: int) -> None:
    places = np.arange(GRID_PX) + 0.5 - GRID_PX / 2
    distance = np.hypot(places[:, None], places[None, :] - 5)
    fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
    fields[0] = np.clip((22 - distance) / BAND_PX, -1, 1)
    plates = fields_to_plates(fields, PALETTE, pattern_key="0" * 32, model_digest="0" * 64)
    repeat = Repeat(layout=layout, units=4).normalise()
    shown = np.asarray(Image.open(io.BytesIO(compose_webp(plates, repeat, size_px))))
    assert np.array_equal(shown, compose_tile(decode_fields(plates), PALETTE, repeat, size_px))
