"""`halfdrop webhooks`: the webhooks of a tenant, at an edge."""

from collections.abc import Callable
from typing import Annotated

import typer

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.cli_options import DEFAULT_URL, Json, Url, open_client, printable

LIST_MAX = 1000

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Where a webhook goes.", show_default=False)]

webhooks_app = typer.Typer(
    name="webhooks",
    help="Webhooks: servers, dead deliveries, the secret that signs.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@webhooks_app.command("list")
def list_endpoints(is_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """List the servers that webhooks go to: how they do, what waits for them, and addresses that are disabled."""
    with open_client(url) as client:
        found = client.webhooks.endpoints()
    if is_json:
        _print_json(found)
        return
    if not found:
        typer.echo("no webhook was sent anywhere since this edge started", err=True)
    for endpoint in found:
        remark = f"  {printable(endpoint.last_failure)}" if endpoint.failures_in_a_row else ""
        again = f", again at {endpoint.retry_at}" if endpoint.breaker == "open" else ""
        typer.echo(f"{endpoint.endpoint}  {endpoint.breaker}{again}  {endpoint.waiting} waiting{remark}")
        for address in endpoint.disabled:
            typer.echo(f"  disabled  {printable(address)}")


@webhooks_app.command()
def dead(
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="Show at most so many.")] = 20,
    is_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List deliveries that were given up on, the last first."""
    with open_client(url) as client:
        found = client.webhooks.dead(limit=limit)
    if is_json:
        _print_json(found)
        return
    if not found:
        typer.echo("no dead deliveries", err=True)
    for delivery in found:
        failed = (delivery.failed_at or "")[:19].replace("T", " ")
        cause = f"{delivery.code:<10}  {printable(delivery.reason)}"
        typer.echo(f"{delivery.id}  {failed}  {delivery.attempts:>2} attempts  {cause}")


@webhooks_app.command()
def replay(
    webhook_id: Annotated[str, typer.Argument(help="webhook-id; left out with --all.", show_default=False)] = "",
    is_all: Annotated[bool, typer.Option("--all", help="Replay every dead delivery.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Try a dead delivery again from the start, under its old webhook-id."""
    with open_client(url) as client:
        for name in _choose(webhook_id, is_all, lambda: [one.id for one in reversed(client.webhooks.dead())]):
            delivery = client.webhooks.replay(name)
            typer.echo(f"{delivery.id}  replayed")


@webhooks_app.command()
def drop(
    webhook_id: Annotated[str, typer.Argument(help="webhook-id; left out with --all.", show_default=False)] = "",
    is_all: Annotated[bool, typer.Option("--all", help="Forget every dead delivery.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Forget a dead delivery."""
    with open_client(url) as client:
        for name in _choose(webhook_id, is_all, lambda: [one.id for one in client.webhooks.dead()]):
            client.webhooks.drop(name)
            typer.echo(f"{name}  dropped")


@webhooks_app.command()
def secret(url: Url = DEFAULT_URL) -> None:
    """Print the secret that signs deliveries, for a receiver's library; made when it is first asked for."""
    with open_client(url) as client:
        typer.echo(client.webhooks.secret())


@webhooks_app.command()
def rotate(
    is_at_once: Annotated[
        bool, typer.Option("--at-once", help="End the secrets before it now: for one that somebody has seen.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a new secret and print it; the one before signs along for 24 hours."""
    with open_client(url) as client:
        typer.echo(client.webhooks.rotate(is_at_once=is_at_once))


@webhooks_app.command()
def enable(address: Address, url: Url = DEFAULT_URL) -> None:
    """Deliver again to an address that answered 410 Gone."""
    with open_client(url) as client:
        client.webhooks.enable(address)
    typer.echo(f"{printable(address)}  enabled; `halfdrop webhooks replay --all` sends what died meanwhile")


@webhooks_app.command("test")
def send_test(address: Address, url: Url = DEFAULT_URL) -> None:
    """Send one signed delivery that tells of nothing, and say how it went. Exit status 1 if it was not taken."""
    with open_client(url) as client:
        told = client.webhooks.test(address)
    if not told.delivered:
        raise PermanentError(f"not delivered: {told.code}: {printable(told.reason)}", code="not-delivered")
    typer.echo(f"delivered in {told.elapsed_s:.2f} s: {told.status}")


def _choose(webhook_id: str, is_all: bool, find_all: Callable[[], list[str]]) -> list[str]:
    if bool(webhook_id) == is_all:
        raise typer.BadParameter("give one webhook-id, or --all")
    return find_all() if is_all else [webhook_id]


def _print_json(value: object) -> None:
    import msgspec  # noqa: PLC0415  only for --json

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
