"""`halfdrop keys`: the API keys of a region, in its object store. No edge need run."""

import asyncio
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.deploy.cli_options import Json, printable

if TYPE_CHECKING:
    from halfdrop.edge.keys import KeyRecord
    from halfdrop.runtime.objects import ObjectStore

DAY_S = 86_400.0

ObjectsUrl = Annotated[
    str,
    typer.Option(
        "--objects-url",
        envvar="HALFDROP_EDGE_OBJECTS_URL",
        help="The edges' object store: file:///directory, s3://bucket/prefix. Left out: the one in --data-dir.",
    ),
]
DataDir = Annotated[Path, typer.Option(help="Data directory of `halfdrop up`, where --objects-url is left out.")]


class ScopeName(StrEnum):
    """`halfdrop.edge.keys.Scope`, in the form that typer reads."""

    PREVIEWS = "previews"
    ORDERS = "orders"
    ADMIN = "admin"


class TierName(StrEnum):
    """`halfdrop.edge.keys.Tier`, in the form that typer reads."""

    STANDARD = "standard"
    PLUS = "plus"
    UNLIMITED = "unlimited"


keys_app = typer.Typer(
    name="keys",
    help="API keys: create, list, revoke; and the key that signs addresses.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@keys_app.command()
def create(
    *,
    tenant: Annotated[str, typer.Option(help='Whose key it is; "local" owns what an open edge made.')],
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(help="What it may do; give several one by one. Left out: previews, orders."),
    ] = None,
    tier: Annotated[TierName, typer.Option(help="How much its tenant may ask for.")] = TierName.STANDARD,
    label: Annotated[str, typer.Option(help="A remark for `halfdrop keys list`: who or what uses it.")] = "",
    days: Annotated[int, typer.Option(min=0, max=3650, help="Days until it expires; 0: never.")] = 0,
    objects_url: ObjectsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Make a key and print it, once: only its SHA-256 is kept."""
    from halfdrop.edge.keys import create_key  # noqa: PLC0415  keeps --help quick

    now = time.time()
    names = scope or [ScopeName.PREVIEWS, ScopeName.ORDERS]
    made = create_key(
        open_store(objects_url, data_dir),
        tenant=tenant,
        scopes=tuple(name.value for name in dict.fromkeys(names)),
        tier=tier.value,
        label=label,
        now=now,
        expires_at=now + days * DAY_S if days else None,
    )
    key, record = asyncio.run(made)
    typer.echo(key)
    typer.echo(f"key {record.id} of tenant {tenant}: keep it, it is shown this once", err=True)


@keys_app.command("list")
def list_keys(is_json: Json = False, objects_url: ObjectsUrl = "", data_dir: DataDir = Path("data")) -> None:
    """List all keys, oldest first, without what would open anything."""
    from halfdrop.edge.keys import read_keys  # noqa: PLC0415  keeps --help quick

    records = asyncio.run(read_keys(open_store(objects_url, data_dir)))
    if is_json:
        import msgspec  # noqa: PLC0415  only for --json

        typer.echo(msgspec.json.format(msgspec.json.encode(records), indent=2))
        return
    if not records:
        typer.echo("no keys yet; halfdrop keys create makes one", err=True)
    now = time.time()
    for record in records:
        scopes = ",".join(record.scopes)
        state = _describe_state(record, now)
        typer.echo(
            f"{record.id}  {record.tenant:<16}  {scopes:<16}  {record.tier:<9}  {state:<18}  {printable(record.label)}"
        )


@keys_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `halfdrop keys list` shows it.", show_default=False)],
    objects_url: ObjectsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Revoke a key, everywhere in about a second."""
    from halfdrop.edge.keys import revoke_key  # noqa: PLC0415  keeps --help quick

    record = asyncio.run(revoke_key(open_store(objects_url, data_dir), key_id, now=time.time()))
    typer.echo(f"{record.id}  {record.tenant}  {_describe_state(record, time.time())}")


@keys_app.command("rotate-signing")
def rotate_signing(
    is_at_once: Annotated[
        bool, typer.Option("--at-once", help="End all addresses signed so far: for a secret that somebody has seen.")
    ] = False,
    objects_url: ObjectsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Make a new secret for signing the addresses of pictures and files; those signed so far expire when they would."""
    from halfdrop.edge.signing_keys import SETTLE_S, rotate_signing_key  # noqa: PLC0415  keeps --help quick

    made = rotate_signing_key(open_store(objects_url, data_dir), now=time.time(), is_at_once=is_at_once)
    key = asyncio.run(made)
    when = "from about a second on; addresses signed before are refused" if is_at_once else f"in {SETTLE_S:g} s"
    typer.echo(f"signing key {key.id} signs {when}")


def open_store(objects_url: str, data_dir: Path) -> "ObjectStore":
    """Return the edges' object store, for commands."""
    from halfdrop.deploy.folder import DataFolder  # noqa: PLC0415  keeps --help quick
    from halfdrop.runtime.objects import BlockingObjectStore, open_objects  # noqa: PLC0415

    url = objects_url or DataFolder(data_dir).objects.resolve().as_uri()
    return open_objects(url, kind=BlockingObjectStore)


def _describe_state(record: "KeyRecord", now: float) -> str:
    if record.revoked_at is not None:
        return f"revoked {_day(record.revoked_at)}"
    if record.expires_at is None:
        return "valid"
    return f"{'valid to' if now < record.expires_at else 'expired'} {_day(record.expires_at)}"


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()
