"""An order by a template: what it asks for is held against what the template allows, and what it leaves open is filled
in.

Pure: from a template and what a client sent to what the rest of the edge takes. Everything that is wrong is refused
here, at the door, with what is allowed. Previews are framed and coloured as orders are: what is previewed is what is
ordered."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.patterns import PatternRequest, check_size_px
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.template_check import allowed_sizes_px, say_sizes
from halfdrop.contracts.templates import (
    FRAME_SLOT,
    Finishing,
    Template,
    finishing_of,
    print_formats,
    side_mm,
    size_px_of,
)
from halfdrop.edge.requests import MASTER_SIZE_PX, PredictionInput, PreviewRequest
from halfdrop.models.phrases import read_phrases
from halfdrop.models.template_shelf import TemplateShelf

ROLES = 5
"""Colours of a palette with a place for every layer."""

DEFAULT_MODEL = PatternRequest(prompt="").model

Asked = TypeVar("Asked", PreviewRequest, PredictionInput)


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """An order, with nothing left open."""

    input: PredictionInput
    """What is drawn: framed, coloured, its repeat chosen."""

    size_px: int
    formats: tuple[PrintFormat, ...] | msgspec.UnsetType
    colourways: tuple[tuple[str, ...], ...] | msgspec.UnsetType
    printing: PrintOptions | msgspec.UnsetType
    finishing: Finishing | msgspec.UnsetType
    """Unset where no template is named."""


@contextmanager
def within_input() -> Iterator[None]:
    """What is refused within is told as a member of an order's `input`."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"input.{error.field}", got=error.got, allowed=error.allowed) from error


def fit_preview(shelf: TemplateShelf, asked: PreviewRequest) -> PreviewRequest:
    """Return what to draw for a preview. Raises InvalidInput for what its template does not allow."""
    return fit_pattern(find_template(shelf, asked.template), asked) if asked.template else asked


def fit_order(shelf: TemplateShelf, asked: PredictionInput) -> Fitted:
    """Return the order with nothing left open. Raises InvalidInput for what its template does not allow."""
    if not asked.template:
        size_px = check_size_px(MASTER_SIZE_PX if asked.size_px is msgspec.UNSET else asked.size_px)
        return Fitted(
            input=asked,
            size_px=size_px,
            formats=asked.chosen_formats(),
            colourways=asked.chosen_colourways(),
            printing=asked.chosen_printing(size_px),
            finishing=msgspec.UNSET,
        )
    template = find_template(shelf, asked.template)
    _check_members(template, asked)
    size_px, repeat_mm = fit_size(template, asked)
    check_size_px(size_px)
    sized = msgspec.structs.replace(asked, size_px=size_px)
    press = template.press
    formats = print_formats(template.finishing.outputs)
    printing = PrintOptions(
        repeat_mm=repeat_mm,
        trap_mm=press.trap_mm,
        min_feature_mm=press.min_feature_mm,
        profile=press.profile,
    )
    coloured = _fit_colourways(template, sized)
    return Fitted(
        input=fit_pattern(template, sized),
        size_px=size_px,
        formats=formats or msgspec.UNSET,
        colourways=coloured.chosen_colourways(),
        printing=printing,
        finishing=finishing_of(template),
    )


def fit_pattern(template: Template, asked: Asked) -> Asked:
    """Return the pattern that is asked for as the template has it drawn: framed, in its colours, in a repeat it
    allows."""
    return msgspec.structs.replace(
        asked,
        model=_fit_model(template, asked.model),
        prompt=template.prompt.frame.replace(FRAME_SLOT, asked.prompt) if asked.prompt.strip() else asked.prompt,
        negative_prompt=", ".join(text for text in (asked.negative_prompt, template.prompt.avoid) if text.strip()),
        palette=fit_palette(template, asked.palette),
        repeat=fit_repeat(template, asked.prompt, asked.repeat),
    )


def fit_size(template: Template, asked: PredictionInput) -> tuple[int, float]:
    """Return the size in pixels, and the length of a tile in mm: that of the press where it has given lengths."""
    press, span, dpi = template.press, template.order.size_px, template.press.dpi
    length = asked.printing.repeat_mm
    if asked.size_px is not msgspec.UNSET:
        size_px, field, got = asked.size_px, "size_px", f"{asked.size_px} ({side_mm(asked.size_px, dpi):.1f} mm)"
    elif length is not None:
        size_px, field, got = size_px_of(length, dpi), "printing.repeat_mm", f"{length:g} mm"
    else:
        size_px, field, got = span.default, "size_px", ""
    sizes = allowed_sizes_px(template)
    is_allowed = size_px in sizes if press.repeat_lengths_mm else span.min <= size_px <= span.max
    if not is_allowed:
        raise InvalidInput(field, got=got, allowed=f"with template {template.reference}: {say_sizes(template)}")
    if press.repeat_lengths_mm:  # the very length of the press; the resolution follows, by a hundredth of a percent
        return size_px, min(press.repeat_lengths_mm, key=lambda one: abs(one - side_mm(size_px, dpi)))
    return size_px, side_mm(size_px, dpi)


