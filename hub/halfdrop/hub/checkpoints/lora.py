"""LoRA files: read whole, checked against the networks, and only then added to the weights they belong to.

A LoRA is a list of products, up × down, each for one linear or convolutional layer. Adding weight × scale × product to
the layer's own weight gives the same picture as running both side by side, costs nothing while drawing, wraps as the
layer does, and survives an export. The weights that were there are kept, so that taking it off restores them exactly.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.imported import LORA_WEIGHT_MAX, LORAS_MAX
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
from halfdrop.hub.checkpoints.lora_importing import FILE_MAX_BYTES
from halfdrop.hub.checkpoints.lora_names import Part, flat_names, parse_name
from halfdrop.hub.checkpoints.refusals import refusal, shown
from halfdrop.hub.checkpoints.safetensors_header import read_header

METADATA_NAME = "lora_adapter_metadata"
"""Where diffusers writes the scale of a LoRA that was trained with peft."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """What a LoRA adds to one layer: scale × up × down, in the shape of the layer's weight."""

    layer: nn.Module
    down: Tensor
    """[rank, in] or [rank, in, kh, kw]."""
    up: Tensor
    """[out, rank] or [out, rank, 1, 1]."""
    scale: float

    def delta(self) -> Tensor:
        """Return the product in float32, on the CPU."""
        weight: Tensor = self.layer.weight  # type: ignore[assignment]
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (self.scale * product).view(weight.shape)


def read_lora(file: Path, networks: Mapping[str, nn.Module]) -> list[Product]:
    """Return what the LoRA in `file` adds. networks: "unet", "text_encoder", … to the network.

    Raises PermanentError(bad-lora) for what is not a readable safetensors LoRA, and for one that was trained for
    another architecture: every one of its layers must be there, in its shape.
    """
    entries = _read_entries(file)
    layers = {component: dict(network.named_modules()) for component, network in networks.items()}
    flat = {component: flat_names(named) for component, named in layers.items()}
    parts: dict[tuple[str, str], dict[Part, str]] = {}
    strangers = []
    for name in entries:
        parsed = parse_name(name)
        if parsed is None:
            raise _bad(file, f"{shown(name)}, which is no plain LoRA's", "lora_down and lora_up, or lora_A and lora_B, "
                       "and alphas; no DoRA, LoHa, LoKr or biases", "Bring a plain LoRA")  # fmt: skip
        path = flat.get(parsed.component, {}).get(parsed.flat)
        if path is None:
            strangers.append(name)
        else:
            parts.setdefault((parsed.component, path), {})[parsed.part] = name
    if strangers:
        raise _other(file, f"{len(strangers)} of {len(entries)} names without a layer, {shown(strangers[0])} first")
    if not parts:
        raise _bad(file, "no weights", "at least one product", "Bring another file")
    with safe_open(file, framework="pt") as opened:
        alphas = _Alphas(opened.metadata() or {})
        held = {
            place: {part: opened.get_tensor(name) for part, name in names.items()} for place, names in parts.items()
        }
    return [
        _product(file, f"{component}.{path}", layers[component][path], tensors, alphas)
        for (component, path), tensors in held.items()
    ]


def merge(loras: Sequence[tuple[list[Product], float]]) -> list[tuple[nn.Parameter, Tensor]]:
    """Add LoRAs, each with its weight, and return what was there: parameters with their values.

    All sums are ready before the first weight changes: whatever goes wrong, nothing is half-applied.
    """
    sums: dict[nn.Module, Tensor] = {}
    for products, weight in loras:
        for product in products:
            added = weight * product.delta()
            sums[product.layer] = sums[product.layer] + added if product.layer in sums else added
    merged: list[tuple[nn.Parameter, Tensor]] = []
    for layer, added in sums.items():
        parameter: nn.Parameter = layer.weight  # type: ignore[assignment]
        merged.append((parameter, (parameter.data.float() + added.to(parameter.device)).to(parameter.dtype)))
    before = [(parameter, parameter.data) for parameter, _ in merged]
    restore(merged)
    return before


