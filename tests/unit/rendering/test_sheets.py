"""Proofs as other programs see them: pages with lettering that can be searched, pictures with what they show."""

import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.canvas import plain, shorten, text_width
from halfdrop.hub.printing.sheets import encode_drawing, encode_proof_pdf, encode_sheet
from halfdrop.models.fields import Fields


@pytest.fixture(scope="module")
def artwork(units: dict[str, Fields], palette: tuple[str, ...]) -> Artwork:
    spec = PatternSpec(
        prompt="rosés (two) \\ on — cream, " + "very " * 60 + "long",
        repeat=Repeat(layout="half-drop", units=4).normalise(),
        model_digest="sha256:0f",
    )
    options = PrintOptions(repeat_mm=320, mill_repeats_mm=(640, 913), min_feature_mm=5)
    return Artwork(
        fields=units["camouflage"], palette=palette, spec=spec, size_px=2048, options=options, asked=palette[:1]
    )


def test_the_pages_say_inks_coverage_and_dimensions(artwork: Artwork, tmp_path: Path) -> None:
    data = encode_proof_pdf(artwork)
    (tmp_path / "proof.pdf").write_bytes(data)
    text = subprocess.run(
        ["pdftotext", "-layout", "proof.pdf", "-"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    for said in (
        "Proof, 3 x 3 tiles", "Separations", "roses (two) \\ on - cream", "1 Ground #f4ead8", "Lab 93.1 1.3 10.0",
        "15.3 % seen", "dE2000 0.00", "the mill prints 5 mm", "320.0 mm (2048 px)", "80.0 mm", "40.0 mm",
        "640 mm takes 2", "162.6 px to the inch",
    ):  # fmt: skip
        assert said in " ".join(text.split()), said
    assert "913 mm takes" not in text
    fonts = subprocess.run(["pdffonts", "proof.pdf"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert fonts.splitlines()[2].split()[:4] == ["Aileron", "TrueType", "WinAnsi", "yes"]
    command = ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=png16m", "-r72", "-sOutputFile=p%d.png", "proof.pdf"]
    assert not subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stderr
    assert len(list(tmp_path.glob("p?.png"))) == 3
    assert encode_proof_pdf(artwork) == data


def test_the_sheet_shows_each_ink_in_its_colour_and_where_it_is_seen(artwork: Artwork) -> None:
    image = Image.open(BytesIO(encode_sheet(artwork)))
    assert image.size == (1240, 1754)
    assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    shown = np.asarray(image).reshape(-1, 3)
    for colour in artwork.palette[:4]:
        levels = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
        assert (shown == levels).all(axis=-1).sum() > 20_000, colour
    assert encode_sheet(artwork) == encode_sheet(artwork)


def test_the_drawing_outlines_units_as_they_lie(artwork: Artwork) -> None:
    shown = np.asarray(Image.open(BytesIO(encode_drawing(artwork)))).astype(int)
    scale = 150 / 25.4
    left, top, unit = (210 - 140) / 2 * scale, 62 * scale, 140 / 4 * scale
    for column, start in ((0, 1.0), (1, 0.5)):  # half a unit lower in the second column
        at, middle = round(top + start * unit), round(left + (column + 0.5) * unit)
        crossed = shown[at - 3 : at + 4, middle - 8 : middle + 8].mean(axis=(1, 2))
        assert crossed.max() > 205, (column, crossed)  # white, with a dark core
        assert crossed[crossed.argmax() - 2 : crossed.argmax() + 3].min() < 190, (column, crossed)


def test_lettering_is_what_the_typeface_has() -> None:
    assert plain("Größe 3×3 — “rosé”… 菊") == 'Grosse 3x3 - "rose"... ?'
    assert text_width("iii", 3) < text_width("WWW", 3)
    short = shorten("long " * 100, 3, 50)
    assert short.endswith("...")
    assert text_width(short, 3) <= 50
