"""Orders by a template: what is left open is filled in, what is not allowed is refused with what is."""

import re
from typing import Any

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.printing import PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.template_check import parse_template
from halfdrop.edge.requests import PredictionInput, PreviewRequest
from halfdrop.edge.template_orders import fit_order, fit_preview
from halfdrop.models.template_shelf import TemplateShelf, open_shelf

MILL = """
name = "mill"
version = 1
title = "Mill"
description = "A roller of 640 mm."
[prompt]
frame = "{prompt} on white"
avoid = "outlines"
[order]
size_px = { min = 1000, max = 8192, default = 4535 }
layouts = ["half-drop", "straight", "drop"]
units = { min = 2, max = 5, default = 3 }
colours = { min = 2, max = 3, default = 2 }
palette = ["#FFFFFF", "#c0202f"]
[press]
kind = "screen"
dpi = 360
colours_max = 4
repeat_lengths_mm = [640, 320, 213.33]
tolerance_mm = 0.05
trap_mm = 0.3
[finishing]
steps = ["separate", "trap", "trace"]
outputs = ["plates", "pdf", "tiff-trapped", "proof"]
[gates.blank]
min = 0.02
"""
OWN = MILL.replace('name = "mill"', 'name = "own"').replace("[prompt]", 'model = "mine"\n[prompt]')
SHELF = TemplateShelf([parse_template(MILL), parse_template(OWN), *open_shelf().newest()])


def order(**members: Any) -> PredictionInput:
    return msgspec.convert({"prompt": "red dots", "template": "mill", **members}, PredictionInput)


def test_an_order_without_a_template_is_as_it_was() -> None:
    asked = PredictionInput(prompt="red dots", formats=("tiff", "pdf"))
    fitted = fit_order(SHELF, asked)
    assert (fitted.input, fitted.size_px, fitted.formats) == (asked, 4096, ("pdf", "tiff"))
    assert (fitted.printing, fitted.finishing) == (msgspec.UNSET, msgspec.UNSET)


def test_what_an_order_leaves_open_the_template_fills_in() -> None:
    fitted = fit_order(SHELF, order())
    drawn = fitted.input
    assert drawn.prompt == "red dots on white"
    assert drawn.negative_prompt == "outlines"
    assert drawn.palette == ("#FFFFFF", "#c0202f", "#FFFFFF", "#c0202f", "#FFFFFF"), "two inks for all five roles"
    assert drawn.repeat == Repeat(layout="half-drop", units=4).normalise(), "three units do not close a half-drop"
    assert fitted.size_px == 4535
    assert fitted.formats == ("pdf", "tiff-trapped")
    assert fitted.printing == PrintOptions(repeat_mm=320, trap_mm=0.3), "the roller's very length"
    assert fitted.finishing is not msgspec.UNSET
    assert (fitted.finishing.template, fitted.finishing.outputs[0]) == ("mill@1", "plates")


def test_a_template_that_names_no_model_serves_any() -> None:
    assert fit_order(SHELF, order(model="mine")).input.model == "mine"
    assert fit_order(SHELF, order(template="own")).input.model == "mine"


def test_what_an_order_asks_for_counts_within_the_limits() -> None:
    fitted = fit_order(
        SHELF,
        order(
            prompt="large red dots, third drop",
            negative_prompt="stars",
            palette=["#000000", "#ffffff", "#c0202f"],
            printing={"repeat_mm": 213.33},
            colourways=[["#ffffff", "#000000"]],
        ),
    )
    assert fitted.input.repeat == Repeat(layout="drop", drop="1/3", units=3).normalise()
    assert fitted.input.negative_prompt == "stars, outlines"
    assert fitted.input.palette == ("#000000", "#ffffff", "#c0202f", "#000000", "#ffffff")
    assert fitted.size_px == 3024
    assert fitted.colourways == (("#ffffff", "#000000", "#ffffff", "#000000", "#ffffff"),)
    given = fit_order(SHELF, order(repeat={"layout": "straight", "units": 5}, size_px=3024))
    assert (given.input.repeat, given.size_px) == (Repeat(units=5), 3024)


@pytest.mark.parametrize(
    ("members", "field", "got", "allowed"),
    [
        ({"template": "carpet"}, "template", "carpet", "block-print, .*mill.*name@version"),
        ({"template": "mill@7"}, "template", "mill@7", "mill"),
        ({"size_px": 4096}, "size_px", "4096 (289.0 mm)", r"mill@1: 3024 px \(213.4 mm\), 4535 px"),
        ({"printing": {"repeat_mm": 300}}, "printing.repeat_mm", "300 mm", "3024 px"),
        ({"printing": {"repeat_mm": 320}, "size_px": 4535}, "printing.repeat_mm", "320", "one of size_px and"),
        ({"printing": {"trap_mm": 1}}, "printing.trap_mm", "1", "nothing but printing.repeat_mm"),
        ({"formats": ["pdf"]}, "formats", "pdf", "the template says which files"),
        ({"palette": ["#000000"]}, "palette", "1 colours", "2 to 3 colours"),
        ({"palette": ["#000000"] * 4}, "palette", "4 colours", "2 to 3 colours"),
        ({"colourways": [["#000000"]]}, "colourways[0]", "1 colours", "2 to 3 colours"),
        ({"repeat": {"layout": "mirror", "units": 2}}, "repeat.layout", "mirror", "half-drop, straight, drop"),
        ({"prompt": "red dots, brick"}, "repeat.layout", "brick", "half-drop, straight, drop"),
        ({"repeat": {"layout": "straight", "units": 9}}, "repeat.units", "9", "2 to 5"),
        ({"prompt": "micro red dots"}, "repeat.units", "12", "2 to 5"),
        ({"template": "own", "model": "other"}, "model", "other", "mine, or nothing"),
    ],
)
def test_what_a_template_does_not_allow_is_refused(members: dict[str, Any], field: str, got: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fit_order(SHELF, order(**members))
    assert caught.value.field == field
    assert got in caught.value.got
    assert re.search(allowed, caught.value.allowed), caught.value.allowed


def test_a_preview_is_framed_and_coloured_as_the_order_is() -> None:
    shown = fit_preview(SHELF, PreviewRequest(prompt="red dots", template="mill", size_px=128))
    ordered = fit_order(SHELF, order()).input
    for member in ("prompt", "negative_prompt", "palette", "repeat", "model"):
        assert getattr(shown, member) == getattr(ordered, member)
    assert shown.size_px == 128


@pytest.mark.parametrize("template", [template.name for template in open_shelf().newest()])
def test_every_shipped_template_takes_an_order_that_leaves_everything_open(template: str) -> None:
    fitted = fit_order(SHELF, order(template=template))
    assert fitted.input.repeat is not None
    assert fitted.finishing is not msgspec.UNSET
    assert fitted.finishing.gates.rules()
