"""`halfdrop models`: the model bundles that came with this installation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from halfdrop.models.bundle import Bundle

models_app = typer.Typer(name="models", help="Models: list, verify.", rich_markup_mode=None, no_args_is_help=True)


@models_app.command("list")
def list_models() -> None:
    """List the shipped bundles."""
    from halfdrop.models.bundle import shipped_bundle_dir  # noqa: PLC0415  keeps --help quick

    _print_bundle(shipped_bundle_dir())


@models_app.command()
def verify(
    directory: Annotated[
        Path | None, typer.Argument(help="Bundle to verify; the shipped one if left out.", show_default=False)
    ] = None,
) -> None:
    """Check every file of a bundle against the digests in its manifest."""
    from halfdrop.models.bundle import shipped_bundle_dir  # noqa: PLC0415  keeps --help quick

    bundle = _print_bundle(directory or shipped_bundle_dir())
    for path, file in sorted(bundle.manifest.files.items()):
        typer.echo(f"  ok  {file.sha256[:12]}  {file.bytes:>10,} B  {path}")


def _print_bundle(directory: Path) -> "Bundle":
    """Open a bundle, which checks every file of it, and print a line about it."""
    from halfdrop.models.bundle import open_bundle  # noqa: PLC0415  keeps --help quick

    bundle = open_bundle(directory)
    size_mb = sum(file.bytes for file in bundle.manifest.files.values()) / 1e6
    typer.echo(f"{bundle.name}-{bundle.version}  {bundle.digest[:16]}  {size_mb:.1f} MB  {bundle.manifest.licence}")
    return bundle
