"""Bodies that are wrong are refused with the member's name, what was got and what is allowed."""

from typing import Any

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.printing import PrintOptions
from halfdrop.edge.requests import (
    MalformedBody,
    PredictionRequest,
    PreviewRequest,
    check_preview_size,
    decode_body,
)
from halfdrop.edge.template_orders import fit_order
from halfdrop.models.template_shelf import TemplateShelf


@pytest.mark.parametrize(
    ("body", "field", "got", "allowed"),
    [
        (b"{}", "prompt", "nothing", "a value; it is required"),
        (b"[]", "body", "[]", "an object"),
        (b'"text"', "body", "text", "an object"),
        (b'{"prompt": 3}', "prompt", "3", "text"),
        (b'{"prompt": null}', "prompt", "None", "text"),
        (b'{"prompt": "a", "seed": 1.5}', "seed", "1.5", "a whole number"),
        (b'{"prompt": "a", "seed": "1"}', "seed", "1", "a whole number"),
        (b'{"prompt": "a", "seed": true}', "seed", "True", "a whole number"),
        (b'{"prompt": "a", "palette": ["#112233", 4]}', "palette[1]", "4", "text"),
        (b'{"prompt": "a", "palette": "#112233"}', "palette", "#112233", "a list"),
        (b'{"prompt": "a", "repeat": 4}', "repeat", "4", "an object or nothing"),
        (b'{"prompt": "a", "repeat": {"units": "4"}}', "repeat.units", "4", "a whole number"),
        (b'{"prompt": "a", "repeat": {"axis": "x"}}', "repeat.axis", "x", "'columns' or 'rows'"),
        (b'{"prompt": "a", "repeat": {"unit": 4}}', "repeat.unit", "an unknown member",
         "only layout, drop, axis, units"),
    ],
)  # fmt: skip
def test_the_first_wrong_member_is_named(body: bytes, field: str, got: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_body(body, PreviewRequest)
    assert (caught.value.field, caught.value.got, caught.value.allowed) == (field, got, allowed)


@pytest.mark.parametrize(
    ("written", "read"), [("7", 7), ("7.0", 7), ("70e-1", 7), ("-0.0", 0), ("4294967295.0", 2**32 - 1)]
)
def test_a_whole_number_may_be_written_with_a_point(written: str, read: int) -> None:
    body = decode_body(b'{"prompt": "a", "seed": %b}' % written.encode(), PreviewRequest)
    assert body.seed == read


@pytest.mark.parametrize("written", ["1e16", "1e999", "-1e999", "0.5"])
def test_a_number_that_is_not_certainly_whole_is_none(written: str) -> None:
    with pytest.raises(InvalidInput):
        decode_body(b'{"prompt": "a", "seed": %b}' % written.encode(), PreviewRequest)


def test_colourways_and_what_the_mill_asks_for_are_read_and_unset_where_there_are_none() -> None:
    asked = b"""{"input": {"prompt": "a", "formats": ["inks"], "colourways": [["#FFFFFF", "#000000"]],
        "printing": {"repeat_mm": 320, "mill_repeats_mm": [640], "inks_max": 4}}}"""
    body = decode_body(asked, PredictionRequest).input
    fit_order(TemplateShelf([]), body)
    assert body.chosen_colourways() == (("#ffffff", "#000000"),)
    assert body.chosen_printing(4096) == PrintOptions(repeat_mm=320, mill_repeats_mm=(640,), inks_max=4)
    plain = decode_body(b'{"input": {"prompt": "a"}}', PredictionRequest).input
    assert (plain.chosen_colourways(), plain.chosen_printing(4096)) == (msgspec.UNSET, msgspec.UNSET)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"size_px": 100_000}, "size_px: got '100000'; allowed: 64 to 8192"),
        ({"palette": ["#111111"] * 3, "printing": {"inks_max": 2}}, "palette: got '3'; allowed: up to 2 colours"),
        ({"printing": {"repeat_mm": 650, "mill_repeats_mm": [640]}}, "the nearest is 640 mm"),
        ({"colourways": [["#fff"]]}, r"colourways\[0\]\[0\]: got '#fff'; allowed: a colour such as"),
        ({"formats": ["tiff-cmyk"]}, "printing.profile: got 'nothing'"),
    ],
)
def test_files_that_no_press_prints_are_refused_before_anything_is_drawn(members: dict[str, Any], said: str) -> None:
    data = msgspec.json.encode({"input": {"prompt": "a", **members}})
    with pytest.raises(InvalidInput, match=said):
        fit_order(TemplateShelf([]), decode_body(data, PredictionRequest).input)


def test_an_unknown_member_is_told_which_ones_are_known() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_body(b'{"input": {"prompt": "a", "format": "png"}}', PredictionRequest)
    assert caught.value.field == "input.format"
    assert "size_px" in caught.value.allowed


def test_a_long_wrong_value_is_not_echoed_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_body(b'{"prompt": "a", "seed": "' + b"9" * 5_000 + b'"}', PreviewRequest)
    assert len(caught.value.got) < 120


@pytest.mark.parametrize("body", [b"", b"{", b'{"prompt": "a"', b"\xff\xfe", b"nonsense", b"[" * 50_000, b"NaN"])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_body(body, PreviewRequest)


def test_a_whole_request_is_read() -> None:
    body = (
        b'{"prompt": "red dots", "repeat": {"layout": "half-drop", "units": 6}, "palette": ["#112233"], "size_px": 512}'
    )
    request = decode_body(body, PreviewRequest)
    assert request.repeat is not None
    assert (request.prompt, request.repeat.units, request.palette, request.size_px) == (
        "red dots",
        6,
        ("#112233",),
        512,
    )


def test_previews_come_in_four_sizes() -> None:
    assert check_preview_size(384) == 384
    with pytest.raises(InvalidInput) as caught:
        check_preview_size(300)
    assert caught.value.allowed == "128, 256, 384, 512"
