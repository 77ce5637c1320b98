"""`halfdrop preview` and `halfdrop render`: from a prompt to a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.printing import INKS_MAX, PrintFormat, PrintOptions
from halfdrop.deploy.cli_options import (
    DEFAULT_URL,
    Avoid,
    Guidance,
    Loras,
    Model,
    Palette,
    Prompt,
    RepeatName,
    Seed,
    Steps,
    Units,
    Url,
    check_output,
    open_client,
    read_pattern,
)

if TYPE_CHECKING:
    from halfdrop.contracts.patterns import Wording
    from halfdrop.edge.client_answers import Prediction, Preview

TemplateName = Annotated[
    str, typer.Option(help="What it becomes: a template, as `halfdrop templates list` shows them.", show_default=False)
]
MASTER = "master.png"
STDOUT = Path("-")
FORMATS: tuple[PrintFormat, ...] = get_args(PrintFormat)


def preview(
    prompt: Prompt,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help='WebP file to write; "-" is stdout.')] = Path(
        "pattern.webp"
    ),
    size: Annotated[int, typer.Option(help="Width and height in pixels: 128, 256, 384 or 512.")] = 256,
    template: TemplateName = "",
    seed: Seed = 0,
    repeat: RepeatName = "",
    units: Units = 0,
    palette: Palette = "",
    avoid: Avoid = "",
    steps: Steps = 0,
    guidance: Guidance = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Draw a preview: one seamless tile, in milliseconds."""
    if output != STDOUT:
        check_output(output, suffixes=(".webp",))
    pattern = read_pattern(
        seed=seed, repeat=repeat, units=units, palette=palette, avoid=avoid, steps=steps, guidance=guidance
    )
    with open_client(url) as client:
        drawn = client.preview(prompt, size_px=size, template=template, **pattern)
    if output == STDOUT:
        sys.stdout.buffer.write(drawn.data)
    else:
        output.write_bytes(drawn.data)
    _say(f"{output}  {describe_preview(drawn)}")
    for line in say_wording(drawn):
        _say(line)


