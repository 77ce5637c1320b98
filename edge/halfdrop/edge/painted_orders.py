"""An order for a model that users imported: understood at the edge, which has no part of that model, drawn by a hub.

What model is meant is told by the pools (`Pools.imported`). Its words are read by its own text encoder, so nothing is
read as anything else here; only the lattice is taken out of the prompt, as of any other.
"""

from collections.abc import Sequence

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.imported import (
    ImportedModel,
    default_tile_px,
    find_imported,
    is_inked,
    painted_unit_px,
    resolve_painted,
    say_models,
)
from halfdrop.contracts.patterns import PatternRequest, Wording, pattern_key
from halfdrop.contracts.unit_sizes import fit_tile_px
from halfdrop.edge.previews import Pattern, Previews
from halfdrop.edge.requests import PredictionInput
from halfdrop.edge.template_orders import DEFAULT_MODEL, Fitted, find_template, fit_order, within_input
from halfdrop.models.phrases import read_phrases
from halfdrop.models.template_shelf import TemplateShelf


class UnderstoodOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn, what becomes of it, and by which model."""

    pattern: Pattern
    order: Fitted
    model: ImportedModel | None = None
    """Which user's model paints it; None: the edge's own draws it, and its preview is its plates."""


def understand_order(
    previews: Previews,
    templates: TemplateShelf,
    known: Sequence[ImportedModel],
    asked: PredictionInput,
    *,
    version: str | None,
) -> UnderstoodOrder:
    """Return the order with nothing left open. known: the imported models that pools have.

    Raises InvalidInput for whatever cannot be made, with what can.
    """
    if version is not None and (model := _find_version(previews, known, version)) is not None:
        asked = msgspec.structs.replace(asked, model=model.digest)
    with within_input():
        named = asked.model
        if asked.template and named == DEFAULT_MODEL:
            named = find_template(templates, asked.template).model
        if previews.answers_to(named):
            order = fit_order(templates, asked)
            return UnderstoodOrder(pattern=previews.understand(order.input), order=order)
        model = find_imported(known, named)
        if model is None:
            raise InvalidInput("model", got=named, allowed=say_allowed(previews, known))
        return _understand_painted(templates, known, asked, model)


def say_allowed(previews: Previews, known: Sequence[ImportedModel]) -> str:
    """Return the names that an order may give its model."""
    return f"{previews.names}; imported, as pools tell now: {say_models(known)} (halfdrop models import DIR)"


def refuse_preview(previews: Previews, known: Sequence[ImportedModel], request: PatternRequest) -> None:
    """Raise InvalidInput for a preview by a model that only hubs have, with what to do instead."""
    if previews.answers_to(request.model) or (model := find_imported(known, request.model)) is None:
        return
    smallest_px = check_small(model, request)
    allowed = (
        f"{previews.names}; {model.name} is drawn by the hub alone, so order it: POST /v1/predictions, small and with "
        f"few steps for a first look (size_px {smallest_px})"
    )
    raise InvalidInput("model", got=request.model, allowed=allowed)


def check_small(model: ImportedModel, request: PatternRequest) -> int:
    """Return the size of a master at which the model is at home."""
    return default_tile_px(model, request.repeat or read_phrases(request.prompt).repeat)


def _find_version(previews: Previews, known: Sequence[ImportedModel], version: str) -> ImportedModel | None:
    if previews.answers_to(version):
        return None
    model = find_imported(known, version, field="version")
    if model is None:
        raise InvalidInput("version", got=version, allowed=say_allowed(previews, known))
    return model


def _understand_painted(
    templates: TemplateShelf, known: Sequence[ImportedModel], asked: PredictionInput, model: ImportedModel
) -> UnderstoodOrder:
    if asked.size_px is msgspec.UNSET and not asked.template:
        asked = msgspec.structs.replace(asked, size_px=check_small(model, asked))
    order = fit_order(templates, asked)
    read = read_phrases(order.input.prompt)
    if order.input.prompt.strip() and not read.prompt:
        raise InvalidInput("prompt", got=asked.prompt, allowed="something to draw, beside its layout and scale")
    repeat = order.input.repeat or read.repeat
    inked = is_inked(order.finishing)
    if asked.size_px is msgspec.UNSET and not inked and asked.printing.repeat_mm is None:
        # what the template prints by default, in whole units
        size_px = fit_tile_px(order.size_px, model.grain_px, repeat)
        order = fit_order(templates, msgspec.structs.replace(asked, size_px=size_px))
    unit_px = painted_unit_px(order.size_px, model, repeat, inked=inked)
    spec = resolve_painted(order.input, prompt=read.prompt, repeat=repeat, unit_px=unit_px, model=model, known=known)
    pattern = Pattern(spec=spec, key=pattern_key(spec), wording=Wording())
    return UnderstoodOrder(pattern=pattern, order=order, model=model)
