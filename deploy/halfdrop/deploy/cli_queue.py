"""`halfdrop queue`: how the hub's queue stands, and how it is shared while workers run."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from halfdrop.contracts.errors import InvalidInput, PermanentError, TransientError, Unavailable
from halfdrop.deploy.cli_options import Json, printable

if TYPE_CHECKING:
    from halfdrop.deploy.queue_view import QueueView
    from halfdrop.hub.policy import QueuePolicy
    from halfdrop.runtime.broker import Broker

T = TypeVar("T")

NatsUrl = Annotated[
    str,
    typer.Option(
        "--nats",
        envvar="HALFDROP_HUB_NATS_URL",
        help="The hub's NATS server: nats://host:4222. Left out: that of the `halfdrop up` in --data-dir.",
    ),
]
DataDir = Annotated[Path, typer.Option(help="Data directory of `halfdrop up`, where --nats is left out.")]
Region = Annotated[
    str, typer.Option(envvar="HALFDROP_HUB_REGION", help="Region of that hub: part of its JetStream domain.")
]


class ClassName(StrEnum):
    """`halfdrop.contracts.jobs.JobClass`, in the form that typer reads."""

    REALTIME = "realtime"
    STANDARD = "standard"
    BULK = "bulk"


queue_app = typer.Typer(
    name="queue",
    help="The hub's queue: show it, weigh its classes, cap a tenant.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@queue_app.command()
def show(is_json: Json = False, nats: NatsUrl = "", region: Region = "local", data_dir: DataDir = Path("data")) -> None:
    """Show what waits in each lane, how the classes are weighed, who is capped, and which workers were heard."""
    from halfdrop.deploy.queue_view import look_at_queue  # noqa: PLC0415  keeps --help quick

    view = _at_hub(lambda broker: look_at_queue(broker, region), nats=nats, region=region, data_dir=data_dir)
    if is_json:
        import msgspec  # noqa: PLC0415  only for --json

        typer.echo(msgspec.json.format(msgspec.json.encode(view), indent=2))
        return
    _print_view(view)


@queue_app.command()
def weights(
    shares: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLASS=WEIGHT]...",
            help="realtime=8 standard=3 bulk=1; a class left out keeps its weight. None at all: print the weights.",
            show_default=False,
        ),
    ] = None,
    nats: NatsUrl = "",
    region: Region = "local",
    data_dir: DataDir = Path("data"),
) -> None:
    """Weigh the classes against each other: what each gets while all of them have jobs. Workers follow at once."""
    from halfdrop.hub.policy import read_policy  # noqa: PLC0415  keeps --help quick

    wanted = [_read_share(text) for text in shares or []]

    def change(policy: "QueuePolicy") -> "QueuePolicy":
        for name, weight in wanted:
            policy = policy.with_weight(name.value, weight)
        return policy

    policy = _change(change, nats, region, data_dir) if wanted else _at_hub(
        read_policy, nats=nats, region=region, data_dir=data_dir
    )  # fmt: skip
    typer.echo("  ".join(f"{name}={weight:g}" for name, weight in policy.all_weights().items()))


@queue_app.command()
def cap(
    *,
    tenant: Annotated[str, typer.Argument(help="Whose jobs.", show_default=False)],
    jobs: Annotated[int, typer.Argument(min=0, max=10_000, help="Most of them in hand at once; 0: any number.")],
    job_class: Annotated[
        ClassName | None, typer.Option("--class", help="For jobs of this class only. Left out: for each class.")
    ] = None,
    nats: NatsUrl = "",
    region: Region = "local",
    data_dir: DataDir = Path("data"),
) -> None:
    """Cap how many jobs of a tenant are worked on at once, in each class or in one. Workers follow at once."""
    names = [job_class] if job_class is not None else list(ClassName)

    def change(policy: "QueuePolicy") -> "QueuePolicy":
        for name in names:
            policy = policy.with_cap(tenant, name.value, jobs)
        return policy

    policy = _change(change, nats, region, data_dir)
    caps = policy.caps.get(tenant, {})
    text = "  ".join(f"{name}={most}" for name, most in caps.items()) or "no cap"
    typer.echo(f"{tenant}  {text}")


def _change(change: "Callable[[QueuePolicy], QueuePolicy]", nats: str, region: str, data_dir: Path) -> "QueuePolicy":
    from halfdrop.hub.policy import change_policy  # noqa: PLC0415  keeps --help quick

    try:
        return _at_hub(lambda broker: change_policy(broker, change), nats=nats, region=region, data_dir=data_dir)
    except PermanentError as error:
        if error.code != "bad-policy":
            raise
        raise InvalidInput("queue", got=error.detail, allowed="weights of 0.001 to 1000, caps of 1 to 10000") from error


def _read_share(text: str) -> tuple[ClassName, float]:
    name, _, number = text.partition("=")
    try:
        return ClassName(name), float(number)
    except ValueError as error:
        allowed = "realtime=8, standard=3 or bulk=1, with a weight of 0.001 to 1000"
        raise InvalidInput("CLASS=WEIGHT", got=text, allowed=allowed) from error


def _print_view(view: "QueueView") -> None:
    typer.echo("weights  " + "  ".join(f"{name}={weight:g}" for name, weight in view.policy.all_weights().items()))
    for tenant, caps in sorted(view.policy.caps.items()):
        typer.echo(f"cap      {printable(tenant)}  " + "  ".join(f"{name}={most}" for name, most in caps.items()))
    typer.echo(f"\n{'class':<9} {'tenant':<24} {'jobs':>8} {'work':>10}")
    for lane in view.lanes:
        work = "" if lane.work is None else f"{lane.work:.1f}"
        typer.echo(f"{lane.job_class:<9} {printable(lane.tenant):<24} {lane.jobs:>8} {work:>10}")
    typer.echo(f"\n{'worker':<24} {'busy':>9} {'units/s':>8}  classes")
    for worker in view.workers:
        busy = f"{worker.busy} of {worker.slots}"
        classes = ",".join(worker.classes)
        typer.echo(f"{printable(worker.worker):<24} {busy:>9} {worker.units_per_s:>8.2f}  {classes}")
    if not view.workers:
        typer.echo("no worker was heard: jobs wait")


def _at_hub(work: "Callable[[Broker], Awaitable[T]]", *, nats: str, region: str, data_dir: Path) -> T:
    """Return what `work` makes of the hub's NATS server."""
    import structlog  # noqa: PLC0415  keeps --help quick

    from halfdrop.contracts.subjects import hub_domain  # noqa: PLC0415
    from halfdrop.runtime.broker import open_broker  # noqa: PLC0415

    # What the connection logs is no output: errors come as exceptions.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    url = nats or running_nats(data_dir)

    async def run() -> T:
        async with open_broker(url, name="halfdrop queue", domain=hub_domain(region)) as broker:
            return await work(broker)

    try:
        return asyncio.run(run())
    except Unavailable as error:
        raise TransientError(f"{error.detail}; start it with `halfdrop up`, or name another with --nats") from error


def running_nats(data_dir: Path) -> str:
    """Return where the hub's NATS of the `halfdrop up` in `data_dir` listens, as its configuration says."""
    from halfdrop.deploy.folder import DataFolder  # noqa: PLC0415  keeps --help quick

    try:
        text = (DataFolder(data_dir).nats_hub / "nats.conf").read_text()
    except OSError:
        text = ""
    found = re.search(r'^listen: "([^"]+)"', text, flags=re.MULTILINE)
    if found is None:
        allowed = "the data directory of a `halfdrop up`, or --nats with the hub's NATS server"
        raise InvalidInput("--data-dir", got=str(data_dir), allowed=allowed)
    return f"nats://{found[1]}"
