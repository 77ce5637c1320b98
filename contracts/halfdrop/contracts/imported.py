"""Models that users brought: what a worker tells of them, and what an order for one is held against.

A user's checkpoint paints one unit in pixels; the house model draws plates. So its steps, guidance and sizes have
limits of their own, its words are read by its own text encoder, and LoRAs can be added to it. A worker names what it
has in its state (`contracts.pools`), and an edge needs nothing else to take an order: it has no part of such a model.
"""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Literal

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import (
    LoraUse,
    PatternRequest,
    PatternSpec,
    check_prompt,
    check_range,
    check_seed,
    normalise_palette,
    normalise_prompt,
)
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.templates import Finishing
from halfdrop.contracts.unit_sizes import check_tile_px, fit_size_px, fit_tile_px

PAINTED_STEPS, PAINTED_STEPS_MAX = 30, 200
PAINTED_GUIDANCE, PAINTED_GUIDANCE_MAX = 7.0, 30.0
LORAS_MAX, LORA_WEIGHT_MAX = 8, 4.0

ImportedKind = Literal["checkpoint", "lora"]


class ImportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a worker has from its users."""

    digest: str
    name: str
    version: str
    kind: ImportedKind = "checkpoint"
    family: str = ""
    """"sd" or "sdxl"; of a LoRA it is only known where it is drawn with."""

    grain_px: int = 0
    """Pixels to a sample at the deepest level of its network: what sizes must be multiples of."""

    native_px: int = 0
    """The size of a unit that it was trained for."""

    def answers_to(self, model: str) -> bool:
        """True if `model`, as a client writes it, means this one: its name, name-version, digest or name:digest."""
        name, _, digest = model.rpartition(":")
        if name and name != self.name:
            return False
        return digest == self.digest or (not name and model in (self.name, f"{self.name}-{self.version}"))


def find_imported(
    models: Iterable[ImportedModel], reference: str, *, kind: ImportedKind = "checkpoint", field: str = "model"
) -> ImportedModel | None:
    """Return the one model that `reference` means; None if none does. Raises InvalidInput if several do."""
    found = {model.digest: model for model in models if model.kind == kind and model.answers_to(reference)}
    if len(found) > 1:
        names = " or ".join(f"{model.name}-{model.version}:{model.digest}" for model in found.values())
        raise InvalidInput(field, got=reference, allowed=f"one of several by its digest: {names}")
    return next(iter(found.values()), None)


def say_models(models: Iterable[ImportedModel], *, kind: ImportedKind = "checkpoint") -> str:
    """Return the names of the imported models, for whoever named another."""
    return ", ".join(sorted({model.name for model in models if model.kind == kind})) or "none"


def resolve_painted(
    request: PatternRequest,
    *,
    prompt: str,
    repeat: Repeat,
    unit_px: int,
    model: ImportedModel,
    known: Sequence[ImportedModel],
) -> PatternSpec:
    """Return the spec of a request that a user's checkpoint paints; known: what LoRAs may be named of.

    Raises InvalidInput for any member outside its limits.
    """
    steps = PAINTED_STEPS if request.num_inference_steps is msgspec.UNSET else request.num_inference_steps
    guidance = PAINTED_GUIDANCE if request.guidance_scale is msgspec.UNSET else request.guidance_scale
    check_range("num_inference_steps", steps, 1, PAINTED_STEPS_MAX)
    check_range("guidance_scale", guidance, 0, PAINTED_GUIDANCE_MAX)
    return PatternSpec(
        prompt=check_prompt(prompt),
        negative_prompt=normalise_prompt("negative_prompt", request.negative_prompt),
        seed=check_seed(request),
        repeat=repeat.normalise(),
        palette=normalise_palette(request.palette),
        num_inference_steps=steps,
        guidance_scale=round(guidance, 2),
        model_digest=model.digest,
        loras=_resolve_loras(request, known) or msgspec.UNSET,
        unit_px=unit_px,
    )


def default_tile_px(model: ImportedModel, repeat: Repeat) -> int:
    """Return the size of the master where an order names none: units of the size that the model was trained for."""
    return fit_tile_px(model.native_px * repeat.normalise().units, model.grain_px, repeat)


def is_inked(finishing: Finishing | msgspec.UnsetType) -> bool:
    """True if what is printed are inks alone, as a template with separations says: the master then shows them, and not
    the painting, which has more colours than the press."""
    return finishing is not msgspec.UNSET and "separate" in finishing.steps


def painted_unit_px(size_px: int, model: ImportedModel, repeat: Repeat, *, inked: bool) -> int:
    """Return the size of the unit to paint for a master of `size_px`.

    A painting's pixels are moved, never scaled: its master holds whole units. InvalidInput names the nearest size that
    does. Of inks the edges are kept, which fit any size: the unit is painted at the size that the model was trained
    for, or smaller where the master is.
    """
    if not inked:
        return check_tile_px(size_px, model.grain_px, repeat)
    wanted_px = min(model.native_px, size_px // repeat.normalise().units)
    return fit_size_px(wanted_px, model.grain_px, repeat)


def _resolve_loras(request: PatternRequest, known: Sequence[ImportedModel]) -> tuple[LoraUse, ...]:
    if len(request.loras) > LORAS_MAX:
        raise InvalidInput("loras", got=len(request.loras), allowed=f"up to {LORAS_MAX}")
    used = []
    for place, wish in enumerate(request.loras):
        found = find_imported(known, wish.name, kind="lora", field=f"loras[{place}].name")
        if found is None:
            allowed = f"a LoRA that a pool has: {say_models(known, kind='lora')} (halfdrop models import FILE)"
            raise InvalidInput(f"loras[{place}].name", got=wish.name, allowed=allowed)
        if not (isfinite(wish.weight) and abs(wish.weight) <= LORA_WEIGHT_MAX):
            allowed = f"-{LORA_WEIGHT_MAX:g} to {LORA_WEIGHT_MAX:g}"
            raise InvalidInput(f"loras[{place}].weight", got=wish.weight, allowed=allowed)
        used.append(LoraUse(digest=found.digest, weight=round(wish.weight, 3)))
    return tuple(used)
