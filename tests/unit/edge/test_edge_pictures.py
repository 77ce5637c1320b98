"""A picture shows exactly the composition of its plates, in each form, and its address says which form that is."""

import io

import numpy as np
import pytest
from PIL import Image

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.picture_files import PictureForm, read_address
from halfdrop.edge.previewer import OnnxModel, compose_file, compose_webp
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
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


KEY = "ab" * 16


@pytest.mark.parametrize(
    "form",
    [PictureForm(), PictureForm(size_px=2048), PictureForm(kind="png", size_px=1024),
     PictureForm(kind="jpeg", size_px=128, quality=1), PictureForm(kind="webp", size_px=512, quality=99)],
)  # fmt: skip
def test_an_address_says_the_form_and_is_read_back(form: PictureForm) -> None:
    path, _, query = form.address(KEY).partition("?")
    assert read_address(path.removeprefix("/p/"), dict(pair.split("=") for pair in query.split("&"))) == (KEY, form)


@pytest.mark.parametrize(
    ("name", "query", "field"),
    [
        (f"{KEY}.webp", {"px": "300"}, "px"), (f"{KEY}.webp", {"px": "٢٥٦"}, "px"),
        (f"{KEY}.webp", {"px": "-256"}, "px"), (f"{KEY}.png", {"px": "4096"}, "px"),
        (f"{KEY}.jpg", {"quality": "0"}, "quality"),
        (f"{KEY}.jpg", {"quality": "101"}, "quality"),
        (f"{KEY}.webp", {"q": "1"}, "q"),
    ],
)  # fmt: skip
def test_an_address_that_means_nothing_is_refused(name: str, query: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_address(name, query)
    assert refused.value.field == field


def test_a_png_loses_nothing_whatever_quality_is_asked_for() -> None:
    assert read_address(f"{KEY}.png", {"quality": "50"}) == (KEY, PictureForm(kind="png"))


@pytest.mark.parametrize("name", [KEY, f"{KEY}.gif", f"{KEY}.jpeg", ".", ""])
def test_other_names_are_no_pictures(name: str) -> None:
    with pytest.raises(NotFound):
        read_address(name, {})


def test_states_come_after_each_step_but_the_last_and_change_nothing() -> None:
    model = OnnxModel(open_bundle(shipped_bundle_dir()))
    for steps in (1, 2, 3):
        spec = PatternSpec(
            prompt="red dots on white", repeat=Repeat().normalise(), num_inference_steps=steps, model_digest="0" * 64
        )
        states: list[Plates] = []
        plates = model.draw(spec, KEY, on_state=states.append)
        assert plates == model.draw(spec, KEY)
        assert len(states) == steps - 1
        assert all(state.palette == plates.palette and state.fields != plates.fields for state in states)


def test_a_coarse_picture_is_a_small_one_enlarged() -> None:
    model = OnnxModel(open_bundle(shipped_bundle_dir()))
    spec = PatternSpec(prompt="red dots on white", repeat=Repeat().normalise(), model_digest="0" * 64)
    plates, form = model.draw(spec, KEY), PictureForm(kind="png", size_px=512)
    coarse = np.asarray(Image.open(io.BytesIO(compose_file(plates, spec, form, coarse_px=128))))
    small = compose_tile(decode_fields(plates), plates.palette, spec.repeat, 128)
    assert np.array_equal(coarse, small.repeat(4, axis=0).repeat(4, axis=1))
