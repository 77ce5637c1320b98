"""CMYK through a printer's profile, and profiles that are not fit for it. The profile is Ghostscript's own."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import PrintOptions, check_printing
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.profiles import (
    PROFILE_MAX_BYTES,
    check_profile,
    encode_cmyk_tiff,
    find_profile,
    print_colour,
)
from halfdrop.hub.printing.separations import describe_inks
from halfdrop.models.fields import Fields

GHOSTSCRIPT = Path("/usr/share/color/icc/ghostscript")
SPEC = PatternSpec(prompt="rosés", repeat=Repeat(layout="half-drop").normalise(), model_digest="sha256:0f")


@pytest.fixture(scope="module")
def profile() -> bytes:
    return (GHOSTSCRIPT / "default_cmyk.icc").read_bytes()


@pytest.fixture
def artwork(units: dict[str, Fields], palette: tuple[str, ...], profile: bytes) -> Artwork:
    return Artwork(fields=units["heart"], palette=palette, spec=SPEC, size_px=600, profile=profile)


def test_the_tile_is_printed_in_four_inks_and_looks_as_it_did(artwork: Artwork, tmp_path: Path) -> None:
    (tmp_path / "cmyk.tiff").write_bytes(encode_cmyk_tiff(artwork))
    run = subprocess.run(["tiffinfo", "cmyk.tiff"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not run.stderr
    for told in (
        "Photometric Interpretation: separated", "Samples/Pixel: 4", "ICC Profile: <present>", "Tile Width: 256",
        "AdobeDeflate", "300, 300 pixels/inch", "trainedAlgorithmicMedia",
    ):  # fmt: skip
        assert told in run.stdout, told
    # libtiff's own program takes the inks back to light, naively: hue and lightness are about right
    subprocess.run(["tiff2rgba", "cmyk.tiff", "rgba.tiff"], cwd=tmp_path, check=True)
    shown = np.asarray(Image.open(tmp_path / "rgba.tiff").convert("RGB")).astype(float)
    assert np.abs(shown - artwork.tile()).mean() < 25


def test_what_the_tile_repeats_is_turned_once_and_comes_out_alike(artwork: Artwork, tmp_path: Path) -> None:
    (tmp_path / "cmyk.tiff").write_bytes(encode_cmyk_tiff(artwork))
    cmyk = np.asarray(Image.open(tmp_path / "cmyk.tiff"))
    np.testing.assert_array_equal(cmyk, np.roll(cmyk, (150, 300), axis=(0, 1)))
    ground = np.asarray(print_colour(artwork.palette[0], artwork.profile)[0])
    np.testing.assert_allclose(cmyk[0, 0] / 2.55, ground, atol=0.3)


def test_colours_that_four_inks_cannot_reach_are_told(artwork: Artwork) -> None:
    vivid = artwork.in_colours(("#f4ead8", "#00ff40"))
    ground, green, _ = describe_inks(vivid).inks
    assert ground.cmyk_delta_e is not None
    assert green.cmyk_delta_e is not None
    assert ground.cmyk_delta_e < 1.5
    assert green.cmyk_delta_e > 5
    plain = describe_inks(replace(artwork, profile=b"")).inks
    assert {ink.cmyk_percent for ink in plain} == {None}


def torn_profiles() -> dict[str, tuple[bytes, str]]:
    whole = (GHOSTSCRIPT / "default_cmyk.icc").read_bytes()
    return {
        "cut": (whole[:-100], "bytes of a profile that says it has"),
        "hollow": (whole[:300] + bytes(len(whole) - 300), "cannot be turned through"),
        "text": (b"<html>not found</html>" * 20, "no ICC profile"),
        "empty": (b"", "got 0 bytes"),
        "light": ((GHOSTSCRIPT / "srgb.icc").read_bytes(), "got one for 'RGB'"),
    }


@pytest.mark.parametrize("name", torn_profiles())
def test_a_profile_that_is_not_whole_or_not_a_printers_is_refused_with_why(name: str, tmp_path: Path) -> None:
    data, why = torn_profiles()[name]
    (tmp_path / "mill.icc").write_bytes(data)
    with pytest.raises(PermanentError, match=why) as refused:
        find_profile(tmp_path, "mill")
    assert refused.value.code == "bad-profile"
    assert "allowed: a whole ICC profile of a printer, for CMYK" in refused.value.detail


def test_profiles_are_found_by_name_and_others_named(profile: bytes, tmp_path: Path) -> None:
    (tmp_path / "mill-a.icc").write_bytes(profile)
    (tmp_path / "mill-b.ICM").write_bytes(profile)
    assert find_profile(tmp_path, "mill-b") == profile
    with pytest.raises(PermanentError, match=r"got 'mill-c'; allowed: mill-a, mill-b"):
        find_profile(tmp_path, "mill-c")
    with pytest.raises(PermanentError, match="none is installed"):
        find_profile(None, "mill-a")
    with (tmp_path / "huge.icc").open("wb") as file:
        file.truncate(PROFILE_MAX_BYTES + 1)
    with pytest.raises(PermanentError, match=f"allowed: {PROFILE_MAX_BYTES}"):
        find_profile(tmp_path, "huge")


def test_bits_that_flipped_never_crash(profile: bytes) -> None:
    chance = np.random.default_rng(5)
    for _ in range(40):
        torn = bytearray(profile)
        for place in chance.integers(0, len(torn), 50):
            torn[place] = chance.integers(0, 256)
        try:
            check_profile(bytes(torn), "mill")
        except PermanentError as error:
            assert error.code == "bad-profile"  # noqa: PT017  either way is right; a crash is not


def test_cmyk_without_a_profile_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="the name of a profile, beside tiff-cmyk"):
        check_printing(PrintOptions(), size_px=256, formats=("tiff-cmyk",))
