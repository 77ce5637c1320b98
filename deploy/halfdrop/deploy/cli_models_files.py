"""`halfdrop models import` and `export`: models in and out of the store."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError
from halfdrop.deploy.cli_options import DEFAULT_MODELS_DIR, ModelReference, ModelsDir, quiet_diffusers, read_repeat

if TYPE_CHECKING:
    from halfdrop.models.bundle import Bundle, OnProgress
    from halfdrop.models.store import ModelStore

INDEX_NAME = "model_index.json"
LORA_SUFFIX = ".safetensors"
IMPORTABLE = (
    f"a bundle's directory, a .halfdrop.tar, a checkpoint in diffusers' form (a directory with {INDEX_NAME}), or a "
    f"LoRA ({LORA_SUFFIX})"
)
NO_LICENCE = "unknown"


def import_model(
    path: Annotated[
        Path,
        typer.Argument(
            help="A bundle's directory, a .halfdrop.tar, a diffusers checkpoint's directory, or a LoRA (.safetensors).",
            show_default=False,
        ),
    ],
    name: Annotated[
        str,
        typer.Option(
            help="Name for a checkpoint or a LoRA. Left out: its directory's or its file's.", show_default=False
        ),
    ] = "",
    version: Annotated[
        str, typer.Option("--version", help="Version for a checkpoint or a LoRA. Left out: 1.", show_default=False)
    ] = "",
    licence: Annotated[
        str, typer.Option(help=f"Licence of a checkpoint or a LoRA. Left out: {NO_LICENCE}.", show_default=False)
    ] = "",
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
) -> None:
    """Bring a model into the store.

    It is checked, copied and checked again; a checkpoint is also tried and measured.
    """
    from halfdrop.deploy.cli_models_text import describe_bundle  # noqa: PLC0415  keeps --help quick
    from halfdrop.deploy.cli_progress import show_stages  # noqa: PLC0415
    from halfdrop.models.bundle import MANIFEST_NAME  # noqa: PLC0415
    from halfdrop.models.store import ModelStore  # noqa: PLC0415

    if not path.exists():
        raise NotFound(f"{path} does not exist; allowed: {IMPORTABLE}")
    is_bundle = path.is_dir() and (path / MANIFEST_NAME).exists()
    is_checkpoint = path.is_dir() and not is_bundle and (path / INDEX_NAME).exists()
    if path.is_dir() and not (is_bundle or is_checkpoint):
        raise InvalidInput("path", got=str(path), allowed=IMPORTABLE)
    is_lora = path.is_file() and path.suffix == LORA_SUFFIX
    if not (is_checkpoint or is_lora) and (given := [text for text in (name, version, licence) if text]):
        allowed = "nothing: only a checkpoint or a LoRA is named here; a bundle says itself what it is"
        raise InvalidInput("--name, --version, --licence", got=given[0], allowed=allowed)
    store = ModelStore(models_dir)
    known = {bundle.digest for bundle in store.bundles()}
    with show_stages() as tell:
        if is_checkpoint or is_lora:
            added = _import_users(store, path, name=name, version=version, licence=licence, tell=tell)
        elif is_bundle:
            added = store.add(path, on_progress=tell)
        else:
            added = _import_archive(store, path, tell)
    typer.echo(f"{describe_bundle(added)}  {'was here already' if added.digest in known else 'imported'}")


def export_model(
    reference: ModelReference,
    output: Annotated[
        Path, typer.Argument(help="File to write, NAME.halfdrop.tar; with --int8 a new directory.", show_default=False)
    ],
    is_int8: Annotated[
        bool, typer.Option("--int8", help="Turn a checkpoint into a bundle for the edge instead: ONNX, in INT8.")
    ] = False,
    repeat: Annotated[
        str,
        typer.Option(
            help="With --int8: the lattice to draw on, half-drop say. Left out: straight.", show_default=False
        ),
    ] = "",
    models_dir: ModelsDir = DEFAULT_MODELS_DIR,
) -> None:
    """Write a model to one file.

    `import` reads it on any machine; equal models give equal files.
    """
    from halfdrop.deploy.cli_progress import show_stages  # noqa: PLC0415  keeps --help quick
    from halfdrop.models.archives import ARCHIVE_SUFFIX, pack_bundle  # noqa: PLC0415
    from halfdrop.models.store import ModelStore  # noqa: PLC0415

    bundle = ModelStore(models_dir).find(reference)
    if is_int8:
        _export_int8(bundle, output, repeat)
        return
    if repeat:
        raise InvalidInput("--repeat", got=repeat, allowed="--int8 beside it")
    if not output.name.endswith(ARCHIVE_SUFFIX) or not output.parent.is_dir():
        allowed = f"a name that ends in {ARCHIVE_SUFFIX}, in a directory that exists"
        raise InvalidInput("output", got=str(output), allowed=allowed)
    with show_stages() as tell:
        size_bytes = pack_bundle(bundle, output, on_progress=tell)
    typer.echo(f"{output}  {size_bytes / 1e6:.2f} MB", err=True)


def _import_archive(store: "ModelStore", path: Path, tell: "OnProgress") -> "Bundle":
    from halfdrop.models.archives import read_archive_manifest, unpack_bundle  # noqa: PLC0415  keeps --help quick

    if path.suffix != ".tar":
        raise InvalidInput("path", got=str(path), allowed=IMPORTABLE)
    files = read_archive_manifest(path).files.values()
    with store.incoming(size_bytes=sum(file.bytes for file in files)) as room:
        unpack_bundle(path, room, on_progress=tell)
        return store.adopt(room, on_progress=tell)


def _import_users(
    store: "ModelStore", path: Path, *, name: str, version: str, licence: str, tell: "OnProgress"
) -> "Bundle":
    from halfdrop.models.bundle import NAME_PATTERN  # noqa: PLC0415  keeps --help quick

    own_name = path.resolve().stem if path.is_file() else path.resolve().name
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", own_name).strip("-._")[:64]
    for option, value in (("--name", name), ("--version", version or "1")):
        if not re.match(NAME_PATTERN, value):
            raise InvalidInput(option, got=value, allowed="up to 64 letters, digits, dots, dashes and underscores")
    quiet_diffusers()
    try:
        from halfdrop.hub.checkpoints.importing import import_checkpoint  # noqa: PLC0415  torch: seconds
        from halfdrop.hub.checkpoints.lora_importing import check_lora, import_lora  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _not_installed("importing a checkpoint", error) from error
    if path.is_file():
        check_lora(path)  # before a store is made for it
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    bring = import_lora if path.is_file() else import_checkpoint
    with store.incoming(size_bytes=sum(file.stat().st_size for file in files)) as room:
        bring(path, room, name=name, version=version or "1", licence=licence or NO_LICENCE, on_progress=tell)
        return store.adopt(room, on_progress=tell)


def _export_int8(bundle: "Bundle", output: Path, repeat: str) -> None:
    from halfdrop.deploy.cli_models_text import describe_bundle  # noqa: PLC0415  keeps --help quick
    from halfdrop.deploy.cli_progress import show_stages  # noqa: PLC0415
    from halfdrop.models.bundle import open_bundle  # noqa: PLC0415

    if bundle.manifest.kind != "checkpoint":
        got = f"{bundle.name}-{bundle.version}, a {bundle.manifest.kind}"
        raise InvalidInput("--int8", got=got, allowed="a checkpoint; the house model is in INT8 already")
    if output.exists():
        raise InvalidInput("output", got=str(output), allowed="a directory that does not exist yet")
    lattice = read_repeat(repeat, 0) if repeat else None
    quiet_diffusers()
    try:
        from halfdrop.hub.checkpoints.exporting import export_int8  # noqa: PLC0415  torch: seconds
    except ModuleNotFoundError as error:
        raise _not_installed("exporting to INT8", error) from error
    with show_stages() as tell:
        export_int8(bundle.directory, output, on_progress=tell, repeat=lattice)
    typer.echo(describe_bundle(open_bundle(output)))
    typer.echo(f"halfdrop models import {output} brings it into the store", err=True)


def _not_installed(what: str, error: ModuleNotFoundError) -> PermanentError:
    return PermanentError(f"{what} needs {error.name}, which is not installed here", code="not-installed")
