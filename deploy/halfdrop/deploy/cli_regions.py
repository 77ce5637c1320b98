"""`halfdrop regions`: the regions that edges send orders to; drain one, and let it take orders again."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import InvalidInput
from halfdrop.deploy.cli_options import Json

if TYPE_CHECKING:
    from halfdrop.deploy.regions import RegionState

DataDir = Annotated[Path, typer.Option(help="Data directory of `halfdrop up`, where --nats-url is left out.")]
NatsUrl = Annotated[
    str,
    typer.Option(
        "--nats-url",
        envvar="HALFDROP_HUB_NATS_URL",
        help="NATS server of that region's hub: nats://host:4222. Left out: the one in --data-dir.",
    ),
]
Name = Annotated[str, typer.Argument(help="Region, as HALFDROP_EDGE_HUBS names it.", show_default=False)]

regions_app = typer.Typer(
    name="regions", help="Regions: list, drain, undrain.", rich_markup_mode=None, no_args_is_help=True
)


@regions_app.command("list")
def list_regions(is_json: Json = False, data_dir: DataDir = Path("data")) -> None:
    """List the regions of the system in --data-dir: whether they answer and take orders, what waits, who works."""
    from halfdrop.deploy.regions import find_regions, read_regions  # noqa: PLC0415  keeps --help quick

    states = asyncio.run(read_regions(find_regions(data_dir)))
    if is_json:
        import msgspec  # noqa: PLC0415  only for --json

        typer.echo(msgspec.json.format(msgspec.json.encode(states), indent=2))
        return
    if not states:
        typer.echo(f"no regions in {data_dir}; halfdrop up makes one, or several with --regions", err=True)
    for state in states:
        workers = ", ".join(state.workers) or "no worker heard"
        typer.echo(f"{state.name:<16}  {_describe(state):<9}  {state.waiting:>7} jobs  {workers}")


@regions_app.command()
def drain(name: Name, nats_url: NatsUrl = "", data_dir: DataDir = Path("data")) -> None:
    """Send new orders elsewhere; what the region has, it finishes. Without another region orders wait at their edge."""
    _set_draining(name, nats_url, data_dir, is_draining=True)
    typer.echo(f"{name} takes no new orders from about a second on; `halfdrop regions list` shows what it still has")


@regions_app.command()
def undrain(name: Name, nats_url: NatsUrl = "", data_dir: DataDir = Path("data")) -> None:
    """Let the region take orders again."""
    _set_draining(name, nats_url, data_dir, is_draining=False)
    typer.echo(f"{name} takes orders again")


def _set_draining(name: str, nats_url: str, data_dir: Path, *, is_draining: bool) -> None:
    from halfdrop.deploy.regions import find_regions, set_draining  # noqa: PLC0415  keeps --help quick

    known = {name: nats_url} if nats_url else find_regions(data_dir)
    if name not in known:
        allowed = ", ".join(known) or f"a region of a `halfdrop up` in {data_dir}, or --nats-url of its hub"
        raise InvalidInput("NAME", got=name, allowed=allowed)
    asyncio.run(set_draining(name, known[name], is_draining))


def _describe(state: "RegionState") -> str:
    if not state.is_up:
        return "away"
    return "draining" if state.is_draining else "open"
