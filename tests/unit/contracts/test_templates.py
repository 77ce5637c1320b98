"""Template files: what is shipped is right, and what cannot be made is refused with what is allowed."""

import re
from typing import get_args

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.gate_reports import Finding, judge, worst
from halfdrop.contracts.printing import PrintFormat
from halfdrop.contracts.template_check import allowed_sizes_px, parse_template
from halfdrop.contracts.templates import (
    NEEDS,
    AtLeast,
    AtMost,
    Finishing,
    UsualOutput,
    finishing_of,
    print_formats,
    template_digest,
    usual_outputs,
)

ROTARY = """
name = "rotary"
version = 2
title = "Rotary"
description = "A roller of 640 mm."

[order]
size_px = { min = 1000, max = 8192, default = 4535 }
layouts = ["half-drop", "straight"]
units = { min = 1, max = 8, default = 4 }
colours = { min = 2, max = 4, default = 3 }
palette = ["#ffffff", "#c0202f", "#102030"]

[press]
kind = "screen"
dpi = 360
colours_max = 4
repeat_lengths_mm = [640, 320, 213.33]
tolerance_mm = 0.05

[finishing]
steps = ["refine", "separate", "trace"]
outputs = ["png", "plates", "pdf"]

[gates.seams]
max = 1.1
retry_with_new_seed = 2
"""


def changed(old: str, new: str) -> str:
    assert old in ROTARY
    return ROTARY.replace(old, new)


def test_a_template_says_what_a_hub_needs_and_the_sizes_that_its_press_can_print() -> None:
    template = parse_template(ROTARY)
    assert allowed_sizes_px(template) == (3024, 4535)
    finishing = finishing_of(template)
    assert (finishing.template, finishing.outputs) == ("rotary@2", ("png", "plates", "pdf"))
    assert finishing.gates.rules() == {
        "seams": AtMost(max=1.1, retry_with_new_seed=2),
        "colours": AtMost(max=4),  # of a press that takes few, its limit is a gate
    }
    assert msgspec.json.decode(msgspec.json.encode(finishing), type=Finishing) == finishing


def test_a_digest_is_that_of_what_is_said_and_not_of_how_it_is_written() -> None:
    rewritten = changed('name = "rotary"\nversion = 2', '# a note\nversion = 2\nname = "rotary"')
    assert template_digest(parse_template(rewritten)) == template_digest(parse_template(ROTARY))
    assert template_digest(parse_template(changed("max = 1.1", "max = 1.2"))) != template_digest(parse_template(ROTARY))


@pytest.mark.parametrize(
    ("old", "new", "field", "got", "allowed"),
    [
        ("version = 2", "version = 2\nn = 1", "n", "an unknown member", "only name, version"),
        ("version = 2", "version = 0", "version", "0", "a whole number >= 1"),
        ('name = "rotary"', 'name = "Rotary!"', "name", "Rotary!", "text matching"),
        ('"refine", "separate"', '"refine", "polish"', "finishing.steps[1]", "polish", "'refine' or 'separate'"),
        ('"separate", "trace"', '"trace", "separate"', "finishing.steps", "trace, separate", "separate, trace"),
        (', "trace"]', "]", "finishing.outputs", "pdf", "with the step 'trace'"),
        (', "pdf"]', "]", "finishing.steps", "trace", "only with one of svg, pdf"),
        (', "plates", "pdf"]', ', "png"]', "finishing.outputs", "'png' twice", "once"),
        ('kind = "screen"', 'kind = "display"', "finishing.outputs", "pdf, plates", "no inks"),
        ('kind = "screen"', 'kind = "press"', "press.kind", "press", "'screen'"),
        ("max = 4, default = 3", "max = 5, default = 3", "order.colours.max", "5", "up to 4, .* press"),
        ("colours_max = 4", "colours_max = 2", "order.palette", "3 colours", "up to 2, .* press"),
        ('"#c0202f"', '"red"', "order.palette[1]", "red", "#1a2b3c"),
        ("default = 4535", "default = 4096", "order.size_px.default", "4096 px (289.0 mm)", "3024 px .*, 4535 px"),
        ("max = 8192, default", "max = 3000, default", "order.size_px.default", "4535", "1000 to 3000"),
        ("max = 8192, default", "max = 9000, default", "order.size_px.max", "9000", "64 to 8192"),
        ("[640, 320, 213.33]", "[700]", "order.size_px", "1000 to 8192", r"9921 \(700 mm\)"),
        ("tolerance_mm = 0.05", "tolerance_mm = 0.001", "press.repeat_lengths_mm[0]", "640", "whole pixels at 360"),
        ("max = 1.1", "min = 1.1", "gates.seams.min", "an unknown member", "only .*max"),
        ("retry_with_new_seed = 2", "retry_with_new_seed = 20", "gates.seams.retry_with_new_seed", "20", "<= 8"),
        ("[gates.seams]", "[gates.smell]", "gates.smell", "an unknown member", "seams, repeats"),
        ("[gates.seams]", "[gates.noise]", "gates.noise.max", "1.1", "0 to 1"),
        ("[gates.seams]", "[gates.size]", "gates.size.retry_with_new_seed", "2", "0: another seed"),
        ("[order]", "[prompt]\nframe = 'two colours'\n[order]", "prompt.frame", "two colours", "{prompt}"),
        ("[order]", "[order", "template", "Expected", "TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_with_what_is_allowed(
    old: str, new: str, field: str, got: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_template(changed(old, new))
    assert caught.value.field == field
    assert got in caught.value.got
    assert re.search(allowed, caught.value.allowed), caught.value.allowed


def test_every_format_of_an_order_is_an_output_of_a_template() -> None:
    assert set(get_args(PrintFormat)) | set(get_args(UsualOutput)) == set(NEEDS)
    assert print_formats(tuple(NEEDS)) == get_args(PrintFormat)
    assert usual_outputs(("proof", "pdf", "png")) == ("png", "proof")


def test_a_gate_asks_for_other_seeds_first_and_then_does_what_the_template_says() -> None:
    rule = AtMost(max=1.1, retry_with_new_seed=1, on_failure="warn")
    assert [judge(1.1, rule, retried=0), judge(1.2, rule, retried=0), judge(1.2, rule, retried=1)] == [
        "pass",
        "retry",
        "warn",
    ]
    assert judge(float("nan"), rule, retried=1) == "warn"
    assert judge(0.1, AtLeast(min=0.2), retried=0) == "fail"


def test_what_no_seed_can_mend_outweighs_a_retry() -> None:
    def found(verdict: str) -> Finding:
        return Finding(gate="seams", stage="", number=0, limit=0, verdict=verdict, says="")  # type: ignore[arg-type]

    assert worst((found("retry"), found("fail"))) == "fail"
    assert worst((found("warn"), found("retry"))) == "retry"
    assert worst((found("pass"), found("warn"))) == "warn"
    assert worst(()) == "pass"
