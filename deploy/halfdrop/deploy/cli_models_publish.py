"""`halfdrop models publish` and `serve`: which bundle a region's edges draw with. No edge need run."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from halfdrop.contracts.errors import InvalidInput
from halfdrop.deploy.cli_keys import DataDir, ObjectsUrl, open_store
from halfdrop.deploy.cli_options import DEFAULT_MODELS_DIR, ModelReference, ModelsDir

Alias = Annotated[
    str | None,
    typer.Argument(metavar="[NAME@LABEL]", help="Alias that edges follow: house@stable.", show_default=False),
]


def publish_model(
    reference: ModelReference,
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
    objects_url: ObjectsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Copy a model into the edges' object store.

    Nothing serves it yet: `halfdrop models serve` says which one edges draw with.
    """
    from halfdrop.deploy.cli_models_text import describe_bundle  # noqa: PLC0415  keeps --help quick
    from halfdrop.deploy.cli_progress import show_stages  # noqa: PLC0415
    from halfdrop.models.published import publish_bundle  # noqa: PLC0415
    from halfdrop.models.store import ModelStore  # noqa: PLC0415

    bundle = ModelStore(models_dir).find(reference)
    with show_stages() as tell:
        asyncio.run(publish_bundle(open_store(objects_url, data_dir), bundle, on_progress=tell))
    typer.echo(f"{describe_bundle(bundle)}  published")


def serve_model(
    alias: Alias = None,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Published model: name, name-version or digest.", show_default=False),
    ] = None,
    is_drop: Annotated[bool, typer.Option("--drop", help="Forget the alias; edges keep what they serve.")] = False,
    objects_url: ObjectsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Have edges draw with a published model from now on, or list which they do.

    They fetch, check and warm it, and answer with the old one until then. To go back, name the old one.
    """
    from halfdrop.models import published  # noqa: PLC0415  keeps --help quick

    store = open_store(objects_url, data_dir)
    if alias and reference and not is_drop:
        digest, manifest = asyncio.run(published.set_alias(store, alias, reference))
        typer.echo(f"{alias}  {digest[:12]}  {manifest.name}-{manifest.version}")
    elif alias and is_drop and not reference:
        asyncio.run(published.drop_alias(store, alias))
    elif alias or reference or is_drop:
        raise InvalidInput("arguments", got=alias or "--drop", allowed="NAME@LABEL MODEL, or --drop NAME@LABEL")
    else:
        for name, meant in asyncio.run(published.read_aliases(store)).items():
            typer.echo(f"{name}  {meant.digest[:12]}")
