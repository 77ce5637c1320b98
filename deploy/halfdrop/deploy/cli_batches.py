"""`halfdrop batch`: thousands of orders from one file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.cli_options import DEFAULT_URL, Json, Url, check_output, open_client, printable

if TYPE_CHECKING:
    from halfdrop.edge.client import HalfdropClient
    from halfdrop.edge.client_answers import Batch

LIST_MAX = 1000
ERRORS_SHOWN = 10
STDIN = Path("-")

BatchId = Annotated[str, typer.Argument(help="Id of the batch, as `halfdrop batch list` shows it.", show_default=False)]

batch_app = typer.Typer(
    name="batch",
    help="Thousands of orders from one file: submit, list, show, pause, resume, cancel, results.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@batch_app.command()
def submit(
    file: Annotated[
        Path,
        typer.Argument(
            help='JSON Lines, such as {"custom_id": "dots", "input": {"prompt": "red dots", "size_px": 2048}} on each; '
            '"-" is stdin.',
            show_default=False,
        ),
    ],
    *,
    is_waiting: Annotated[bool, typer.Option("--wait", help="Show a bar until the batch is over.")] = False,
    is_strict: Annotated[bool, typer.Option("--strict", help="One bad line refuses the whole file.")] = False,
    cancel_after: Annotated[
        str, typer.Option(help='Cancel what is not finished by then: "90s", "2h". Left out: never.')
    ] = "",
    url: Url = DEFAULT_URL,
) -> None:
    """Order every line of a file. The lines that are right run; the others are told with their numbers."""
    from halfdrop.edge.client_answers import BatchRefused  # noqa: PLC0415  keeps --help quick

    lines = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    with open_client(url) as client:
        try:
            batch = client.batches.submit(
                lines, on_error="refuse" if is_strict else "skip", cancel_after=cancel_after or None
            )
        except BatchRefused as error:
            for wrong in error.errors[:ERRORS_SHOWN]:
                _say(f"line {wrong.line}: {printable(wrong.detail)}")
            raise
        if batch.counts.refused:
            _say_errors(client, batch)
        typer.echo(batch.id)
        if is_waiting:
            _wait(client, batch)


@batch_app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="Show at most so many.")] = 20,
    is_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List batches, newest first."""
    found: list[Batch] = []
    with open_client(url) as client:
        page = client.batches.list()
        found += page.results
        while page.next and len(found) < limit:
            page = client.batches.list(cursor=page.next)
            found += page.results
    found = found[:limit]
    if is_json:
        _print_json(found)
        return
    if not found:
        _say("no batches yet; halfdrop batch submit makes one")
    for batch in found:
        created = (batch.created_at or "")[:19].replace("T", " ")
        counts = batch.counts
        done = f"{counts.completed} of {counts.total - counts.refused}"
        typer.echo(f"{batch.id}  {created}  {batch.status:<9}  {batch.progress:>4.0%}  {done}")


@batch_app.command()
def show(batch_id: BatchId, is_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show everything known of a batch."""
    with open_client(url) as client:
        batch = client.batches.get(batch_id)
    if is_json:
        _print_json(batch)
        return
    counts = batch.counts
    rows = {
        "id": batch.id,
        "status": batch.status,
        "reason": batch.status_reason or "",
        "progress": f"{batch.progress:.0%}",
        "lines": f"{counts.total}, of which {counts.refused} refused",
        "waiting": counts.waiting or "",
        "queued": counts.queued or "",
        "processing": counts.processing or "",
        "completed": counts.completed,
        "failed": counts.failed or "",
        "canceled": counts.canceled or "",
        "time left": f"{batch.eta_seconds:.0f} s" if batch.eta_seconds is not None and not batch.is_over else "",
        "created": batch.created_at or "",
        "started": batch.started_at or "",
        "finished": batch.finished_at or "",
        "deadline": batch.deadline or "",
    }
    for name, value in rows.items():
        if value != "":
            typer.echo(f"{name:<10} {value}")


@batch_app.command()
def pause(batch_id: BatchId, url: Url = DEFAULT_URL) -> None:
    """Place no more of its lines; what was placed goes on."""
    _change(batch_id, url, "pause")


@batch_app.command()
def resume(batch_id: BatchId, url: Url = DEFAULT_URL) -> None:
    """Go on after a pause."""
    _change(batch_id, url, "resume")


@batch_app.command()
def cancel(batch_id: BatchId, url: Url = DEFAULT_URL) -> None:
    """Place no more of its lines, and stop those that are placed."""
    _change(batch_id, url, "cancel")


@batch_app.command()
def results(
    batch_id: BatchId,
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write: .zip with all files, .jsonl without.")
    ] = Path("results.zip"),
    is_waiting: Annotated[bool, typer.Option("--wait", help="Wait until the batch is over.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch what came of a batch: so far, unless it is over."""
    check_output(output, suffixes=(".zip", ".jsonl"))
    with open_client(url) as client:
        batch = client.batches.get(batch_id)
        if is_waiting and not batch.is_over:
            batch = _wait(client, batch)
        client.batches.download(batch_id, output, form="zip" if output.suffix.lower() == ".zip" else "jsonl")
    so_far = "" if batch.is_over else f"  (so far: {batch.progress:.0%} of it is done)"
    _say(f"{output}  {output.stat().st_size / 1e6:.2f} MB{so_far}")


def _wait(client: "HalfdropClient", batch: "Batch") -> "Batch":
    """Show a bar until the batch is over. Raises PermanentError where some of it came to nothing."""
    from halfdrop.deploy.cli_progress import follow_batch  # noqa: PLC0415  rich; keeps --help quick

    try:
        batch = follow_batch(client, batch)
    except KeyboardInterrupt:
        _say(f"the batch goes on without you; halfdrop batch show {batch.id}, or: halfdrop batch cancel {batch.id}")
        raise
    counts = batch.counts
    _say(f"{batch.status}: {counts.completed} completed, {counts.failed} failed, {counts.canceled} canceled")
    if counts.failed or counts.canceled:
        raise PermanentError(f"not all of batch {batch.id} was made; halfdrop batch results says why", code="batch")
    return batch


def _change(batch_id: str, url: str, verb: Literal["pause", "resume", "cancel"]) -> None:
    with open_client(url) as client:
        batch = getattr(client.batches, verb)(batch_id)
    typer.echo(f"{batch.id}  {batch.status}")


def _say_errors(client: "HalfdropClient", batch: "Batch") -> None:
    errors = client.batches.errors(batch.id)
    for wrong in errors[:ERRORS_SHOWN]:
        _say(f"line {wrong.line}: {printable(wrong.detail)}")
    if batch.counts.refused > ERRORS_SHOWN:
        _say(f"… {batch.counts.refused} lines are wrong; the others run")


def _say(line: str) -> None:
    """Tell the person at the terminal; stdout is for what a script reads."""
    typer.echo(line, err=True)


def _print_json(value: object) -> None:
    import msgspec  # noqa: PLC0415  only for --json

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
