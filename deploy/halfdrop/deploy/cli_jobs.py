"""`halfdrop jobs`: the orders of an edge."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import NotFound
from halfdrop.deploy.cli_dead import dead_app
from halfdrop.deploy.cli_options import DEFAULT_URL, Json, Url, open_client

if TYPE_CHECKING:
    from halfdrop.edge.client_answers import Prediction

LIST_MAX = 1000

JobId = Annotated[str, typer.Argument(help="Id of the order, as `halfdrop jobs list` shows it.", show_default=False)]

jobs_app = typer.Typer(
    name="jobs", help="Orders: list, show, cancel, fetch.", rich_markup_mode=None, no_args_is_help=True
)
jobs_app.add_typer(dead_app)


@jobs_app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="Show at most so many.")] = 20,
    is_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List orders, newest first."""
    found: list[Prediction] = []
    with open_client(url) as client:
        page = client.list()
        found += page.results
        while page.next and len(found) < limit:
            page = client.list(cursor=page.next)
            found += page.results
    found = found[:limit]
    if is_json:
        _print_json(found)
        return
    if not found:
        typer.echo("no orders yet; halfdrop render makes one", err=True)
    for prediction in found:
        prompt = str(prediction.input.get("prompt", ""))
        created = (prediction.created_at or "")[:19].replace("T", " ")
        size = f"{prediction.input.get('size_px', '?')} px"
        typer.echo(f"{prediction.id}  {created}  {prediction.status:<10}  {size:>7}  {prompt[:60]}")


@jobs_app.command()
def show(job_id: JobId, is_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show everything known of an order."""
    with open_client(url) as client:
        prediction = client.get(job_id)
    if is_json:
        _print_json(prediction)
        return
    progress = prediction.progress
    rows = {
        "id": prediction.id,
        "status": f"{prediction.status} ({prediction.state})" if prediction.state else prediction.status,
        "prompt": prediction.input.get("prompt", ""),
        "size": f"{prediction.input.get('size_px', '?')} px",
        "progress": f"{progress.step} of {progress.steps} {progress.stage}".rstrip() if progress.steps else "",
        "attempt": prediction.attempt or "",
        "created": prediction.created_at or "",
        "started": prediction.started_at or "",
        "completed": prediction.completed_at or "",
        "error": prediction.error or "",
        "pattern": prediction.pattern_key,
        "files": ", ".join(prediction.files),
    }
    for name, value in rows.items():
        if value != "":
            typer.echo(f"{name:<10} {value}")


@jobs_app.command()
def cancel(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Cancel an order; a finished one stays finished."""
    with open_client(url) as client:
        prediction = client.cancel(job_id)
    typer.echo(f"{prediction.id}  {prediction.status}")


@jobs_app.command("fetch")
def fetch_files(
    job_id: JobId,
    names: Annotated[
        list[str] | None, typer.Argument(help="Files to fetch; all if left out.", show_default=False)
    ] = None,
    directory: Annotated[Path, typer.Option("--to", help="Directory to write to, made if missing.")] = Path(),
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch the files of an order, waiting for them if need be."""
    from halfdrop.deploy.cli_progress import check_succeeded, fetch, follow  # noqa: PLC0415  rich; keeps --help quick

    with open_client(url) as client:
        prediction = client.get(job_id)
        if not prediction.is_final:
            prediction = follow(client, prediction)
        check_succeeded(prediction)
        chosen = names or list(prediction.files)
        if unknown := [name for name in chosen if name not in prediction.files]:
            raise NotFound(f"order {job_id} has no {', '.join(unknown)}; it has: {', '.join(prediction.files)}")
        directory.mkdir(parents=True, exist_ok=True)
        fetch(client, prediction, {name: directory / name for name in chosen})


def _print_json(value: object) -> None:
    import msgspec  # noqa: PLC0415  only for --json

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
