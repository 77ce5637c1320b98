"""Answers of POST /v1/images/generations, as OpenAI's clients read them."""

from typing import Literal

import msgspec

from halfdrop.edge.image_requests import Quality
from halfdrop.edge.picture_files import PictureFormat
from halfdrop.edge.predictions import say_wording
from halfdrop.edge.previews import Pattern
from halfdrop.models.house.torus import TOKENS

PICTURE_TOKENS = TOKENS * TOKENS
"""What the model draws a unit in."""

PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


class InputTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What the model read."""

    text_tokens: int
    image_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the model read and drew, in its own measure: words that it knows, and the parts of a unit."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokens


class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One picture."""

    b64_json: str | None = None
    url: str | None = None
    """For a while without a key, on an edge that asks for keys."""

    revised_prompt: str
    """What was understood."""

    seed: int
    """Ours: the same prompt and seed give the same picture, and the order of its print files."""

    key: str
    """Ours: the pattern's key."""


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """The answer without `stream`."""

    created: int
    data: list[Image]
    size: str
    quality: Quality
    output_format: PictureFormat
    background: Literal["opaque"] = "opaque"
    usage: Usage


class ImageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of a stream; `partial_image_index` with those that come before the last, the rest with the last."""

    type: Literal["image_generation.partial_image", "image_generation.completed"]
    b64_json: str
    created_at: int
    size: str
    quality: Quality
    background: str
    output_format: PictureFormat
    partial_image_index: int | None = None
    usage: Usage | None = None
    revised_prompt: str | None = None
    seed: int | None = None
    key: str | None = None


def count_usage(words: int, pictures: int) -> Usage:
    """Return the usage of `pictures` whose prompts have this many words together."""
    drawn = pictures * PICTURE_TOKENS
    return Usage(
        input_tokens=words,
        output_tokens=drawn,
        total_tokens=words + drawn,
        input_tokens_details=InputTokens(text_tokens=words),
    )


def say_pattern(pattern: Pattern, remark: str) -> str:
    """Return in words what was understood: the prompt as it was read, its repeat and its seed, and what was not."""
    spec, repeat = pattern.spec, pattern.spec.repeat
    layout = f"{repeat.drop} drop of {repeat.axis}" if repeat.layout == "drop" else repeat.layout
    parts = [f"{spec.prompt}, {layout}, {repeat.units} units across, seed {spec.seed}"]
    if spec.negative_prompt:
        parts[0] += f", without {spec.negative_prompt}"
    if spec.palette:
        parts[0] += f", in {' '.join(spec.palette)}"
    return "; ".join([*parts, *say_wording(pattern.wording), *([remark] if remark else [])])
