"""What a pattern is: the request a client sends, the spec it resolves to, and the key that names it.

A key is a digest of everything that decides the picture, and of nothing else: two requests that must look the same
share a key, and the size of the file is not part of it, because a preview and its master are one pattern.
"""

import hashlib
import re
import unicodedata
from typing import Literal

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.repeats import Repeat

PROMPT_MAX_CHARS = 1_000
"""Far above any prompt that the text encoder can use (32 words); a longer one is a mistake or an attack."""

SEED_MAX = 2**32 - 1
PALETTE_MAX = 5
"""Ground and four layers: as many spot colours as the plates hold."""

STEPS_MAX = 8
GUIDANCE_MAX = 5.0
STEPS, GUIDANCE_SCALE = 2, 1.5
"""Of the house model, where a request says nothing."""

PREVIEW_SIZE_PX = 256
"""Of a preview for which no size is given."""

PREVIEW_SIZES_PX = (128, 256, 384, 512)
SIZE_MIN_PX, SIZE_MAX_PX = 64, 8192

ReuseAllowed = Literal["exact", "variant", "near"]
"""What may answer a preview; each as well as those before it."""

_HEX_COLOUR = re.compile(r"#[0-9a-f]{6}")
_KEY = re.compile(r"[0-9a-f]{32}")


class LoraWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LoRA as a client asks for it."""

    name: str
    """Name or digest, as `GET /v1/models` lists it."""

    weight: float = 1.0
    """-4 to 4; 1 is as it was trained."""


class PatternRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client asks for. Everything but the prompt has a default; unknown members are refused."""

    prompt: str
    """What to draw, 1 to 1,000 characters: "red polka dots on white". Layout and scale words are understood too."""

    negative_prompt: str = ""
    """What to avoid, up to 1,000 characters. Costs a second evaluation per step."""

    seed: int | msgspec.UnsetType = msgspec.UNSET
    """0 to 4294967295; absent it is 0. The same request and seed give the same pattern."""

    repeat: Repeat | None = None
    """The lattice; when absent it is read from the prompt ("… half-drop", "small …"), else straight."""

    palette: tuple[str, ...] = ()
    """Up to five "#rrggbb" colours in order of role: ground, motif, accents. They replace the model's exactly."""

    num_inference_steps: int | msgspec.UnsetType = msgspec.UNSET
    """Denoising steps; absent: 2, which the house model is distilled for (1 to 8), or 30 of a user's checkpoint (1 to
    200)."""

    guidance_scale: float | msgspec.UnsetType = msgspec.UNSET
    """How strongly to move away from the negative prompt: absent 1.5, 0 to 5; without one it has no effect. A user's
    checkpoint has it always: absent 7, 0 to 30."""

    model: str = "house"
    """Name or digest of the model: the house's, or one that was imported (`GET /v1/models`)."""

    loras: tuple[LoraWish, ...] = ()
    """LoRAs to be added to an imported model, up to 8, in this order."""


