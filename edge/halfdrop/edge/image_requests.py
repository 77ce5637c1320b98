"""Body of POST /v1/images/generations: OpenAI's members, and what each can mean to a maker of repeats.

A tile that wraps is square and opaque, and two steps are the best that the model draws. What cannot be had is refused
with what can; only `style`, `moderation` and whoever the `user` is make no difference here, and are let pass.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import SEED_MAX, PatternRequest
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.picture_files import QUALITY_MAX, SIZES_PX, PictureForm

IMAGES_MAX = 10
PARTIAL_IMAGES_MAX = 3
AUTO_SIZE_PX = 1024
USER_MAX_CHARS = 256

DRAFT_STEPS, BEST_STEPS = 1, 2
"""Of the model: one is a rough draft, two are what it is distilled for, and more add nothing."""

SIZES = tuple(f"{size}x{size}" for size in SIZES_PX)

Quality = Literal["low", "high"]


class PatternMembers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pattern has and OpenAI's request has no member for; sent as `extra_body={"pattern": {…}}`."""

    negative_prompt: str = ""
    """What to avoid."""

    repeat: Repeat | None = None
    """The lattice; when absent it is read from the prompt."""

    palette: tuple[str, ...] = ()
    """Up to five "#rrggbb" colours: ground, motif, accents."""


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to draw, and how to send it."""

    prompt: str
    """What to draw: "red polka dots on white, half-drop"."""

    model: str | None = None
    """Name of the model; `GET /v1/models` lists what there is."""

    n: int | None = None
    """Number of pictures, 1 to 10: as many seeds, one after the other."""

    size: str | None = None
    """Always square, since a tile that repeats is; "auto" is 1024x1024."""

    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = None
    """"low" is a draft of one step; all others are the model's two, which the answer calls "high"."""

    response_format: Literal["url", "b64_json"] | None = None
    """The picture's address, or the picture itself (if absent)."""

    output_format: Literal["png", "jpeg", "webp"] | None = None
    """PNG if absent."""

    output_compression: int | None = None
    """Quality of JPEG and WebP, 1 to 100; WebP loses nothing at 100, which it is if absent."""

    background: Literal["auto", "opaque", "transparent"] | None = None
    """A pattern covers its ground: opaque."""

    moderation: Literal["auto", "low"] | None = None
    """Without effect: the model knows patterns only."""

    stream: bool | None = None
    """True: server-sent events, with `partial_images` before the picture."""

    partial_images: int | None = None
    """At most this many pictures on the way, 0 to 3: what the model sees between its steps, one where it takes two; of
    a pattern that it drew before, the plates, coarsely."""

    style: Literal["vivid", "natural"] | None = None
    """Without effect: colours and ways of drawing belong into the prompt."""

    user: Annotated[str, Meta(max_length=USER_MAX_CHARS)] | None = None
    """Without effect, and not kept."""

    safety_identifier: Annotated[str, Meta(max_length=USER_MAX_CHARS)] | None = None
    """As `user`."""

    seed: int | None = None
    """Ours: seed of the first picture, 0 if absent. The same request and seed give the same picture."""

    pattern: PatternMembers | None = None
    """Ours: what else a pattern has."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A request, checked and without gaps."""

    patterns: tuple[PatternRequest, ...]
    """One for each picture."""

    form: PictureForm
    quality: Quality
    as_url: bool
    partial_images: int
    """0 where nothing is streamed."""

    remark: str
    """What made no difference, to be told."""


def check_images(body: ImageRequest, *, model: str) -> Wanted:
    """Return what is wanted; model: the one that this edge has. Raises InvalidInput."""
    count = _within("n", body.n, 1, IMAGES_MAX, default=1)
    partial_images = _within("partial_images", body.partial_images, 0, PARTIAL_IMAGES_MAX, default=0)
    first = _within("seed", body.seed, 0, SEED_MAX, default=0)
    if body.background == "transparent":
        allowed = "auto, opaque: a pattern covers its ground; the plates of an order hold each ink alone"
        raise InvalidInput("background", got=body.background, allowed=allowed)
    if body.stream and count > 1:
        raise InvalidInput("n", got=count, allowed="1 with stream: its events do not say whose they are")
    if body.stream and body.response_format == "url":
        raise InvalidInput("response_format", got="url", allowed="b64_json with stream: events carry pictures")
    if partial_images and not body.stream:
        raise InvalidInput("partial_images", got=partial_images, allowed="0 without stream")
    quality: Quality = "low" if body.quality == "low" else "high"
    extra = body.pattern or PatternMembers()
    patterns = tuple(
        PatternRequest(
            prompt=body.prompt,
            negative_prompt=extra.negative_prompt,
            repeat=extra.repeat,
            palette=extra.palette,
            seed=(first + number) % (SEED_MAX + 1),
            num_inference_steps=DRAFT_STEPS if quality == "low" else BEST_STEPS,
            model=body.model or model,
        )
        for number in range(count)
    )
    return Wanted(
        patterns=patterns,
        form=_check_form(body),
        quality=quality,
        as_url=body.response_format == "url",
        partial_images=partial_images,
        remark="style has no effect: name colours and ways of drawing in the prompt" if body.style else "",
    )


def _check_form(body: ImageRequest) -> PictureForm:
    kind = body.output_format or "png"
    quality = _within("output_compression", body.output_compression, 1, QUALITY_MAX, default=QUALITY_MAX)
    if kind == "png" and quality != QUALITY_MAX:
        raise InvalidInput("output_compression", got=quality, allowed="100 for png, which loses nothing")
    size = body.size or "auto"
    if size != "auto" and size not in SIZES:
        allowed = f"auto, {', '.join(SIZES)}: a tile that repeats is square; larger ones are orders, /v1/predictions"
        raise InvalidInput("size", got=size, allowed=allowed)
    size_px = AUTO_SIZE_PX if size == "auto" else SIZES_PX[SIZES.index(size)]
    return PictureForm(kind=kind, size_px=size_px, quality=quality)


def _within(field: str, got: int | None, low: int, high: int, *, default: int) -> int:
    if got is None:
        return default
    if not low <= got <= high:
        raise InvalidInput(field, got=got, allowed=f"a whole number from {low} to {high}")
    return got
