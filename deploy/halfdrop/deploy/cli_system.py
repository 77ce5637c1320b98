"""`halfdrop up` and `halfdrop doctor`: the system on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from halfdrop.deploy.cli_options import DEFAULT_URL, Url

DataDir = Annotated[Path, typer.Option(help="Where everything is kept; a second start continues from there.")]


def up(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the edge on this machine; 0 chooses one.")
    ] = 8080,
    data_dir: DataDir = Path("data"),
    hubs: Annotated[int, typer.Option(min=0, max=16, help="Hub workers in each region; with none, orders wait.")] = 1,
    regions: Annotated[
        str, typer.Option(help='Regions with a hub and workers each, home first: "eu,us". See `halfdrop regions`.')
    ] = "local",
    metrics_port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65519,
            help="Where Prometheus finds the edge's metrics; the hubs' are on the ports after it. 0: none.",
        ),
    ] = 0,
    planner_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the planner's page; 0 chooses one.")
    ] = 8090,
) -> None:
    """Start the whole system on this machine; Ctrl-C stops it."""
    from halfdrop.deploy.up import up_command  # noqa: PLC0415  keeps --help quick

    status = up_command(
        port=port,
        planner_port=planner_port,
        data_dir=data_dir,
        hubs=hubs,
        metrics_port=metrics_port,
        regions=regions,
    )
    raise typer.Exit(status)


def doctor(url: Url = DEFAULT_URL, data_dir: DataDir = Path("data")) -> None:
    """Look at everything that a start needs, and say what to do about the rest."""
    from halfdrop.deploy.doctor import run_doctor  # noqa: PLC0415  keeps --help quick

    marks = {"ok": ("ok", "green"), "warning": ("look", "yellow"), "error": ("BAD", "red")}
    findings = run_doctor(url=url, data_dir=data_dir)
    for finding in findings:
        mark, colour = marks[finding.state]
        typer.secho(f"{mark:<5}", fg=colour, nl=False)
        typer.echo(f"{finding.name:<16} {finding.detail}")
        if finding.advice:
            typer.echo(f"{'':21} → {finding.advice}")
    if any(finding.state == "error" for finding in findings):
        raise typer.Exit(1)
