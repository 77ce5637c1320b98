"""The SVG shows what the master shows, and stays small and well-formed."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
import pyvips

from halfdrop.contracts.plates import GRID_PX
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_tile
from halfdrop.models.vector import trace_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("size_px", [700, 1024])
def test_an_svg_shows_the_master(unit: Fields, palette: tuple[str, ...], repeat: Repeat, size_px: int) -> None:
    drawn = pyvips.Image.svgload_buffer(trace_svg(unit, palette, repeat, size_px).encode()).flatten().numpy()[..., :3]
    error = drawn.astype(np.float64) - compose_tile(unit, palette, repeat, size_px)
    rims = np.concatenate([error[:4], error[-4:], error[:, :4].swapaxes(0, 1), error[:, -4:].swapaxes(0, 1)])
    assert 10 * np.log10(255**2 / max(np.square(error).mean(), 1e-9)) > 34
    assert 10 * np.log10(255**2 / max(np.square(rims).mean(), 1e-9)) > 30


def test_a_layer_that_covers_everything_leaves_no_hairlines(palette: tuple[str, ...], repeat: Repeat) -> None:
    full = np.full((4, GRID_PX, GRID_PX), -1, np.float32)
    full[0] = 1
    drawn = pyvips.Image.svgload_buffer(trace_svg(full, palette, repeat, 333).encode()).flatten().numpy()[..., :3]
    assert (drawn == list(bytes.fromhex(palette[1][1:]))).all()


def test_units_are_traced_once_however_many_there_are(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    svg = trace_svg(units["heart"], palette, Repeat(layout="half-drop", units=16), 4096)
    root = ET.fromstring(svg)
    assert len(root.findall(f".//{SVG}path")) == 2
    assert [group.get("id") for group in root.findall(f"./{SVG}g")] == ["layer-1", "layer-2"]
    assert len(svg) < 20_000


def test_a_title_is_escaped(units: dict[str, Fields], palette: tuple[str, ...]) -> None:
    svg = trace_svg(units["dot"], palette, Repeat(), 256, title="<dots> & more")
    assert ET.fromstring(svg).findtext(f"{SVG}title") == "<dots> & more"
