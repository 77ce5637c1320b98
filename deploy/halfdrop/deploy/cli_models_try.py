"""`halfdrop models try`: one tile, drawn here and now by one model, without an edge or a hub."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.patterns import PatternRequest, Wording, check_size_px
from halfdrop.deploy.cli_options import (
    DEFAULT_MODELS_DIR,
    Avoid,
    ModelReference,
    ModelsDir,
    Palette,
    Prompt,
    RepeatName,
    Seed,
    Units,
    check_output,
    quiet_diffusers,
    read_pattern,
)
from halfdrop.deploy.cli_patterns import say_wording

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from halfdrop.contracts.repeats import Repeat
    from halfdrop.edge.client import PatternOptions
    from halfdrop.models.bundle import Bundle, OnProgress

SIZE_PX = 512
HOUSE_FILES = ("onnx/denoiser.onnx", "onnx/text_encoder.onnx", "tokenizer/vocab.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is to be drawn; 0 and None leave the choice to the model."""

    prompt: str
    size_px: int
    steps: int
    guidance: float | None
    options: "PatternOptions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """What was drawn."""

    pixels: "NDArray[np.uint8]"
    """[size, size, 3] sRGB."""

    repeat: "Repeat"
    drawn_s: float
    """From the prompt to these pixels, the model being loaded."""

    seam_ratio: float
    wording: Wording | None = None
    """How the words were read; None where the model takes any."""


def try_model(
    reference: ModelReference,
    prompt: Prompt,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG or WebP file to write.")] = Path("tile.png"),
    size: Annotated[
        int,
        typer.Option(
            help="Width and height in pixels, 64 to 8192, for a checkpoint the nearest that closes. "
            "Left out: 512, or what a checkpoint was trained for.",
            show_default=False,
        ),
    ] = 0,
    seed: Seed = 0,
    repeat: RepeatName = "",
    units: Units = 0,
    palette: Palette = "",
    avoid: Avoid = "",
    steps: Annotated[int, typer.Option(help="Drawing steps. Left out: the model's own.", show_default=False)] = 0,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale. Left out: the model's own.", show_default=False)
    ] = None,
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
) -> None:
    """Draw one tile, here and now.

    The model's files are checked first. Needs neither an edge nor a hub.
    """
    from halfdrop.deploy.cli_progress import show_stages  # noqa: PLC0415  keeps --help quick
    from halfdrop.models.bundle import open_bundle  # noqa: PLC0415
    from halfdrop.models.store import ModelStore  # noqa: PLC0415

    check_output(output, suffixes=(".png", ".webp"))
    if size:
        check_size_px(size)
    found = ModelStore(models_dir).find(reference)
    if found.manifest.kind not in PAINTERS:
        allowed = "a house-preview or a checkpoint; the others draw only where they serve"
        raise InvalidInput("model", got=f"{found.name}-{found.version}, a {found.manifest.kind}", allowed=allowed)
    wish = Wish(
        prompt=prompt,
        size_px=size,
        steps=steps,
        guidance=guidance,
        options=read_pattern(
            seed=seed, repeat=repeat, units=units, palette=palette, avoid=avoid, steps=steps, guidance=guidance or 0.0
        ),
    )
    with show_stages() as tell:
        bundle = open_bundle(found.directory, on_progress=tell)
        try:
            tile = PAINTERS[bundle.manifest.kind](bundle, wish, tell)
        except ModuleNotFoundError as error:
            detail = f"drawing with a {bundle.manifest.kind} needs {error.name}, which is not installed here"
            raise PermanentError(detail, code="not-installed") from error
    _write(tile.pixels, output)
    layout = f"{tile.repeat.drop} drop" if tile.repeat.layout == "drop" else tile.repeat.layout
    drawn = f"{len(tile.pixels)} px, {layout}, {tile.repeat.units} across, {bundle.name}-{bundle.version}"
    typer.echo(f"{output}  {drawn}, drawn in {tile.drawn_s:.2f} s, seams {tile.seam_ratio:.2f}", err=True)
    for line in say_wording(tile.wording) if tile.wording else ():
        typer.echo(line, err=True)


def _paint_house(bundle: "Bundle", wish: Wish, tell: "OnProgress") -> Tile:
    """Draw plates with ONNX Runtime, as an edge does, and compose them."""
    from halfdrop.edge.previewer import OnnxModel  # noqa: PLC0415  keeps --help quick
    from halfdrop.edge.previews import understand_request  # noqa: PLC0415
    from halfdrop.models.fields import decode_fields  # noqa: PLC0415
    from halfdrop.models.renderer import compose_tile  # noqa: PLC0415
    from halfdrop.models.seams import seam_ratio  # noqa: PLC0415

    if missing := [path for path in HOUSE_FILES if path not in bundle.manifest.files]:
        detail = f"model bundle {bundle.directory}: {missing[0]} is missing, which a {bundle.manifest.kind} must have"
        raise PermanentError(detail, code="bad-bundle")
    options: dict[str, Any] = dict(wish.options)
    if wish.steps:
        options["num_inference_steps"] = wish.steps
    if wish.guidance is not None:
        options["guidance_scale"] = wish.guidance
    tell("loading", 0, 1)
    try:
        model = OnnxModel(bundle)
    except Exception as error:  # ONNX Runtime's own kinds: the files are whole, but they are no model
        detail = f"model bundle {bundle.directory} cannot be loaded: {(str(error) or repr(error)).splitlines()[0]}"
        raise PermanentError(detail, code="bad-bundle") from error
    request = PatternRequest(prompt=wish.prompt, **options)
    began_s = time.perf_counter()
    pattern = understand_request(request, model.read_words, model_digest=bundle.digest)
    plates = model.draw(pattern.spec, pattern.key)
    repeat = pattern.spec.repeat
    fields = decode_fields(plates)
    pixels = compose_tile(fields, plates.palette, repeat, wish.size_px or SIZE_PX)
    drawn_s = time.perf_counter() - began_s
    seams = seam_ratio(pixels, fields, plates.palette, repeat)
    return Tile(pixels=pixels, repeat=repeat, drawn_s=drawn_s, seam_ratio=seams, wording=pattern.wording)


def _paint_checkpoint(bundle: "Bundle", wish: Wish, tell: "OnProgress") -> Tile:
    """Draw one unit with torch, on the lattice's torus, and lay it."""
    quiet_diffusers()
    from halfdrop.hub.checkpoints.drawing import (  # noqa: PLC0415  torch: seconds
        GUIDANCE_SCALE,
        NUM_INFERENCE_STEPS,
        open_checkpoint,
    )
    from halfdrop.hub.checkpoints.tiles import lay_tile  # noqa: PLC0415
    from halfdrop.models.phrases import read_phrases  # noqa: PLC0415
    from halfdrop.models.pixel_seams import border_step_ratio  # noqa: PLC0415

    if "palette" in wish.options:
        raise InvalidInput(
            "--palette", got=",".join(wish.options["palette"]), allowed="nothing for a checkpoint: it paints"
        )
    read = read_phrases(wish.prompt)
    repeat = wish.options.get("repeat") or (
        read.repeat if read.names_scale else msgspec.structs.replace(read.repeat, units=1)
    )
    repeat = repeat.normalise()
    tell("loading", 0, 1)
    checkpoint = open_checkpoint(bundle.directory)
    wanted_px = wish.size_px // repeat.units if wish.size_px else checkpoint.native_px
    avoid = wish.options.get("negative_prompt")
    began_s = time.perf_counter()
    (unit,) = checkpoint.draw(
        [read.prompt],
        [wish.options["seed"]],
        repeat,
        checkpoint.fit_size_px(wanted_px, repeat),
        negative_prompts=[avoid] if avoid else None,
        guidance_scale=GUIDANCE_SCALE if wish.guidance is None else wish.guidance,
        num_inference_steps=wish.steps or NUM_INFERENCE_STEPS,
        on_step=lambda done, total: tell("drawing", done, total),
    )
    pixels = lay_tile(unit, repeat)
    drawn_s = time.perf_counter() - began_s
    return Tile(pixels=pixels, repeat=repeat, drawn_s=drawn_s, seam_ratio=border_step_ratio(pixels, repeat))


PAINTERS: "dict[str, Callable[[Bundle, Wish, OnProgress], Tile]]" = {
    "house-preview": _paint_house,
    "checkpoint": _paint_checkpoint,
}


def _write(pixels: "NDArray[np.uint8]", output: Path) -> None:
    from PIL import Image  # noqa: PLC0415  keeps --help quick

    image = Image.fromarray(pixels)
    if output.suffix.lower() == ".webp":
        image.save(output, lossless=True)
    else:
        image.save(output)
