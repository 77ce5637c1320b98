"""`halfdrop jobs dead`: jobs that the hub gave up on, in its NATS until somebody retries or drops them."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError, TransientError, Unavailable
from halfdrop.deploy.cli_options import Json, printable

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from halfdrop.contracts.dead_letters import DeadLetter

LIST_MAX = 10_000

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
Tenant = Annotated[str, typer.Option(help="Only this tenant's jobs.")]
Cause = Annotated[str, typer.Option(help="Only jobs that failed with this code: internal, too-many-deliveries, …")]
JobId = Annotated[
    str, typer.Argument(metavar="[JOB]", help="Id, as `halfdrop jobs dead list` shows it.", show_default=False)
]
IsAll = Annotated[bool, typer.Option("--all", help="All of them, or all that --tenant and --cause leave.")]
IsSure = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

dead_app = typer.Typer(
    name="dead",
    help="Jobs that the hub gave up on: list, show, retry, drop.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@dead_app.command("list")
def list_letters(
    *,
    tenant: Tenant = "",
    cause: Cause = "",
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="Show at most so many.")] = 100,
    is_json: Json = False,
    nats: NatsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """List jobs that were given up on, oldest first, with their cause."""
    letters = _find(nats, data_dir, tenant=tenant, cause=cause, limit=limit)
    if is_json:
        _print_json([_describe(letter) for letter in letters])
        return
    if not letters:
        typer.echo("no dead letters", err=True)
    for letter in letters:
        prompt = letter.job.spec.prompt if letter.job is not None else "(not a job)"
        row = f"{letter.job_id:<26}  {_time(letter.buried_at)}  {letter.cause:<20}  {letter.deliveries:>3}x"
        typer.echo(printable(f"{row}  {letter.tenant:<12}  {letter.job_class:<8}  {prompt[:50]}"))


@dead_app.command()
def show(job_id: JobId, is_json: Json = False, nats: NatsUrl = "", data_dir: DataDir = Path("data")) -> None:
    """Show everything that is known of a job that was given up on."""
    letters = _find(nats, data_dir, job_id=job_id)
    described = [_describe(letter) for letter in letters]
    if is_json:
        _print_json(described[0] if len(described) == 1 else described)
        return
    for rows in described:
        for name, value in rows.items():
            if value not in ("", None, {}, 0):
                typer.echo(f"{name:<11} {printable(str(value))}")


@dead_app.command()
def retry(
    *,
    job_id: JobId = "",
    is_all: IsAll = False,
    tenant: Tenant = "",
    cause: Cause = "",
    is_sure: IsSure = False,
    nats: NatsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Put a job, or all that match, back into the queue under its old id; its status leaves "failed"."""
    from halfdrop.hub.dead_letters import revive  # noqa: PLC0415  keeps --help quick

    async def bring_back(js: "JetStreamContext", letter: "DeadLetter") -> None:
        await revive(js, letter, now=time.time())

    letters = _choose(nats, data_dir, job_id=job_id, is_all=is_all, tenant=tenant, cause=cause)
    _act(nats, data_dir, letters, bring_back, verb="retry", done="queued again", is_sure=is_sure)


