"""`halfdrop models fetch`: published models on a node before a worker there needs them."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from halfdrop.deploy.cli_keys import DataDir, ObjectsUrl, open_store

KIB, MIB = 2**10, 2**20


def fetch_model(
    references: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…",
            help="Aliases (house@stable), names or digests of what is published; what is asked for most first.",
            show_default=False,
        ),
    ],
    *,
    to: Annotated[Path, typer.Option("--to", help="Folder, such as one of the node's.", show_default=False)],
    kib_s: Annotated[int, typer.Option("--kib-s", min=16, max=10_000_000, help="Bandwidth, in KiB a second.")] = 65_536,
    max_mib: Annotated[int, typer.Option("--max-mib", min=1, max=65_536, help="Largest model, in MiB.")] = 16_384,
    objects_url: ObjectsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Bring published models into a folder, each under its name.

    A hub told HALFDROP_HUB_BUNDLE_DIR=FOLDER/house@stable samples with it. What is there already is only checked.
    """
    from halfdrop.models.fetching import fetch_models  # noqa: PLC0415  keeps --help quick
    from halfdrop.runtime.bandwidth import Bandwidth  # noqa: PLC0415

    objects, bandwidth = open_store(objects_url, data_dir), Bandwidth(kib_s * KIB)
    fetching = fetch_models(objects, references, to, max_bytes=max_mib * MIB, pace=bandwidth.take)
    for one in asyncio.run(fetching):
        verb = "is there" if one.was_there else "fetched"
        bundle = one.bundle
        typer.echo(f"{one.link}  {bundle.digest[:12]}  {bundle.name}-{bundle.version}  {verb}")
