import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from halfdrop.contracts.patterns import PatternSpec, canonical_bytes
from halfdrop.hub.files import encode_coverage, encode_picture
from halfdrop.models.provenance import TRAINED_ALGORITHMIC_MEDIA, describe_provenance

SPEC = PatternSpec(prompt="<red> & “blue” dots", model_digest="0" * 64)
XMP = describe_provenance(SPEC)


def test_a_picture_keeps_every_pixel_and_says_its_resolution_and_colour_space() -> None:
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (40, 60, 3), np.uint8)
    image = Image.open(io.BytesIO(encode_picture(pixels, XMP)))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert "sRGB".encode("utf-16-be") in image.info["icc_profile"]


def test_the_provenance_is_well_formed_and_holds_the_spec_to_the_letter() -> None:
    packet = Image.open(io.BytesIO(encode_picture(np.zeros((8, 8, 3), np.uint8), XMP))).info["XML:com.adobe.xmp"]
    texts = [element.text for element in ET.fromstring(packet).iter() if element.text and element.text.strip()]
    assert texts == [TRAINED_ALGORITHMIC_MEDIA, canonical_bytes(SPEC).decode()]


def test_coverage_is_eight_bit_grey_with_the_resolution() -> None:
    plane = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.open(io.BytesIO(encode_coverage(plane, XMP)))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), plane)
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_the_same_pixels_give_the_same_bytes() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert encode_picture(pixels, XMP) == encode_picture(pixels.copy(), XMP)
