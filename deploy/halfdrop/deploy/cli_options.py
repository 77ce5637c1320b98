"""Options that several commands share, and how their text becomes what the client takes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from halfdrop.contracts.errors import InvalidInput
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
Steps = Annotated[int, typer.Option(help="Drawing steps, 1 to 8; the shipped model is made for 2.")]
Guidance = Annotated[float, typer.Option(help="How strictly --avoid is obeyed, 0 to 5.")]
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
    *, seed: int, repeat: str, units: int, palette: str, avoid: str, steps: int, guidance: float
) -> "PatternOptions":
    """Return the pattern members that the options name. Raises InvalidInput for a repeat that nobody lays."""
    options: PatternOptions = {"seed": seed, "num_inference_steps": steps}
    if repeat:
        options["repeat"] = read_repeat(repeat, units)
    elif units:
        raise InvalidInput(
            "--units", got=units, allowed='--repeat beside it, or a word in the prompt: "small", "large"'
        )
    if palette:
        options["palette"] = tuple(colour.strip() for colour in palette.split(","))
    if avoid:
        options |= {"negative_prompt": avoid, "guidance_scale": guidance}
    return options


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
