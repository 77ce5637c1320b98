"""`halfdrop events`: the calendar of campaigns and drops that the forecaster plans for."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from halfdrop.contracts.errors import InvalidInput, TransientError, Unavailable
from halfdrop.deploy.cli_options import Json, printable
from halfdrop.deploy.cli_times import TIMES, read_time, show_time
from halfdrop.deploy.demand_store import HistoryObjects, forecaster_installed, open_history_objects

if TYPE_CHECKING:
    from halfdrop.contracts.demand_events import DemandEvent
    from halfdrop.forecaster.calendar import EventCalendar
    from halfdrop.forecaster.event_uplift import LearntUplift

T = TypeVar("T")

events_app = typer.Typer(
    name="events",
    help="Campaigns and drops: what people know of demand before any series shows it.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

NatsUrl = Annotated[
    str,
    typer.Option(
        "--nats",
        envvar="HALFDROP_HUB_NATS_URL",
        help="NATS server of the home region's hub. Left out: that of the `halfdrop up` in --data-dir.",
    ),
]
HubRegion = Annotated[str, typer.Option("--hub-region", envvar="HALFDROP_HUB_REGION", help="Region of that hub.")]
DataDir = Annotated[Path, typer.Option(help="Data directory of `halfdrop up`, where --nats or --objects is left out.")]


@events_app.command()
def add(
    *,
    name: Annotated[str, typer.Argument(help="What people call it: 'Autumn drop'.", show_default=False)],
    start: Annotated[str, typer.Option("--start", help=f"When it begins: {TIMES}.", show_default=False)],
    end: Annotated[str, typer.Option("--end", help="When it ends: 1 minute to 31 days later.", show_default=False)],
    uplift: Annotated[
        float,
        typer.Option(
            help="Times the usual demand, 0.01 to 1000. Left out: learnt from past events of the kind.",
            show_default=False,
        ),
    ] = 0.0,
    kind: Annotated[str, typer.Option(help="Events of one kind are alike: drop, sale, holiday.")] = "campaign",
    region: Annotated[str, typer.Option(help="Only this region. Left out: all.")] = "",
    model: Annotated[str, typer.Option(help="Only this model. Left out: all.")] = "",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class of jobs; repeat it. Left out: all.")
    ] = None,
    ramp_s: Annotated[float, typer.Option(help="Seconds from the start until the uplift is there in full.")] = 0.0,
    note: Annotated[str, typer.Option(help="For people.")] = "",
    event_id: Annotated[
        str, typer.Option("--id", help="Its id; that of an event that is there changes it. Left out: made of the name.")
    ] = "",
    nats: NatsUrl = "",
    hub_region: HubRegion = "local",
    objects: HistoryObjects = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Enter an event, or change one."""
    from typing import get_args  # noqa: PLC0415

    from halfdrop.contracts.demand_events import DemandEvent, check_event  # noqa: PLC0415  keeps --help quick
    from halfdrop.contracts.jobs import JobClass  # noqa: PLC0415

    now = time.time()
    for job_class in classes or []:
        if job_class not in get_args(JobClass):
            raise InvalidInput("--class", got=job_class, allowed=", ".join(get_args(JobClass)))
    began = read_time("--start", start, now=now)
    event = DemandEvent(
        id=event_id or _make_id(name, began),
        name=name,
        kind=kind,
        start=began,
        end=read_time("--end", end, now=now),
        region=region or None,
        model=model or None,
        job_classes=tuple(classes or ()),  # type: ignore[arg-type]  # checked above
        uplift=uplift or 1.0,
        ramp_s=ramp_s,
        note=note,
    )
    check_event(event)
    if not uplift:
        event = _with_learnt_uplift(event, nats, hub_region, objects, data_dir)
    _at_calendar(lambda calendar: calendar.put(event), nats, hub_region, data_dir)
    typer.echo(_describe(event))


@events_app.command(name="list")
def list_(
    *,
    past: Annotated[bool, typer.Option("--past", help="Those that are over as well.")] = False,
    is_json: Json = False,
    nats: NatsUrl = "",
    hub_region: HubRegion = "local",
    data_dir: DataDir = Path("data"),
) -> None:
    """List events by their start, the operator's DemandEvents among them."""
    now = time.time()
    events = _at_calendar(lambda calendar: calendar.list(), nats, hub_region, data_dir)
    shown = [event for event in events if past or event.end > now]
    if is_json:
        import msgspec  # noqa: PLC0415  only for --json

        typer.echo(msgspec.json.encode(shown).decode())
        return
    for event in shown:
        typer.echo(_describe(event))
    if not shown:
        over = f"; {len(events)} are over, --past shows them" if events else ""
        typer.echo(f"no event is announced{over}", err=True)


