"""`halfdrop reproduce`: make an order's files again from its manifest, and say which are the same to the bit."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.deploy.cli_options import DEFAULT_MODELS_DIR, ModelsDir, quiet_diffusers


def reproduce(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest.json of an order.", exists=True, dir_okay=False, show_default=False)
    ],
    *,
    into: Annotated[
        Path | None, typer.Option(help="Folder to write the files to; left out: they are only compared.")
    ] = None,
    refiner_dir: Annotated[
        Path | None, typer.Option(help="Bundle of the refiner that drew the order; left out: the shipped one.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="ICC profile that the order named.", exists=True, dir_okay=False)
    ] = None,
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="What to refine or paint on.")] = "cpu",
) -> None:
    """Make an order's files again from its manifest alone; exit status 1 if any differs.

    An order that an imported model painted needs that model in the store.
    """
    quiet_diffusers()
    try:
        from halfdrop.hub.printing.reproducing import reproduce as make_again  # noqa: PLC0415  seconds
    except ImportError as error:
        raise PermanentError(f"{error}; install halfdrop[hub]", code="not-installed") from error
    from halfdrop.models.bundle import shipped_refiner_dir  # noqa: PLC0415

    if into is not None:
        if into.exists() and not into.is_dir():
            raise InvalidInput("--into", got=str(into), allowed="a folder, there already or to be made")
        into.mkdir(parents=True, exist_ok=True)
    made = make_again(
        manifest.read_bytes(),
        refiner_dir=refiner_dir or shipped_refiner_dir(),
        into=into,
        device=device,
        profile=profile.read_bytes() if profile is not None else b"",
        models_dir=models_dir,
    )
    for name in made.equal:
        typer.echo(f"equal    {name}")
    for name in made.different:
        typer.echo(f"differs  {name}")
    for name in made.missing:
        typer.echo(f"missing  {name}  (this release does not make it)")
    for line in made.elsewhere:
        typer.echo(f"made on another device or by other tools: {line}", err=True)
    if made.different or made.missing:
        raise PermanentError(f"{len(made.different) + len(made.missing)} files differ", code="not-reproduced")
    typer.echo(f"all {len(made.equal)} files are the same to the bit", err=True)