class LoraUse(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA that was imported, and how strongly it counts."""

    digest: str
    """Of its bundle."""

    weight: float = 1.0


class PatternSpec(msgspec.Struct, frozen=True, kw_only=True, tag="pattern.v1"):
    """A resolved request: normal forms only, the lattice explicit, the model named by digest. Hash it with `key`."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    repeat: Repeat = Repeat()
    palette: tuple[str, ...] = ()
    num_inference_steps: int = 4
    guidance_scale: float = 0.0
    model_digest: str
    loras: tuple[LoraUse, ...] | msgspec.UnsetType = msgspec.UNSET
    """Of a user's checkpoint, in the order in which they are added; unset where there are none."""

    unit_px: int | msgspec.UnsetType = msgspec.UNSET
    """Side of the unit that a user's checkpoint paints: at another size it paints another picture. Unset where plates
    are drawn, which have no size."""


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """How the words of a request were understood, where the model does not know them all."""

    read_as: dict[str, str] = {}
    """Words as they were written, and what was drawn for each: {"sunflowers": "daisies"}. Open-ended, so a dict."""

    unknown_words: tuple[str, ...] = ()
    """Words with nothing near among what the model was taught; they had no effect."""


def resolve_spec(request: PatternRequest, *, prompt: str, repeat: Repeat, model_digest: str) -> PatternSpec:
    """Return the spec of `request`, given the prompt without its layout words and the lattice that they named.

    Raises InvalidInput for any member outside its limits. Guidance without a negative prompt is dropped, so that it
    cannot split one picture over two keys.
    """
    text = check_prompt(prompt)
    negative = normalise_prompt("negative_prompt", request.negative_prompt)
    if request.loras:
        raise InvalidInput("loras", got=request.loras[0].name, allowed="none with this model; name an imported one")
    seed = check_seed(request)
    steps = STEPS if request.num_inference_steps is msgspec.UNSET else request.num_inference_steps
    guidance_scale = GUIDANCE_SCALE if request.guidance_scale is msgspec.UNSET else request.guidance_scale
    check_range("num_inference_steps", steps, 1, STEPS_MAX)
    check_range("guidance_scale", guidance_scale, 0, GUIDANCE_MAX)
    return PatternSpec(
        prompt=text,
        negative_prompt=negative,
        seed=seed,
        repeat=repeat.normalise(),
        palette=normalise_palette(request.palette),
        num_inference_steps=steps,
        guidance_scale=round(guidance_scale, 2) if negative else 0.0,
        model_digest=model_digest,
    )


def check_prompt(prompt: str) -> str:
    """Return the prompt in its normal form. Raises InvalidInput if that says nothing."""
    text = normalise_prompt("prompt", prompt)
    if not text:
        raise InvalidInput("prompt", got=prompt, allowed=f"1 to {PROMPT_MAX_CHARS} characters that say what to draw")
    return text


def check_seed(request: PatternRequest) -> int:
    """Return the seed of a request, 0 where it has none. Raises InvalidInput for one outside its limits."""
    seed = 0 if request.seed is msgspec.UNSET else request.seed
    check_range("seed", seed, 0, SEED_MAX)
    return seed


def normalise_prompt(field: str, text: str) -> str:
    """Return `text` in NFKC, lower case, single-spaced; the model is blind to what this removes."""
    if len(text) > PROMPT_MAX_CHARS:
        raise InvalidInput(field, got=text, allowed=f"up to {PROMPT_MAX_CHARS} characters")
    folded = unicodedata.normalize("NFKC", text).casefold()
    if any(unicodedata.category(c) == "Cc" and not c.isspace() for c in folded):
        raise InvalidInput(field, got=text, allowed="text without control characters")
    return " ".join(folded.split()).strip(" ,;.")


def normalise_palette(colours: tuple[str, ...]) -> tuple[str, ...]:
    """Return the colours in lower case. Raises InvalidInput for more than five or for anything but #rrggbb."""
    if len(colours) > PALETTE_MAX:
        raise InvalidInput("palette", got=len(colours), allowed=f"up to {PALETTE_MAX} colours")
    lowered = tuple(c.lower() for c in colours)
    for position, colour in enumerate(lowered):
        if not _HEX_COLOUR.fullmatch(colour):
            raise InvalidInput(f"palette[{position}]", got=colours[position], allowed='a colour such as "#1a2b3c"')
    return lowered


def check_size_px(size_px: int) -> int:
    """Return `size_px` if a master can have it. Raises InvalidInput otherwise."""
    check_range("size_px", size_px, SIZE_MIN_PX, SIZE_MAX_PX)
    return size_px


def canonical_bytes(spec: PatternSpec) -> bytes:
    """Return the one byte form of `spec`: JSON with sorted members. Golden files in tests hold it still."""
    return msgspec.json.encode(spec, order="sorted")


def pattern_key(spec: PatternSpec) -> str:
    """Return the pattern's name: 32 hexadecimal digits of SHA-256 over the canonical bytes."""
    return hashlib.sha256(canonical_bytes(spec)).hexdigest()[:32]


def is_pattern_key(text: str) -> bool:
    """True if `text` has the form of a key; says nothing about whether such a pattern exists."""
    return _KEY.fullmatch(text) is not None


def check_range(field: str, value: float, low: float, high: float) -> None:
    """Raise InvalidInput for a number outside its limits."""
    if not low <= value <= high:  # also refuses NaN
        raise InvalidInput(field, got=value, allowed=f"{low} to {high}")
