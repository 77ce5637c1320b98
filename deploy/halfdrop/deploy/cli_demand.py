"""`halfdrop demand`: the demand history, minute by minute: look at it, bring in demand from elsewhere, take it out."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import InvalidInput, TransientError, Unavailable
from halfdrop.deploy.cli_options import Json
from halfdrop.deploy.cli_times import TIMES, read_time, show_time
from halfdrop.deploy.demand_store import HistoryObjects, forecaster_installed, open_history_objects

if TYPE_CHECKING:
    import pandas as pd

    from halfdrop.forecaster.importing import Imported, ImportedRows
    from halfdrop.runtime.objects import ObjectStore

ROWS_SHOWN_MAX = 200

demand_app = typer.Typer(
    name="demand",
    help="The demand history: what each region, class and model was asked for, minute by minute.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

DataDir = Annotated[Path, typer.Option(help="Data directory of `halfdrop up`, where --objects is left out.")]
Region = Annotated[str, typer.Option(help="Only this region. Left out: all.")]
ClassOption = Annotated[
    str, typer.Option("--class", help="Only this class: realtime, standard or bulk. Left out: all.")
]
Model = Annotated[str, typer.Option(help="Only this model. Left out: all.")]


@demand_app.command(name="import")
def import_(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV (.csv, .csv.gz) or Parquet, a row for each minute and series. "
            "Time: minute, t, time or timestamp. Work: gpus (mean GPUs), gpu_s or gpu_s_offered (GPU-seconds). "
            "May be there: region, class, model, tier, requests, gpu_s_served, late, wait_s_sum, cold_starts, "
            "boot_s_sum, replicas.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    prometheus: Annotated[
        str, typer.Option(help="Or from Prometheus: its address, such as http://prometheus:9090.")
    ] = "",
    query: Annotated[
        str,
        typer.Option(help="PromQL whose value is mean GPUs of work, by series: sum by (region) (busy_gpus)."),
    ] = "",
    scale: Annotated[
        float,
        typer.Option(
            help="GPUs per unit of the query's value: 28.7 where it is jobs a second of 28.7 GPU-seconds each."
        ),
    ] = 1.0,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Label that tells region, class, model or tier: region=cluster. Repeat it."),
    ] = None,
    begin: Annotated[str, typer.Option("--from", help=f"Of Prometheus, first minute: {TIMES}.")] = "-14d",
    end: Annotated[str, typer.Option("--to", help="Of Prometheus, where to end.")] = "now",
    region: Annotated[str, typer.Option(help="Region of rows that name none.")] = "local",
    job_class: Annotated[str, typer.Option("--class", help="Class of rows that name none.")] = "standard",
    model: Annotated[str, typer.Option(help="Model of rows that name none.")] = "house",
    tier: Annotated[str, typer.Option(help="Tier of rows that name none: finish or sample.")] = "finish",
    is_json: Json = False,
    objects: HistoryObjects = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Bring in past demand from a file or from Prometheus (its token: HALFDROP_PROMETHEUS_TOKEN).

    It counts where nothing was measured; of two imports the newer one. So it can be repeated and corrected. Minutes
    that are missing stay unknown. Nothing is changed by a file that turns out to be wrong.
    """
    with forecaster_installed():
        from halfdrop.forecaster.importing import read_file  # noqa: PLC0415  pandas: a second that --help has not
        from halfdrop.forecaster.prometheus import PrometheusQuery, check_query, fetch_demand  # noqa: PLC0415

    now = time.time()
    names = {"region": region, "class": job_class, "model": model, "tier": tier}
    _check_class(job_class)
    if (file is None) == (not prometheus):
        raise InvalidInput("FILE", got="both" if file else "nothing", allowed="a file, or --prometheus with --query")
    if file is not None:
        batches = _each(read_file(file, names=names, now=now))
    else:
        if not query:
            raise InvalidInput("--query", got="nothing", allowed="PromQL, such as sum by (region) (busy_gpus)")
        asked = PrometheusQuery(
            url=prometheus,
            query=query,
            start=read_time("--from", begin, now=now),
            end=read_time("--to", end, now=now),
            scale=scale,
            labels=_read_labels(labels or []),
            names=names,
            token=os.environ.get("HALFDROP_PROMETHEUS_TOKEN", ""),
        )
        check_query(asked)
        batches = fetch_demand(asked, now=now)
    try:
        done = asyncio.run(_import(open_history_objects(objects, data_dir), batches, now))
    except Unavailable as error:  # that of an edge has another remedy
        raise TransientError(error.detail) from error
    if is_json:
        import msgspec  # noqa: PLC0415  only for --json

        typer.echo(msgspec.json.encode(done).decode())
        return
    typer.echo(
        f"{done.rows - done.repeated} rows of {done.series} series in {done.days} days, {done.first} to {done.last}"
    )
    if done.repeated:
        typer.echo(f"{done.repeated} rows named a minute again that an earlier row had named: the last one counts")
    for reason, count in done.rejected.items():
        typer.echo(f"{count} rows {reason} were left out: those minutes stay unknown")


