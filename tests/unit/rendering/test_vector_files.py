"""Drawings tile after tracing, whatever traced them; the same by other programs than the one that checks them."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.image_tracing import Tracer, trace_picture
from halfdrop.hub.printing.quantising import drop_picture_specks, quantise, smooth_edges
from halfdrop.hub.printing.svg_files import encode_knockout_svg, encode_svg
from halfdrop.hub.printing.vector_check import JOIN_MAX, check_tiling, join_ratio
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_tile
from halfdrop.models.vector import trace_svg

HALF = Repeat(layout="half-drop").normalise()
SIZE_PX = 256


def levels_of(palette: tuple[str, ...]) -> np.ndarray:
    return np.array([list(bytes.fromhex(colour[1:])) for colour in palette], np.uint8)


@pytest.mark.parametrize("is_knocked_out", [False, True])
def test_drawings_of_plates_join_where_tiles_meet(
    units: dict[str, Fields], palette: tuple[str, ...], repeat: Repeat, is_knocked_out: bool
) -> None:
    fields = units["camouflage"]
    svg = trace_svg(fields, palette, repeat, 4096, is_knocked_out=is_knocked_out).encode()
    assert join_ratio(svg, compose_tile(fields, palette, repeat, SIZE_PX)) < 1.1


@pytest.mark.parametrize(
    ("torn", "by"),
    [
        (r'viewBox="0 0 256', 'viewBox="-0.7 0 256'),
        (r'<rect id="ground" width="\d+"', '<rect id="ground" width="255.2"'),
        (r'<use xlink:href="#layer-1-line" x="0" y="0"/>', ""),
    ],
)
def test_a_drawing_that_is_torn_at_its_joins_is_refused(
    units: dict[str, Fields], palette: tuple[str, ...], torn: str, by: str
) -> None:
    repeat = Repeat(units=2)
    tile = compose_tile(units["camouflage"], palette, repeat, SIZE_PX)
    whole = trace_svg(units["camouflage"], palette, repeat, SIZE_PX)
    broken, changes = re.subn(torn, by, whole)
    assert changes == 1
    check_tiling(whole.encode(), tile)
    if "layer-1" in torn:  # a whole column of units is gone: everywhere, not at joins, and not for this check to find
        assert join_ratio(broken.encode(), tile) < JOIN_MAX
    else:
        with pytest.raises(PermanentError, match="where tiles meet it departs"):
            check_tiling(broken.encode(), tile)


def test_what_is_no_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match="no SVG with a viewBox"):
        join_ratio(b"<html></html>", np.zeros((8, 8, 3), np.uint8))


def test_knocked_out_inks_never_overlap_and_files_have_their_size(
    units: dict[str, Fields], palette: tuple[str, ...], tmp_path: Path
) -> None:
    spec = PatternSpec(prompt="rosés", repeat=HALF, model_digest="sha256:0f")
    options = PrintOptions(repeat_mm=64)
    artwork = Artwork(fields=units["heart"], palette=palette, spec=spec, size_px=SIZE_PX, options=options)
    (tmp_path / "stacked.svg").write_bytes(encode_svg(artwork))
    svg = encode_knockout_svg(artwork).decode()
    (tmp_path / "knockout.svg").write_text(svg)
    assert 'width="64mm" height="64mm"' in svg
    for name in ("stacked.svg", "knockout.svg"):
        command = ["rsvg-convert", "--width", "256", "--height", "256", name, "-o", f"{name}.png"]
        subprocess.run(command, cwd=tmp_path, check=True)
        shown = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(float)
        assert np.abs(shown - artwork.tile()).mean() < 1
    # each ink alone, half transparent: nowhere do two add up
    faint = re.sub(r'fill="#[0-9a-f]{6}"', 'fill="#000000" opacity="0.5"', svg)
    shown = pyvips.Image.svgload_buffer(faint.encode()).numpy()[..., 3]
    assert (np.abs(shown.astype(int) - 128) > 2).mean() < 0.06  # edges alone


@pytest.mark.parametrize("tracer", ["vtracer", "potrace"])
def test_a_picture_without_plates_is_traced_in_its_inks_and_tiles(
    units: dict[str, Fields], palette: tuple[str, ...], tracer: Tracer
) -> None:
    tile = compose_tile(units["camouflage"], palette, HALF, 512)
    found = quantise(tile, 6)
    indices, _ = drop_picture_specks(smooth_edges(found.indices), 4)
    svg = trace_picture(indices, found.palette, tracer=tracer, title="<rosés>").encode()
    shown = levels_of(found.palette)[indices]
    assert join_ratio(svg, shown) < 1.2
    drawn = pyvips.Image.svgload_buffer(svg).flatten().numpy()[..., :3]
    assert (np.abs(drawn.astype(int) - shown).max(axis=-1) > 40).mean() < 0.04
    assert set(re.findall(r'fill="(#[0-9a-f]{6})"', svg.decode())) <= set(found.palette)


def test_flat_artwork_keeps_its_colours_to_the_digit_and_soft_edges_are_no_inks(
    units: dict[str, Fields], palette: tuple[str, ...]
) -> None:
    tile = compose_tile(units["camouflage"], palette, HALF, 512)
    found = quantise(tile, 6)
    assert set(found.palette) == set(palette[:4])
    smooth = smooth_edges(found.indices)
    assert (np.abs(levels_of(found.palette)[smooth].astype(int) - tile).max(axis=-1) < 64).mean() > 0.98
    assert quantise(tile, 6).indices.tobytes() == found.indices.tobytes()


def test_a_noisy_painting_comes_down_to_the_inks_that_are_asked_for(
    units: dict[str, Fields], palette: tuple[str, ...]
) -> None:
    tile = compose_tile(units["heart"], palette, HALF, 256)
    noise = np.random.default_rng(3).normal(0, 3, tile.shape)
    noisy = np.clip(tile + noise, 0, 255).astype(np.uint8)
    assert len(quantise(noisy, 3).palette) == 3
    fixed = quantise(noisy, 3, palette=palette[:3])
    assert fixed.palette == palette[:3]
    assert (smooth_edges(fixed.indices) == quantise(tile, 3, palette=palette[:3]).indices).mean() > 0.98


def test_specks_of_a_picture_become_what_lies_round_them_also_across_the_border() -> None:
    indices = np.zeros((64, 64), np.uint8)
    indices[20:40, 20:40] = 1
    indices[29:31, 29:31] = 2  # in the middle of ink 1
    indices[0, 10:12] = indices[63, 10:12] = 2  # two halves of one speck, on the ground
    indices[50:58, 4:8] = 2  # large enough
    cleared, count = drop_picture_specks(indices, 5)
    assert count == 2
    assert (cleared[29:31, 29:31] == 1).all()
    assert (cleared[[0, 63], 10:12] == 0).all()
    assert (cleared == 2).sum() == 32


@pytest.mark.parametrize("inks", [0, 17])
def test_more_inks_than_any_press_has_are_refused(inks: int) -> None:
    with pytest.raises(InvalidInput, match="allowed: 1 to 16"):
        quantise(np.zeros((8, 8, 3), np.uint8), inks)


def test_one_colour_is_one_ink() -> None:
    found = quantise(np.full((16, 16, 3), 77, np.uint8), 5)
    assert found.palette == ("#4d4d4d",)
    assert not found.indices.any()
