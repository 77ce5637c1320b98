"""Template files: read strictly, and checked for what cannot be made, before anybody orders by them.

Every refusal names the member, what was got and what is allowed. What a type can say (a version is a whole number)
msgspec checks; here stands what several members say together."""

import tomllib
from collections.abc import Iterator
from typing import get_args

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.naming import name_member
from halfdrop.contracts.patterns import PALETTE_MAX, SIZE_MAX_PX, SIZE_MIN_PX, normalise_palette
from halfdrop.contracts.printing import REPEAT_MAX_MM, REPEAT_MIN_MM
from halfdrop.contracts.repeats import UNITS_MAX
from halfdrop.contracts.templates import (
    FRAME_SLOT,
    NEEDS,
    SPOT_OUTPUTS,
    Press,
    Span,
    Step,
    Template,
    miss_mm,
    side_mm,
    size_px_of,
)

TEMPLATE_MAX_BYTES = 32 * 1024
"""Ten times the longest that is shipped."""

STROKE_MAX_PX = 24
"""Wider lines are not looked for: a limit above it would be one for motifs, not for strokes."""

STEP_ORDER: tuple[Step, ...] = get_args(Step)
_ROUNDING_MM = 1e-9


def parse_template(text: str) -> Template:
    """Return the template that `text`, TOML, says. Raises InvalidInput, naming the member that is wrong."""
    if len(text) > TEMPLATE_MAX_BYTES:
        raise InvalidInput("template", got=f"{len(text)} characters", allowed=f"up to {TEMPLATE_MAX_BYTES}")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("template", got=str(error), allowed="TOML") from error
    try:
        template = msgspec.convert(raw, Template)
    except msgspec.ValidationError as error:
        raise name_member(str(error), raw, Template) from error
    return check_template(template)


def check_template(template: Template) -> Template:
    """Return `template` if orders by it can be made. Raises InvalidInput otherwise."""
    for check in (_check_prompt, _check_ranges, _check_colours, _check_press, _check_finishing, _check_gates):
        check(template)
    return template


def allowed_sizes_px(template: Template) -> tuple[int, ...]:
    """Return the sizes that make a length which the press can print, the shortest first; none where it prints any."""
    span, press = template.order.size_px, template.press
    sizes = {size_px_of(length, press.dpi) for length in press.repeat_lengths_mm}
    return tuple(sorted(size for size in sizes if _fits(size, span, press)))


def say_sizes(template: Template) -> str:
    """Return in words which sizes an order may ask for: "4535 px (319.97 mm)"."""
    span, dpi = template.order.size_px, template.press.dpi
    if not template.press.repeat_lengths_mm:
        return f"{span.min} to {span.max} px ({side_mm(span.min, dpi):.1f} to {side_mm(span.max, dpi):.1f} mm)"
    return ", ".join(f"{size} px ({side_mm(size, dpi):.1f} mm)" for size in allowed_sizes_px(template))


def _check_prompt(template: Template) -> None:
    frame = template.prompt.frame
    if frame.count(FRAME_SLOT) != 1 or "{" in frame.replace(FRAME_SLOT, ""):
        raise InvalidInput("prompt.frame", got=frame, allowed=f"text with {FRAME_SLOT} in it once, and no other braces")


def _check_ranges(template: Template) -> None:
    order = template.order
    _check_span("order.size_px", order.size_px, SIZE_MIN_PX, SIZE_MAX_PX)
    _check_span("order.units", order.units, 1, UNITS_MAX)
    if order.layouts[0] == "drop":
        raise InvalidInput("order.layouts", got="drop first", allowed="another first: a drop needs a fraction")
    if repeated := _repeated(order.layouts):
        raise InvalidInput("order.layouts", got=f"{repeated!r} twice", allowed="each layout once")


def _check_colours(template: Template) -> None:
    order, press = template.order, template.press
    inks = len(set(normalise_palette_of(order.palette)))
    most = f"up to {press.colours_max}, which is all that the press takes (press.colours_max)"
    if inks > press.colours_max:
        raise InvalidInput("order.palette", got=f"{inks} colours", allowed=most)
    if order.colours is not None:
        _check_span("order.colours", order.colours, 1, PALETTE_MAX)
        if order.colours.max > press.colours_max:
            raise InvalidInput("order.colours.max", got=order.colours.max, allowed=most)
        if inks > order.colours.max:
            allowed = f"up to order.colours.max, {order.colours.max}"
            raise InvalidInput("order.palette", got=f"{inks} colours", allowed=allowed)
    gate = template.gates.colours
    if gate is not None and gate.max > press.colours_max:
        raise InvalidInput("gates.colours.max", got=gate.max, allowed=most)


def normalise_palette_of(palette: tuple[str, ...]) -> tuple[str, ...]:
    """Return a template's palette in normal form. Raises InvalidInput that names the template's member."""
    try:
        return normalise_palette(palette)
    except InvalidInput as error:
        raise InvalidInput(f"order.{error.field}", got=error.got, allowed=error.allowed) from error