@events_app.command()
def remove(
    event_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `halfdrop events list` shows it.", show_default=False)
    ],
    nats: NatsUrl = "",
    hub_region: HubRegion = "local",
    data_dir: DataDir = Path("data"),
) -> None:
    """Take an event out. Those of the operator are removed in Kubernetes."""
    _at_calendar(lambda calendar: calendar.delete(event_id), nats, hub_region, data_dir)
    typer.echo(f"{printable(event_id)} is removed")


@events_app.command()
def learn(
    *,
    kind: Annotated[str, typer.Argument(help="Kind of events.", show_default=False)],
    is_json: Json = False,
    nats: NatsUrl = "",
    hub_region: HubRegion = "local",
    objects: HistoryObjects = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Tell what past events of a kind did to demand, compared with the same time of other weeks."""
    learnt = _learn(kind, nats, hub_region, objects, data_dir)
    if learnt is None:
        raise InvalidInput(
            "KIND", got=kind, allowed="a kind with a past event whose demand is known; `events list --past`"
        )
    if is_json:
        import msgspec  # noqa: PLC0415  only for --json

        typer.echo(msgspec.json.encode(learnt).decode())
        return
    typer.echo(_describe_learnt(learnt))
    for each in learnt.ratios:
        typer.echo(f"  {printable(each.event_id):<40} ×{each.ratio:.2f}  against {each.weeks} weeks")


def _with_learnt_uplift(
    event: "DemandEvent", nats: str, hub_region: str, objects: str, data_dir: Path
) -> "DemandEvent":
    import msgspec  # noqa: PLC0415

    learnt = _learn(event.kind, nats, hub_region, objects, data_dir)
    if learnt is None:
        allowed = f"0.01 to 1000: there is no past event of the kind {event.kind} to learn it from"
        raise InvalidInput("--uplift", got="nothing", allowed=allowed)
    typer.echo(_describe_learnt(learnt))
    return msgspec.structs.replace(event, uplift=round(learnt.uplift, 3))


def _learn(kind: str, nats: str, hub_region: str, objects: str, data_dir: Path) -> "LearntUplift | None":
    with forecaster_installed():
        from halfdrop.forecaster.event_uplift import learn_uplift  # noqa: PLC0415
        from halfdrop.forecaster.history import DemandHistory  # noqa: PLC0415

    history = DemandHistory(open_history_objects(objects, data_dir))
    events = _at_calendar(lambda calendar: calendar.list(), nats, hub_region, data_dir)
    return asyncio.run(learn_uplift(kind, events, history.minutes_of, now=time.time()))


def _describe(event: "DemandEvent") -> str:
    where = " ".join(
        [event.region or "all regions", event.model or "all models", *(event.job_classes or ("all classes",))]
    )
    times = f"{show_time(event.start)} to {show_time(event.end)}"
    name, note = printable(event.name), f"  ({printable(event.note)})" if event.note else ""
    return f"{printable(event.id):<32} {times}  ×{event.uplift:<6g} {event.kind:<10} {where}  {name}{note}"


def _describe_learnt(learnt: "LearntUplift") -> str:
    events = f"{learnt.events} past event{'s' if learnt.events > 1 else ''}"
    return f"{learnt.kind}: ×{learnt.uplift:.2f}, the median of {events} (×{learnt.low:.2f} to ×{learnt.high:.2f})"


def _make_id(name: str, start: float) -> str:
    word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "event"
    return f"{word}-{show_time(start)[:10]}"


def _at_calendar(work: "Callable[[EventCalendar], Awaitable[T]]", nats: str, hub_region: str, data_dir: Path) -> T:
    """Return what `work` makes of the calendar at the hub's NATS server."""
    import structlog  # noqa: PLC0415  keeps --help quick

    from halfdrop.contracts.subjects import hub_domain  # noqa: PLC0415
    from halfdrop.deploy.cli_queue import running_nats  # noqa: PLC0415
    from halfdrop.forecaster.calendar import open_calendar  # noqa: PLC0415
    from halfdrop.runtime.broker import open_broker  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    url = nats or running_nats(data_dir)

    async def run() -> T:
        async with open_broker(url, name="halfdrop events", domain=hub_domain(hub_region)) as broker:
            return await work(await open_calendar(broker))

    try:
        return asyncio.run(run())
    except Unavailable as error:
        raise TransientError(f"{error.detail}; start it with `halfdrop up`, or name another with --nats") from error
