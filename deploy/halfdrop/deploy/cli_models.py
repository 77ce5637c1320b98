"""`halfdrop models`: the models that came with this installation, and those of a local store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError
from halfdrop.deploy.cli_models_fetch import fetch_model
from halfdrop.deploy.cli_models_files import export_model, import_model
from halfdrop.deploy.cli_models_publish import publish_model, serve_model
from halfdrop.deploy.cli_models_try import try_model
from halfdrop.deploy.cli_options import DEFAULT_MODELS_DIR, Json, ModelReference, ModelsDir

if TYPE_CHECKING:
    from halfdrop.models.bundle import Bundle
    from halfdrop.models.store import ModelStore

models_app = typer.Typer(
    name="models",
    help="Models: list, show, verify, import, export, try, alias, remove, publish, serve, fetch.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@models_app.command("list")
def list_models(is_json: Json = False, models_dir: ModelsDir = DEFAULT_MODELS_DIR) -> None:
    """List the models that are here."""
    from halfdrop.deploy.cli_models_text import list_rows, print_json, summaries  # noqa: PLC0415  keeps --help quick
    from halfdrop.models.store import ModelStore  # noqa: PLC0415

    store = ModelStore(models_dir)
    found = summaries(store.bundles(), store.aliases())
    if is_json:
        print_json(found)
    else:
        for row in list_rows(found):
            typer.echo(row)
    for name, error in store.damaged().items():
        typer.echo(f"damaged: {name[:12]}: {error.detail}", err=True)


@models_app.command("show")
def show_model(reference: ModelReference, is_json: Json = False, models_dir: ModelsDir = DEFAULT_MODELS_DIR) -> None:
    """Show what a model is, and what was measured."""
    from halfdrop.deploy.cli_models_text import print_json, show_rows, summaries  # noqa: PLC0415  keeps --help quick
    from halfdrop.models.bundle import read_facts  # noqa: PLC0415
    from halfdrop.models.store import ModelStore  # noqa: PLC0415

    store = ModelStore(models_dir)
    bundle = store.find(reference)
    (summary,), facts = summaries([bundle], store.aliases()), read_facts(bundle.directory)
    if is_json:
        print_json({"summary": summary, "manifest": facts})
        return
    for row in show_rows(summary, bundle.manifest, facts):
        typer.echo(row)


@models_app.command()
def verify(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|DIR]",
            help="Model, as in `show`, or a bundle's directory (with a / in it); all models if left out.",
            show_default=False,
        ),
    ] = None,
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
) -> None:
    """Compare every file with its digest."""
    from halfdrop.models.store import ModelStore  # noqa: PLC0415  keeps --help quick

    store = ModelStore(models_dir)
    if model is not None:
        _verify(_choose_directory(store, model))
        return
    wrong = list(store.damaged().values())
    for bundle in store.bundles():
        try:
            _verify(bundle.directory)
        except PermanentError as error:
            wrong.append(error)
    for earlier in wrong[:-1]:
        typer.echo(f"halfdrop: {earlier.detail}", err=True)
    if wrong:
        raise wrong[-1]


@models_app.command("alias")
def alias_model(
    alias: Annotated[
        str | None, typer.Argument(metavar="NAME@LABEL", help="Alias, such as house@stable.", show_default=False)
    ] = None,
    reference: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="What it is to mean, as in `show`.", show_default=False)
    ] = None,
    is_drop: Annotated[bool, typer.Option("--drop", help="Forget the alias.")] = False,
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
) -> None:
    """Name a model house@stable, or list such names."""
    from halfdrop.models.store import ModelStore  # noqa: PLC0415  keeps --help quick

    store = ModelStore(models_dir)
    if is_drop and alias and not reference:
        store.drop_alias(alias)
    elif alias and reference and not is_drop:
        bundle = store.set_alias(alias, reference)
        typer.echo(f"{alias}  {bundle.digest[:12]}  {bundle.name}-{bundle.version}")
    elif alias or reference or is_drop:
        raise InvalidInput("arguments", got=alias or "--drop", allowed="NAME@LABEL MODEL, or --drop NAME@LABEL")
    else:
        names = {bundle.digest: f"{bundle.name}-{bundle.version}" for bundle in store.bundles()}
        for name, digest in sorted(store.aliases().items()):
            typer.echo(f"{name}  {digest[:12]}  {names.get(digest, 'not here any more')}")


@models_app.command()
def remove(
    reference: ModelReference,
    is_with_aliases: Annotated[
        bool, typer.Option("--with-aliases", help="Remove it even if it has aliases, and drop those.")
    ] = False,
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
) -> None:
    """Remove an imported model.

    A damaged one goes by its whole digest. What came with the installation stays.
    """
    from halfdrop.models.store import ModelStore  # noqa: PLC0415  keeps --help quick

    removed = ModelStore(models_dir).remove(reference, is_with_aliases=is_with_aliases)
    typer.echo(f"removed {removed.name}-{removed.version} {removed.digest[:12]}" if removed else f"removed {reference}")


models_app.command("import")(import_model)
models_app.command("export")(export_model)
models_app.command("try")(try_model)
models_app.command("publish")(publish_model)
models_app.command("serve")(serve_model)
models_app.command("fetch")(fetch_model)


def _choose_directory(store: "ModelStore", model: str) -> Path:
    """Return the directory that is meant: a model's, or any when it is written as a path."""
    if "/" in model:
        return Path(model)
    try:
        return store.find(model).directory
    except NotFound:
        if Path(model).is_dir():
            return Path(model)
        raise


def _verify(directory: Path) -> "Bundle":
    from halfdrop.deploy.cli_models_text import describe_bundle  # noqa: PLC0415  keeps --help quick
    from halfdrop.deploy.cli_progress import show_stages  # noqa: PLC0415
    from halfdrop.models.bundle import open_bundle  # noqa: PLC0415

    with show_stages() as tell:
        bundle = open_bundle(directory, on_progress=tell)
    typer.echo(describe_bundle(bundle))
    for path, file in sorted(bundle.manifest.files.items()):
        typer.echo(f"  ok  {file.sha256[:12]}  {file.bytes:>14,} B  {path}")
    return bundle