@demand_app.command()
def show(
    *,
    hours: Annotated[float, typer.Option(min=0.1, max=24 * 92, help="How far back.")] = 24.0,
    region: Region = "",
    job_class: ClassOption = "",
    model: Model = "",
    is_json: Json = False,
    objects: HistoryObjects = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Show each series: what was asked for and served, what was late, and a line of its demand (· is unknown)."""
    now = time.time()
    end = (now // 60 + 1) * 60
    start = end - round(hours * 60) * 60
    frame = _read(open_history_objects(objects, data_dir), start, end, region=region, job_class=job_class, model=model)
    if is_json:
        typer.echo(frame.to_json(orient="records", date_format="iso", date_unit="s"))
        return
    if frame.empty:
        typer.echo("no demand is known for that time; edges tell of each minute, and the forecaster keeps it", err=True)
        return
    from halfdrop.deploy.demand_view import demand_rows  # noqa: PLC0415  numpy: --help has no need of it

    rows = demand_rows(frame, start=start, end=end)
    for row in rows[: ROWS_SHOWN_MAX + 1]:
        typer.echo(row)
    if len(rows) > ROWS_SHOWN_MAX + 1:
        typer.echo(f"… and {len(rows) - 1 - ROWS_SHOWN_MAX} more series; narrow it with --region, --class, --model")


@demand_app.command()
def export(
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .csv, .csv.gz or .parquet file. Left out: CSV on stdout.")
    ] = None,
    begin: Annotated[str, typer.Option("--from", help=f"First minute: {TIMES}.")] = "-30d",
    end: Annotated[str, typer.Option("--to", help="Where to end.")] = "now",
    region: Region = "",
    job_class: ClassOption = "",
    model: Model = "",
    objects: HistoryObjects = "",
    data_dir: DataDir = Path("data"),
) -> None:
    """Write the history to a file, a row for each minute and series; `halfdrop demand import` reads it back."""
    suffixes = (".csv", ".csv.gz", ".parquet")
    if output is not None and not output.name.endswith(suffixes):
        raise InvalidInput("--output", got=str(output), allowed=f"a name that ends in {', '.join(suffixes)}")
    now = time.time()
    start, stop = read_time("--from", begin, now=now), read_time("--to", end, now=now)
    frame = _read(open_history_objects(objects, data_dir), start, stop, region=region, job_class=job_class, model=model)
    if output is not None and output.suffix == ".parquet":
        frame.to_parquet(output, index=False)
    else:
        form = {"date_format": "%Y-%m-%dT%H:%M:%SZ", "float_format": "%.10g"}
        frame.to_csv(sys.stdout if output is None else output, index=False, **form)
    if output is not None:
        typer.echo(f"{len(frame)} rows, {show_time(start)} to {show_time(stop)}, in {output}", err=True)


async def _import(objects: "ObjectStore", batches: "AsyncIterator[ImportedRows]", now: float) -> "Imported":
    from halfdrop.forecaster.importing import Imported, import_rows  # noqa: PLC0415  keeps --help quick

    done = Imported()
    is_shown = sys.stderr.isatty()
    async for what, so_far in import_rows(objects, batches, now=now):
        done = so_far
        if is_shown:
            sys.stderr.write(f"\r\x1b[K{what}: {done.rows} rows, {done.days} days")
    if is_shown:
        sys.stderr.write("\r\x1b[K")
    return done


async def _each(rows: "Iterator[ImportedRows]") -> "AsyncIterator[ImportedRows]":
    for each in rows:
        yield each


def _read(
    objects: "ObjectStore", start: float, end: float, *, region: str, job_class: str, model: str
) -> "pd.DataFrame":
    with forecaster_installed():
        from halfdrop.forecaster.history import DemandHistory  # noqa: PLC0415  pandas: a second that --help has not

    _check_class(job_class)
    history = DemandHistory(objects)
    return asyncio.run(
        history.read(start, end, region=region or None, job_class=job_class or None, model=model or None)
    )


def _check_class(job_class: str) -> None:
    if job_class and job_class not in ("realtime", "standard", "bulk"):
        raise InvalidInput("--class", got=job_class, allowed="realtime, standard or bulk")


def _read_labels(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, label) in zip(texts, pairs, strict=True):
        if name not in ("region", "class", "model", "tier") or not label:
            raise InvalidInput("--label", got=text, allowed="region=LABEL, class=LABEL, model=LABEL or tier=LABEL")
    return {name: label for name, _, label in pairs}