def render(
    prompt: Prompt,
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="PNG file to write the master to. Left out: pattern.png, unless --all."),
    ] = None,
    size: Annotated[
        int,
        typer.Option(help="Width and height in pixels, 64 to 8192; 0: 4096, or as the template or the model says."),
    ] = 0,
    template: TemplateName = "",
    model: Model = "",
    lora: Loras = None,
    all_dir: Annotated[
        Path | None,
        typer.Option(
            "--all", help="Directory for all files: master, one plate per colour, SVG, proof.", show_default=False
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(help=f"More files beside the master, separated by commas: {', '.join(FORMATS)}."),
    ] = "",
    colourway: Annotated[
        list[str] | None,
        typer.Option(help="More colours for the same plates, as --palette; once for each colourway, up to 8."),
    ] = None,
    repeat_mm: Annotated[
        float, typer.Option(help="Length of one tile on the cloth in mm; 0: 300 pixels to the inch.")
    ] = 0.0,
    mill_repeats: Annotated[
        str, typer.Option(help="Lengths in mm that the mill's screens have, separated by commas: 640,913.")
    ] = "",
    inks_max: Annotated[int, typer.Option(help="Inks that the press takes, ground included.")] = INKS_MAX,
    trap_mm: Annotated[float, typer.Option(help="How far lighter inks run on under darker ones.")] = 0.2,
    min_feature_mm: Annotated[float, typer.Option(help="The thinnest line that the mill prints.")] = 0.3,
    profile: Annotated[str, typer.Option(help="ICC profile that the hub has, for tiff-cmyk.")] = "",
    is_waiting: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the files, or only order them.")
    ] = True,
    job_class: Annotated[
        JobClass,
        typer.Option("--class", help="Who comes first: realtime before standard before bulk."),
    ] = "standard",
    seed: Seed = 0,
    repeat: RepeatName = "",
    units: Units = 0,
    palette: Palette = "",
    avoid: Avoid = "",
    steps: Steps = 0,
    guidance: Guidance = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Order print files, show their progress, and fetch them."""
    from halfdrop.deploy.cli_progress import check_succeeded, fetch, follow  # noqa: PLC0415  rich; keeps --help quick

    if template and output is None and all_dir is None:
        all_dir = Path(template.partition("@")[0])
    master_file = output or (Path("pattern.png") if all_dir is None else None)
    if master_file is not None and is_waiting:
        check_output(master_file, suffixes=(".png",))
    if all_dir is not None and all_dir.exists() and not all_dir.is_dir():
        raise InvalidInput("--all", got=str(all_dir), allowed="a directory, there already or to be made")
    pattern = read_pattern(
        seed=seed,
        repeat=repeat,
        units=units,
        palette=palette,
        avoid=avoid,
        steps=steps,
        guidance=guidance,
        model=model,
        loras=lora or (),
    )
    printing = PrintOptions(
        repeat_mm=repeat_mm or None,
        mill_repeats_mm=_read_lengths(mill_repeats),
        inks_max=inks_max,
        trap_mm=trap_mm,
        min_feature_mm=min_feature_mm,
        profile=profile,
    )
    with open_client(url) as client:
        ordered = client.order(
            prompt,
            size_px=size or None,
            template=template,
            job_class=job_class,
            formats=_read_formats(formats),
            colourways=[[colour.strip() for colour in text.split(",")] for text in colourway or ()],
            printing=None if printing == PrintOptions() else printing,
            **pattern,
        )
        for line in say_wording(ordered):
            _say(line)
        if not is_waiting:
            typer.echo(ordered.id)
            return
        try:
            finished = follow(client, ordered)
        except KeyboardInterrupt:
            later = f"halfdrop jobs fetch {ordered.id}, or: halfdrop jobs cancel {ordered.id}"
            _say(f"the order goes on without you; {later}")
            raise
        if finished.status == "failed" and finished.gates is not None and all_dir is not None:
            all_dir.mkdir(parents=True, exist_ok=True)
            fetch(client, finished, {name: all_dir / name for name in finished.files})
        check_succeeded(finished)
        if master_file is not None:
            others = [name for name in finished.files if _is_asked(name)] if all_dir is None else []
            fetch(client, finished, {MASTER: master_file} | {name: master_file.with_name(name) for name in others})
        if all_dir is not None:
            all_dir.mkdir(parents=True, exist_ok=True)
            fetch(client, finished, {name: all_dir / name for name in finished.files})


def describe_preview(drawn: "Preview") -> str:
    """One line on a preview: size, repeat, where it came from, its key."""
    repeat = drawn.spec.repeat
    layout = f"{repeat.drop} drop" if repeat.layout == "drop" else repeat.layout
    source = "from the cache" if "; hit" in drawn.cache_status else "drawn"
    return f"{drawn.size_px} px, {layout}, {repeat.units} across, {source}, key {drawn.key}"


def say_wording(answer: "Preview | Prediction | Wording") -> list[str]:
    """Return lines on the words that were read otherwise than written, or not at all; none where all are known."""
    lines = []
    if answer.read_as:
        lines.append("drawn instead: " + ", ".join(f"{thing} for {word}" for word, thing in answer.read_as.items()))
    if answer.unknown_words:
        lines.append(f"not in the model's vocabulary, and left out: {', '.join(answer.unknown_words)}")
    return lines


def _say(line: str) -> None:
    """Tell the person at the terminal; stdout is for what a script reads."""
    typer.echo(line, err=True)


def _is_asked(name: str) -> bool:
    """True for a file that was asked for beside the usual ones."""
    usual = name in (MASTER, "pattern.svg", "proof.png", "manifest.json") or name.startswith("plate-")
    return not usual


def _read_lengths(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(length) for length in text.split(",") if length.strip())
    except ValueError as error:
        raise InvalidInput("--mill-repeats", got=text, allowed="lengths in mm such as 640,913") from error


def _read_formats(text: str) -> list[PrintFormat]:
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in FORMATS]:
        raise InvalidInput("--formats", got=", ".join(unknown), allowed=", ".join(FORMATS))
    return [name for name in FORMATS if name in asked]
