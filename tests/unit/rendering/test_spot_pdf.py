"""The PDF shows the master, and other programs than ours find its inks in it."""

import subprocess
from pathlib import Path

import numpy as np
import pikepdf
import pytest
import pyvips

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.spot_pdf import trace_pdf
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_layers, compose_tile

SIZE_PX = 600


def artwork_of(fields: Fields, palette: tuple[str, ...], repeat: Repeat, size_px: int = SIZE_PX) -> Artwork:
    spec = PatternSpec(prompt="rosés", repeat=repeat.normalise(), model_digest="sha256:0f")
    return Artwork(fields=fields, palette=palette, spec=spec, size_px=size_px)


def test_poppler_sees_the_master_at_its_physical_size(
    unit: Fields, palette: tuple[str, ...], repeat: Repeat, tmp_path: Path
) -> None:
    (tmp_path / "tile.pdf").write_bytes(trace_pdf(artwork_of(unit, palette, repeat)))
    subprocess.run(["pdftoppm", "-r", "300", "-png", "tile.pdf", "page"], cwd=tmp_path, check=True)
    shown = pyvips.Image.new_from_file(str(tmp_path / "page-1.png")).numpy()[..., :3].astype(np.float64)
    error = shown - compose_tile(unit, palette, repeat, SIZE_PX)
    # Poppler's soft edges come in quarters of a pixel: upright stripes, all at one such offset, reach 31.
    assert 10 * np.log10(255**2 / max(np.square(error).mean(), 1e-9)) > 30
    assert np.abs(np.median(error, axis=(0, 1))).max() == 0  # colours come back exactly through Lab


def test_ghostscript_finds_a_plate_for_each_ink(
    units: dict[str, Fields], palette: tuple[str, ...], tmp_path: Path
) -> None:
    artwork = artwork_of(units["heart"], palette, Repeat(layout="half-drop"))
    (tmp_path / "tile.pdf").write_bytes(trace_pdf(artwork))
    command = ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=tiffsep", "-r300", "-sOutputFile=all.tif", "tile.pdf"]
    subprocess.run(command, cwd=tmp_path, check=True)
    ground, lower, upper = (f"all({name}).tif" for name in ("Ground-f4ead8", "Plate-1-c0392b", "Plate-2-1f5f8b"))
    assert {ground, lower, upper} <= {path.name for path in tmp_path.iterdir()}
    planes = compose_layers(units["heart"], artwork.spec.repeat, SIZE_PX)
    shown = 255 - pyvips.Image.new_from_file(str(tmp_path / upper)).numpy().squeeze().astype(np.float64)
    assert np.abs(shown - planes[1]).mean() < 2


@pytest.mark.parametrize("layout", ["straight", "mirror"])
def test_layers_can_be_hidden_and_the_uppermost_is_listed_first(
    units: dict[str, Fields], palette: tuple[str, ...], tmp_path: Path, layout: str
) -> None:
    (tmp_path / "tile.pdf").write_bytes(
        trace_pdf(artwork_of(units["camouflage"], palette, Repeat(layout=layout)))  # type: ignore[arg-type]
    )
    with pikepdf.open(tmp_path / "tile.pdf") as pdf:
        order = [str(group.Name) for group in pdf.Root.OCProperties.D.Order]
    assert order == ["Plate 3 #e0a526", "Plate 2 #1f5f8b", "Plate 1 #c0392b", "Ground #f4ead8"]
    found = subprocess.run(["exiftool", "tile.pdf"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "trainedAlgorithmicMedia" in found
    assert "rosés" in found


def test_a_unit_is_traced_once_and_the_bytes_are_always_the_same(
    units: dict[str, Fields], palette: tuple[str, ...]
) -> None:
    artwork = artwork_of(units["heart"], palette, Repeat(layout="brick", units=16), 4096)
    first = trace_pdf(artwork)
    assert len(first) < 20_000
    assert trace_pdf(artwork) == first
