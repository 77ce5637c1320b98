"""The names that LoRA files give to layers: kohya's, diffusers' and peft's, and the original UNet's block numbers.

Trainers write a layer's path with underscores for its dots, so a name is found by writing the network's own paths that
way too. For SDXL, kohya's trainer counts blocks as the original UNet does: input, middle and output blocks in one row.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Part = Literal["down", "up", "alpha"]

_ENDING = re.compile(
    r"(?P<place>.+?)[._](?:"
    r"lora_(?P<kohya>down|up)|lora\.(?P<dotted>down|up)|lora_linear_layer\.(?P<linear>down|up)|lora_(?P<peft>[AB])"
    r")(?:\.default)?\.weight"
)
_COMPONENTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "base_model.model.": "unet",
}
_PARTS: dict[str, Part] = {"down": "down", "up": "up", "A": "down", "B": "up"}

LAYERS_PER_BLOCK = 2
"""Of SDXL's UNet, the only one whose LoRAs count blocks in one row; there are three of them after a downsampling's."""

_INNER = ("resnets", "attentions", "upsamplers")
_RESNET = {"in_layers_2": "conv1", "emb_layers_1": "time_emb_proj", "out_layers_3": "conv2",
           "skip_connection": "conv_shortcut"}  # fmt: skip
_OUTSIDE = {"input_blocks_0_0": "conv_in", "out_2": "conv_out", "time_embed_0": "time_embedding_linear_1",
            "time_embed_2": "time_embedding_linear_2", "label_emb_0_0": "add_embedding_linear_1",
            "label_emb_0_2": "add_embedding_linear_2"}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerName:
    """What a tensor's name says."""

    component: str
    flat: str
    """The layer's path in the component, underscores for dots."""
    part: Part


def parse_name(name: str) -> LayerName | None:
    """Return what a tensor in a LoRA file is, or None if it belongs to no plain LoRA."""
    if name.endswith(".alpha"):
        place, part = name.removesuffix(".alpha"), "alpha"
    elif match := _ENDING.fullmatch(name):
        place, part = match["place"], next(found for found in match.groups()[1:] if found)
    else:
        return None
    for prefix, component in _COMPONENTS.items():
        if place.startswith(prefix):
            return LayerName(
                component=component,
                flat=_flatten(place.removeprefix(prefix), component),
                part="alpha" if part == "alpha" else _PARTS[part],
            )
    return None


def flat_names(paths: Iterable[str]) -> dict[str, str]:
    """Return flat name to path."""
    return {path.replace(".", "_"): path for path in paths}


def _flatten(place: str, component: str) -> str:
    flat = place.replace(".processor.", ".").replace(".", "_")
    if component != "unet":
        return flat
    flat = _OUTSIDE.get(flat) or _from_row(flat) or flat
    return f"{flat}_0" if flat.endswith("_to_out") else flat  # before 2024 diffusers left the list's index out


def _from_row(flat: str) -> str | None:
    """Return the name by levels of a name by blocks in a row (input_blocks_4_1_…), or None if it is not one."""
    per_level = LAYERS_PER_BLOCK + 1
    if match := re.fullmatch(r"input_blocks_(\d+)_(\d+)_(.+)", flat):
        number, inner, rest = int(match[1]) - 1, int(match[2]), match[3]
        level, place = divmod(number, per_level)
        if rest == "op":
            return f"down_blocks_{level}_downsamplers_0_conv"
        return _named(f"down_blocks_{level}", inner, place, rest)
    if match := re.fullmatch(r"middle_block_([012])_(.+)", flat):
        number = int(match[1])
        return _named("mid_block", number % 2, number // 2, match[2])
    if match := re.fullmatch(r"output_blocks_(\d+)_(\d+)_(.+)", flat):
        level, place = divmod(int(match[1]), per_level)
        inner = int(match[2])
        rest = match[3]
        is_upsampler = rest == "conv"  # a level without attention has its upsampler second
        return _named(f"up_blocks_{level}", 2 if is_upsampler else inner, 0 if is_upsampler else place, rest)
    return None


def _named(block: str, inner: int, place: int, rest: str) -> str | None:
    if inner >= len(_INNER):
        return None
    return f"{block}_{_INNER[inner]}_{place}_{_RESNET.get(rest, rest)}"
