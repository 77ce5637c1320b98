"""Options that several commands share, and how their text becomes what the client takes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import LoraWish
from halfdrop.contracts.repeats import Repeat

if TYPE_CHECKING:
    from halfdrop.edge.client import HalfdropClient, PatternOptions

DEFAULT_URL = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option("--url", envvar="HALFDROP_URL", help="Where the edge answers.")]
Prompt = Annotated[str, typer.Argument(help='What to draw: "red polka dots on white, half-drop".', show_default=False)]
Seed = Annotated[int, typer.Option(help="0 to 4294967295; the same seed gives the same pattern.")]
RepeatName = Annotated[
    str,
    typer.Option(
        "--repeat",
        help='straight, half-drop, brick, mirror, or a drop: "1/3", "1/4 rows". Left out: read from the prompt.',
    ),
]
Units = Annotated[int, typer.Option(min=0, max=16, help="Units across the tile, with --repeat; 0 leaves the default.")]
Palette = Annotated[
    str,
    typer.Option(help='Up to five colours for ground, motif, accents: "#fbfaf6,#c8202f". Left out: the model\'s.'),
]
Avoid = Annotated[str, typer.Option(help="What to keep out of the picture.")]
Steps = Annotated[
    int,
    typer.Option(help="Drawing steps; 0: the model's own: 2 of the house's (1 to 8), 30 of an imported one."),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="How strictly --avoid is obeyed, 0 to 5; by an imported model, the prompt too, 0 to 30.",
        show_default=False,
    ),
]
Model = Annotated[str, typer.Option(help="A model that was imported, by name or digest. Left out: the house's.")]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", help='A LoRA for an imported model, "NAME" or "NAME:0.8"; once for each, up to 8.'),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelsDir = Annotated[
    Path, typer.Option("--models-dir", envvar="HALFDROP_MODELS_DIR", help="The model store: where imported models are.")
]
DEFAULT_MODELS_DIR = Path("data/models")
"""In `halfdrop up`'s default data directory."""

ModelReference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Name, name-version, alias (house@stable), digest or at least its first 8 digits.",
        show_default=False,
    ),
]


def open_client(url: str) -> "HalfdropClient":
    """Return a client for the edge at `url`. Raises InvalidInput for anything that is not an http(s) URL."""
    from halfdrop.edge.client import HalfdropClient  # noqa: PLC0415  httpx takes longer to import than --help may

    if not url.startswith(("http://", "https://")):
        raise InvalidInput("--url", got=url, allowed=f"an address such as {DEFAULT_URL}")
    return HalfdropClient(url)


def read_pattern(
    *,
    seed: int,
    repeat: str,
    units: int,
    palette: str,
    avoid: str,
    steps: int,
    guidance: float | None,
    model: str = "",
    loras: Sequence[str] = (),
) -> "PatternOptions":
    """Return the pattern members that the options name. Raises InvalidInput for a repeat that nobody lays."""
    options: PatternOptions = {"seed": seed}
    if steps:
        options["num_inference_steps"] = steps
    if model:
        options["model"] = model
    if loras:
        options["loras"] = tuple(_read_lora(text) for text in loras)
    if repeat:
        options["repeat"] = read_repeat(repeat, units)
    elif units:
        raise InvalidInput(
            "--units", got=units, allowed='--repeat beside it, or a word in the prompt: "small", "large"'
        )
    if palette:
        options["palette"] = tuple(colour.strip() for colour in palette.split(","))
    if avoid:
        options["negative_prompt"] = avoid
    if guidance is not None and (avoid or model):
        options["guidance_scale"] = guidance
    return options


def _read_lora(text: str) -> LoraWish:
    """Return the LoRA and its weight that `text` names. The weight is what follows the last colon, if it is a number:
    a name may have a digest behind a colon of its own."""
    name, colon, weight = text.rpartition(":")
    try:
        return LoraWish(name=name, weight=float(weight)) if colon else LoraWish(name=text)
    except ValueError:
        return LoraWish(name=text)


def quiet_diffusers() -> None:
    """Keep diffusers' remarks on the installation off the terminal; call it before diffusers is imported."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


def printable(text: str) -> str:
    """Return `text`, which somebody else wrote, without what could move a terminal's cursor or change its colours."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def check_output(path: Path, *, suffixes: tuple[str, ...]) -> Path:
    """Return `path` if a file of these kinds can be put there. Raises InvalidInput before anything is ordered."""
    if path.suffix.lower() not in suffixes:
        raise InvalidInput("--output", got=str(path), allowed=f"a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InvalidInput("--output", got=str(path), allowed="a file in a directory that exists")
    return path


def read_repeat(text: str, units: int) -> Repeat:
    """Return the lattice that `text` names; its finer limits are checked where it is normalised."""
    name, _, axis = text.partition(" ")
    layout, drop = ("drop", name) if "/" in name else (name, "")
    try:
        return msgspec.convert(
            {"layout": layout, "drop": drop, "axis": axis or "columns"} | ({"units": units} if units else {}), Repeat
        )
    except msgspec.ValidationError as error:
        allowed = 'straight, half-drop, brick, mirror, or a drop such as "1/3" or "1/4 rows"'
        raise InvalidInput("--repeat", got=text, allowed=allowed) from error