def _check_press(template: Template) -> None:
    press, span = template.press, template.order.size_px
    for name, size_px in (("min", span.min), ("max", span.max)):
        if not REPEAT_MIN_MM <= side_mm(size_px, press.dpi) <= REPEAT_MAX_MM:
            got = f"{size_px} px ({side_mm(size_px, press.dpi):.1f} mm)"
            raise InvalidInput(f"order.size_px.{name}", got=got, allowed=f"{REPEAT_MIN_MM:g} to {REPEAT_MAX_MM:g} mm")
    if not press.repeat_lengths_mm:
        return
    for place, length in enumerate(press.repeat_lengths_mm):
        if miss_mm(
            size_px_of(length, press.dpi), Press(kind=press.kind, dpi=press.dpi, repeat_lengths_mm=(length,))
        ) > (press.tolerance_mm + _ROUNDING_MM):
            allowed = f"a length that whole pixels at {press.dpi} dpi come within press.tolerance_mm of"
            raise InvalidInput(f"press.repeat_lengths_mm[{place}]", got=length, allowed=allowed)
    if not allowed_sizes_px(template):
        sizes = ", ".join(f"{size_px_of(length, press.dpi)} ({length:g} mm)" for length in press.repeat_lengths_mm)
        allowed = f"a range with at least one of press.repeat_lengths_mm in it, in px: {sizes}"
        raise InvalidInput("order.size_px", got=f"{span.min} to {span.max}", allowed=allowed)
    if not _fits(span.default, span, press):
        got = f"{span.default} px ({side_mm(span.default, press.dpi):.1f} mm)"
        raise InvalidInput("order.size_px.default", got=got, allowed=say_sizes(template))


def _check_finishing(template: Template) -> None:
    work, press = template.finishing, template.press
    for field, names in (("finishing.steps", work.steps), ("finishing.outputs", work.outputs)):
        if repeated := _repeated(names):
            raise InvalidInput(field, got=f"{repeated!r} twice", allowed="each once")
    in_order = tuple(step for step in STEP_ORDER if step in work.steps)
    if work.steps != in_order:
        raise InvalidInput("finishing.steps", got=", ".join(work.steps), allowed=f"this order: {', '.join(in_order)}")
    for output in work.outputs:
        needed = NEEDS[output]
        if needed is not None and needed not in work.steps:
            allowed = f"it only with the step {needed!r} in finishing.steps"
            raise InvalidInput("finishing.outputs", got=output, allowed=allowed)
    if ("tiff-cmyk" in work.outputs) != bool(press.profile):
        got, allowed = press.profile or "nothing", "the name of a profile together with 'tiff-cmyk', or neither"
        raise InvalidInput("press.profile", got=got, allowed=allowed)
    for step in work.steps:
        makes = [output for output, needed in NEEDS.items() if needed == step]
        if makes and not set(makes) & set(work.outputs):
            allowed = f"it only with one of {', '.join(makes)} in finishing.outputs"
            raise InvalidInput("finishing.steps", got=step, allowed=allowed)
    if press.kind in ("screen", "weave") and not set(SPOT_OUTPUTS) & set(work.outputs):
        allowed = f"for press.kind = {press.kind!r} at least one that tells the inks apart: {', '.join(SPOT_OUTPUTS)}"
        raise InvalidInput("finishing.outputs", got=", ".join(work.outputs), allowed=allowed)
    if press.kind == "display" and (spots := set(SPOT_OUTPUTS) & set(work.outputs)):
        raise InvalidInput(
            "finishing.outputs", got=", ".join(sorted(spots)), allowed="no inks for press.kind = 'display'"
        )


def _check_gates(template: Template) -> None:
    for name, low, high in (("repeats", -1, 1), ("noise", 0, 1), ("copies", 0, 1), ("blank", 0, 1)):
        rule = getattr(template.gates, name)
        if rule is None:
            continue
        member = "max" if hasattr(rule, "max") else "min"
        limit = getattr(rule, member)
        if not low <= limit <= high:
            raise InvalidInput(f"gates.{name}.{member}", got=limit, allowed=f"{low} to {high}")
    for name, rule in template.gates.rules().items():
        if name == "size" and rule.retry_with_new_seed:
            allowed = "0: another seed has the same size"
            raise InvalidInput("gates.size.retry_with_new_seed", got=rule.retry_with_new_seed, allowed=allowed)
    stroke = template.gates.stroke
    if stroke is not None and not 0 < stroke.min <= side_mm(STROKE_MAX_PX, template.press.dpi):
        allowed = f"above 0, to {side_mm(STROKE_MAX_PX, template.press.dpi):.2f} mm ({STROKE_MAX_PX} px at this dpi)"
        raise InvalidInput("gates.stroke.min", got=stroke.min, allowed=allowed)


def _check_span(field: str, span: Span, low: int, high: int) -> None:
    for name, value in (("min", span.min), ("max", span.max)):
        if not low <= value <= high:
            raise InvalidInput(f"{field}.{name}", got=value, allowed=f"{low} to {high}")
    if span.min > span.max:
        raise InvalidInput(f"{field}.min", got=span.min, allowed=f"up to {field}.max, {span.max}")
    if not span.min <= span.default <= span.max:
        raise InvalidInput(f"{field}.default", got=span.default, allowed=f"{span.min} to {span.max}")


def _fits(size_px: int, span: Span, press: Press) -> bool:
    return span.min <= size_px <= span.max and miss_mm(size_px, press) <= press.tolerance_mm + _ROUNDING_MM


def _repeated(names: tuple[str, ...]) -> str:
    return next((name for name in _seen_again(names)), "")


def _seen_again(names: tuple[str, ...]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
