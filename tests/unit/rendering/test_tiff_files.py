"""TIFFs as libtiff and its tools read them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.tiff_files import encode_indexed_tiff, encode_separated_tiff, encode_tiff
from halfdrop.hub.printing.tiff_writer import SEPARATED, write_tiff
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_tile

SIZE_PX = 600  # no multiple of a tile: the rim must be cut off again
SPEC = PatternSpec(prompt="rosés", repeat=Repeat(layout="half-drop").normalise(), model_digest="sha256:0f")


@pytest.fixture
def heart(units: dict[str, Fields]) -> Fields:
    return units["heart"]


def artwork_of(fields: Fields, palette: tuple[str, ...], size_px: int = SIZE_PX) -> Artwork:
    return Artwork(fields=fields, palette=palette, spec=SPEC, size_px=size_px)


def info(path: Path) -> str:
    done = subprocess.run(["tiffinfo", path.name], cwd=path.parent, check=True, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout


def test_the_master_keeps_its_pixels_profile_size_and_provenance(
    heart: Fields, palette: tuple[str, ...], tmp_path: Path
) -> None:
    tile = compose_tile(heart, palette, SPEC.repeat, SIZE_PX)
    as_long = PrintOptions(repeat_mm=SIZE_PX * 25.4 / 360)
    artwork = replace(artwork_of(heart, palette), options=as_long)
    (tmp_path / "master.tiff").write_bytes(encode_tiff(artwork))
    image = Image.open(tmp_path / "master.tiff")
    assert (np.asarray(image) == tile).all()
    assert image.info["dpi"] == pytest.approx((360, 360), abs=0.01)
    assert image.info["icc_profile"]
    found = info(tmp_path / "master.tiff")
    assert "Tile Width: 256 Tile Length: 256" in found
    assert "AdobeDeflate" in found
    assert "trainedAlgorithmicMedia" in found


def test_separations_are_inks_with_names_in_the_order_of_printing(
    heart: Fields, palette: tuple[str, ...], tmp_path: Path
) -> None:
    data = encode_separated_tiff(artwork_of(heart, palette))
    (tmp_path / "inks.tiff").write_bytes(data)
    found = info(tmp_path / "inks.tiff")
    assert "Photometric Interpretation: separated" in found
    assert "Ink Names: Plate 1 #c0392b, Plate 2 #1f5f8b" in found
    assert "NumberOfInks: 2" in found
    assert "Resolution: 300, 300 pixels/inch" in found
    assert encode_separated_tiff(artwork_of(heart, palette)) == data


def test_an_indexed_file_has_no_soft_edges(heart: Fields, palette: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "indexed.tiff").write_bytes(encode_indexed_tiff(artwork_of(heart, palette)))
    image = Image.open(tmp_path / "indexed.tiff")
    assert image.mode == "P"
    colours = {tuple(colour) for colour in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}
    assert colours == {tuple(bytes.fromhex(colour[1:])) for colour in palette[:3]}
    error = np.asarray(image.convert("RGB")).astype(float) - compose_tile(heart, palette, SPEC.repeat, SIZE_PX)
    assert (np.abs(error).max(axis=-1) > 0).mean() < 0.02


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_any_number_of_inks_comes_back_as_it_was(samples: int, tmp_path: Path) -> None:
    data = np.random.default_rng(7).integers(0, 256, (300, 513, samples), np.uint8)
    (tmp_path / "noise.tiff").write_bytes(write_tiff(data, photometric=SEPARATED, dpi=300, tags={332: 2, 334: samples}))
    back = pyvips.Image.new_from_file(str(tmp_path / "noise.tiff")).numpy().reshape(data.shape)
    assert (back == data).all()
    assert "300, 300" in info(tmp_path / "noise.tiff")


def test_a_pattern_without_ink_is_its_ground(palette: tuple[str, ...], tmp_path: Path) -> None:
    bare = artwork_of(np.full((4, 64, 64), -1, np.float32), palette, 64)
    (tmp_path / "indexed.tiff").write_bytes(encode_indexed_tiff(bare))
    assert np.asarray(Image.open(tmp_path / "indexed.tiff")).max() == 0
    (tmp_path / "inks.tiff").write_bytes(encode_separated_tiff(bare))
    assert "Ink Names: Ground #f4ead8" in info(tmp_path / "inks.tiff")