@dead_app.command("drop")
def drop_letters(
    *,
    job_id: JobId = "",
    is_all: IsAll = False,
    tenant: Tenant = "",
    cause: Cause = "",
    is_sure: IsSure = False,
    nats: NatsUrl = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Remove a job, or all that match, for good; its order stays "failed"."""
    from halfdrop.hub.dead_letters import drop  # noqa: PLC0415  keeps --help quick

    letters = _choose(nats, data_dir, job_id=job_id, is_all=is_all, tenant=tenant, cause=cause)
    _act(nats, data_dir, letters, drop, verb="drop", done="dropped", is_sure=is_sure)


def _choose(nats: str, data_dir: Path, *, job_id: str, is_all: bool, tenant: str, cause: str) -> "list[DeadLetter]":
    if bool(job_id) == is_all or (job_id and (tenant or cause)):
        got = f"{job_id or 'no job'}{' and --all' if is_all else ''}"
        raise InvalidInput("JOB", got=got, allowed="either a job's id, or --all with or without --tenant, --cause")
    return _find(nats, data_dir, job_id=job_id, tenant=tenant, cause=cause)


def _find(
    nats: str, data_dir: Path, *, job_id: str = "", tenant: str = "", cause: str = "", limit: int = LIST_MAX
) -> "list[DeadLetter]":
    """Return the letters that match. Raises NotFound where a job is named and there is none of it."""
    from halfdrop.hub.dead_letters import read_letters  # noqa: PLC0415  keeps --help quick

    async def read(js: "JetStreamContext") -> "list[DeadLetter]":
        found: list[DeadLetter] = []
        async for letter in read_letters(js):
            wanted = ((job_id, letter.job_id), (tenant, letter.tenant), (cause, letter.cause))
            if all(asked in ("", has) for asked, has in wanted):
                found.append(letter)
            if len(found) == limit:
                break
        return found

    letters = _with_hub(nats, data_dir, read)
    if job_id and not letters:
        raise NotFound(f"no dead letter is of the job {job_id[:80]!r}; halfdrop jobs dead list shows all")
    return letters


def _act(
    nats: str,
    data_dir: Path,
    letters: "list[DeadLetter]",
    action: "Callable[[JetStreamContext, DeadLetter], Awaitable[None]]",
    *,
    verb: str,
    done: str,
    is_sure: bool,
) -> None:
    """Do it to each letter, after asking; exit with 1 if some would not."""
    if not letters:
        typer.echo("no dead letters match", err=True)
        return
    what = letters[0].job_id if len(letters) == 1 else f"{len(letters)} jobs"
    if not is_sure:
        typer.confirm(f"{verb} {what}?", abort=True, err=True)

    async def act(js: "JetStreamContext") -> int:
        refused = 0
        for letter in letters:
            try:
                await action(js, letter)
            except PermanentError as error:
                refused += 1
                typer.echo(f"{letter.job_id}  {error.detail}", err=True)
            else:
                typer.echo(f"{letter.job_id}  {done}")
        return refused

    if _with_hub(nats, data_dir, act):
        raise typer.Exit(1)


def _with_hub(nats: str, data_dir: Path, work: "Callable[[JetStreamContext], Awaitable[T]]") -> T:
    """Return what `work` makes of the hub's JetStream."""
    import structlog  # noqa: PLC0415  keeps --help quick

    from halfdrop.contracts.subjects import HUB_DOMAIN  # noqa: PLC0415
    from halfdrop.runtime.broker import open_broker  # noqa: PLC0415

    # What the connection logs is no output: the errors come as exceptions.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    url = nats or _running_nats(data_dir)

    async def run() -> T:
        async with open_broker(url, name="halfdrop jobs dead", domain=HUB_DOMAIN) as broker:
            return await work(broker.js)

    try:
        return asyncio.run(run())
    except Unavailable as error:
        raise TransientError(f"{error.detail}; start it with `halfdrop up`, or name another with --nats") from error


def _running_nats(data_dir: Path) -> str:
    """Return where the hub's NATS of the `halfdrop up` in `data_dir` listens, as its configuration says."""
    from halfdrop.deploy.folder import DataFolder  # noqa: PLC0415  keeps --help quick

    path = DataFolder(data_dir).nats_hub / "nats.conf"
    try:
        found = re.search(r'^listen: "([^"]+)"', path.read_text(), flags=re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        allowed = "the data directory of a `halfdrop up`, or --nats with the hub's NATS server"
        raise InvalidInput("--data-dir", got=str(data_dir), allowed=allowed)
    return f"nats://{found[1]}"


def _describe(letter: "DeadLetter") -> dict[str, object]:
    job = letter.job
    return {
        "id": letter.job_id,
        "cause": letter.cause,
        "detail": letter.detail,
        "deliveries": letter.deliveries,
        "worker": letter.worker,
        "tenant": letter.tenant,
        "class": letter.job_class,
        "created": _time(job.created_at if job is not None else None),
        "queued": _time(letter.queued_at),
        "given_up": _time(letter.buried_at),
        "revivals": letter.revival,
        "prompt": job.spec.prompt if job is not None else "",
        "size_px": job.size_px if job is not None else None,
        "steps": job.spec.num_inference_steps if job is not None else None,
        "plates": ("its own" if job.plates is not None else "to be sampled") if job is not None else "",
        "model": job.spec.model_digest if job is not None else "",
        "origin": job.origin if job is not None else "",
        "subject": letter.subject,
        "headers": letter.headers,
    }


def _time(unix_s: float | None) -> str:
    return "" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat(sep=" ", timespec="seconds")[:19]


def _print_json(value: object) -> None:
    import msgspec  # noqa: PLC0415  only for --json

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