def fit_palette(template: Template, palette: tuple[str, ...]) -> tuple[str, ...]:
    """Return the palette: the order's, else the template's. Where the template limits colours, roles beyond them take
    them again, ink and ground by turns, so that no other is printed."""
    span = template.order.colours
    if palette and span is not None:
        _check_count(template, "palette", len(palette), span.min, span.max)
    if len(set(palette)) > template.press.colours_max:
        _check_count(template, "palette", len(palette), 1, template.press.colours_max)
    chosen = palette or template.order.palette
    if not chosen or span is None or len(chosen) >= ROLES:
        return chosen
    return chosen + tuple(chosen[role % len(chosen)] for role in range(len(chosen), ROLES))


def fit_repeat(template: Template, prompt: str, asked: Repeat | None) -> Repeat:
    """Return the lattice: the order's, else that of the prompt's words, else the template's own."""
    span, layouts = template.order.units, template.order.layouts
    read = read_phrases(prompt)
    if asked is not None:
        repeat, names_units = asked, True
    else:
        named = read.repeat if read.names_layout else Repeat(layout=layouts[0])
        units = read.repeat.units if read.names_scale else span.default
        repeat = Repeat(
            layout=named.layout, drop=named.drop if named.layout == "drop" else "", axis=named.axis, units=units
        )
        names_units = read.names_scale
    lattice = repeat.normalise()
    if lattice.layout not in layouts:
        raise InvalidInput("repeat.layout", got=lattice.layout, allowed=_by(template, ", ".join(layouts)))
    if span.min <= lattice.units <= span.max:
        return lattice
    if names_units or not (fitting := _closing_units(lattice, span.min, span.max)):
        raise InvalidInput("repeat.units", got=lattice.units, allowed=_by(template, f"{span.min} to {span.max}"))
    return msgspec.structs.replace(lattice, units=fitting[-1])


def _closing_units(lattice: Repeat, low: int, high: int) -> list[int]:
    """Return the numbers of units within the range at which the lattice closes."""
    return [
        units
        for units in range(low, high + 1)
        if msgspec.structs.replace(lattice, units=units).normalise().units == units
    ]


def _check_members(template: Template, asked: PredictionInput) -> None:
    """Refuse what a template says by itself."""
    if asked.formats:
        outputs = ", ".join(template.finishing.outputs)
        allowed = _by(template, f"nothing: the template says which files are made, {outputs}")
        raise InvalidInput("formats", got=", ".join(asked.formats), allowed=allowed)
    if asked.size_px is not msgspec.UNSET and asked.printing.repeat_mm is not None:
        allowed = _by(template, "one of size_px and printing.repeat_mm: the resolution is the template's")
        raise InvalidInput("printing.repeat_mm", got=asked.printing.repeat_mm, allowed=allowed)
    blank = PrintOptions(repeat_mm=asked.printing.repeat_mm)
    if asked.printing != blank:
        changed = [name for name in blank.__struct_fields__ if getattr(asked.printing, name) != getattr(blank, name)]
        allowed = _by(template, "nothing but printing.repeat_mm: the template says the rest")
        raise InvalidInput(f"printing.{changed[0]}", got=getattr(asked.printing, changed[0]), allowed=allowed)


def _fit_colourways(template: Template, asked: PredictionInput) -> PredictionInput:
    palettes = []
    for place, palette in enumerate(asked.colourways):
        try:
            palettes.append(fit_palette(template, palette) if palette else palette)
        except InvalidInput as error:
            field = error.field.replace("palette", f"colourways[{place}]")
            raise InvalidInput(field, got=error.got, allowed=error.allowed) from error
    formats = print_formats(template.finishing.outputs)
    return msgspec.structs.replace(asked, colourways=tuple(palettes), formats=formats)


def _fit_model(template: Template, asked: str) -> str:
    if template.model == DEFAULT_MODEL:  # it says nothing of a model: an imported one may draw for the same press
        return asked
    if asked not in (DEFAULT_MODEL, template.model):
        raise InvalidInput("model", got=asked, allowed=_by(template, f"{template.model}, or nothing"))
    return template.model


def _check_count(template: Template, field: str, got: int, low: int, high: int) -> None:
    if not low <= got <= high:
        raise InvalidInput(field, got=f"{got} colours", allowed=_by(template, f"{low} to {high} colours"))


def find_template(shelf: TemplateShelf, reference: str) -> Template:
    """Return the template that is named. Raises InvalidInput, with the names there are."""
    try:
        return shelf.find(reference)
    except NotFound as error:
        names = ", ".join(template.name for template in shelf.newest()) or "none"
        raise InvalidInput("template", got=reference, allowed=f"{names}; or name@version") from error


def _by(template: Template, allowed: str) -> str:
    return f"with template {template.reference}: {allowed}"