def restore(values: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    """Give parameters these values; the tensors themselves, so that nothing is rounded or copied."""
    for parameter, value in values:
        parameter.data = value


def check_choices(choices: Sequence[LoraChoice]) -> None:
    """Raise InvalidInput for too many LoRAs or a weight outside its limits."""
    if len(choices) > LORAS_MAX:
        raise InvalidInput("loras", got=len(choices), allowed=f"up to {LORAS_MAX}")
    for choice in choices:
        if not (isfinite(choice.weight) and abs(choice.weight) <= LORA_WEIGHT_MAX):
            raise InvalidInput("lora.weight", got=choice.weight, allowed=f"-{LORA_WEIGHT_MAX:g} to {LORA_WEIGHT_MAX:g}")


class _Alphas:
    """Scales that stand in the file's metadata instead of beside its weights."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            found = json.loads(metadata.get(METADATA_NAME, "{}"))
        except ValueError:
            found = {}
        self._found: dict[str, Any] = found if isinstance(found, dict) else {}

    def scale(self, place: str, rank: int) -> float:
        """Return the scale of a layer, by its component and path; 1 if nothing is said of it."""
        component, _, path = place.partition(".")
        alpha = self._found.get(f"{component}.lora_alpha", rank)
        patterns = self._found.get(f"{component}.alpha_pattern") or {}
        alpha = next((value for name, value in patterns.items() if path.endswith(name)), alpha)
        return float(alpha) / (sqrt(rank) if self._found.get(f"{component}.use_rslora") else rank)


def _read_entries(file: Path) -> list[str]:
    if file.suffix != ".safetensors":
        raise _bad(file, f"a file of type {shown(file.suffix)}", ".safetensors: others may be pickled, which can run "
                   "code", "Convert it with the tool that made it")  # fmt: skip
    try:
        if (size := file.stat().st_size) > FILE_MAX_BYTES:
            raise _bad(file, f"{size:,} bytes", f"up to {FILE_MAX_BYTES:,}", "Check that it is a LoRA")
        return list(read_header(file))
    except OSError as error:
        raise _bad(file, f"what cannot be read ({error.strerror})", "a readable file", "Check its name") from error
    except PermanentError as error:
        raise PermanentError(error.detail, code="bad-lora") from error


def _product(file: Path, place: str, layer: nn.Module, tensors: Mapping[Part, Tensor], alphas: _Alphas) -> Product:
    if "down" not in tensors or "up" not in tensors:
        raise _bad(file, f"half of {place}", "lora_down and lora_up of every layer", "Fetch it again")
    down, up = tensors["down"], tensors["up"]
    weight = getattr(layer, "weight", None)
    if not isinstance(layer, nn.Linear | nn.Conv2d) or weight is None:
        raise _other(file, f"a product for {place}, a {type(layer).__name__}")
    rank = down.shape[0] if down.ndim else 0
    fits = (
        {down.ndim, up.ndim} <= {2, 4}
        and rank > 0
        and up.shape[:2] == (weight.shape[0], rank)
        and up[0, 0].numel() == 1
        and down.shape[1] == weight.shape[1]
        and down[0].numel() == weight[0].numel()
    )
    if not fits:
        got = f"{list(up.shape)} × {list(down.shape)} for {place}, whose weight is {list(weight.shape)}"
        raise _other(file, got)
    if not (bool(up.isfinite().all()) and bool(down.isfinite().all())):
        raise _bad(file, f"numbers in {place} that are not finite", "finite weights", "Fetch it again")
    scale = float(tensors["alpha"]) / rank if "alpha" in tensors else alphas.scale(place, rank)
    return Product(layer=layer, down=down, up=up, scale=scale)


def _other(file: Path, got: str) -> PermanentError:
    return _bad(file, got, "a LoRA that was trained for this checkpoint's architecture",
                "Choose one for the same family (SD 1.5 and SDXL do not mix)")  # fmt: skip


def _bad(file: Path, got: str, allowed: str, advice: str) -> PermanentError:
    return refusal(f"LoRA {file.name}", got=got, allowed=allowed, advice=advice, code="bad-lora")
