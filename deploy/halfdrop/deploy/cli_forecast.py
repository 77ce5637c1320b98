"""`halfdrop forecast`: how good forecasts of one's own history would have been."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.cli_options import Json

if TYPE_CHECKING:
    from halfdrop.forecaster.backtest import Backtest

forecast_app = typer.Typer(
    name="forecast",
    help="Forecasts of demand: judge them on one's own history.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@forecast_app.callback()
def _root() -> None:
    """Keep `backtest` a command of its own."""


@forecast_app.command()
def backtest(
    *,
    history: Annotated[
        Path,
        typer.Option(
            help="CSV or Parquet, a row a minute: t (ISO 8601 or Unix seconds) and gpus (mean GPUs) or gpu_s.",
            exists=True,
            dir_okay=False,
        ),
    ],
    days: Annotated[float, typer.Option(min=0.1, max=90, help="Days to judge, the last ones of the history.")] = 7.0,
    horizons: Annotated[
        list[int] | None, typer.Option("--horizon", min=1, max=1440, help="Minutes ahead; repeat it.")
    ] = None,
    without_models: Annotated[
        bool, typer.Option("--without-models", help="Leave out the cross-validation of statsforecast's models.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots here.", dir_okay=False)] = None,
    is_json: Json = False,
) -> None:
    """Forecast past demand minute by minute as it would have been, and say how wide of it the forecasts were."""
    try:
        from halfdrop.forecaster.backtest import backtest as judge  # noqa: PLC0415  seconds that --help has not
        from halfdrop.forecaster.backtest_report import render_report  # noqa: PLC0415
        from halfdrop.forecaster.demand_file import read_demand  # noqa: PLC0415
        from halfdrop.forecaster.forecast import HORIZONS_MINUTES  # noqa: PLC0415
    except ModuleNotFoundError as error:
        wish = ".venv/bin/python -m pip install -c requirements.lock --no-build-isolation -e '.[forecaster]'"
        detail = f"forecasts need {error.name}, which is not installed here; {wish}"
        raise PermanentError(detail, code="not-installed") from error

    demand = read_demand(history)
    for count, what in ((demand.duplicates, "repeated"), (demand.rejected, "impossible"), (demand.gaps, "unknown")):
        if count:
            typer.echo(f"history: {count} {what} minutes", err=True)
    found = judge(
        demand.gpus,
        start_minute=demand.start_minute,
        judged_minutes=min(round(days * 1440), len(demand.gpus)),
        horizons=tuple(sorted(set(horizons))) if horizons else HORIZONS_MINUTES,
        with_models=not without_models,
    )
    if report is not None:
        report.write_text(render_report(found, title=history.name), encoding="utf-8")
        typer.echo(f"report: {report}", err=True)
    if is_json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode(found).decode())
        return
    for row in backtest_rows(found):
        typer.echo(row)


def backtest_rows(found: "Backtest") -> list[str]:
    """Return the tables: by horizon, and by model an hour ahead."""
    rows = [f"{found.days:.1f} days, every minute an origin; loss is pinball at q0.9 in GPUs"]
    rows.append(f"{'ahead':>9} {'loss':>8} {'÷ last':>7}  covered at q0.5, q0.9, q0.99")
    for score in found.horizons:
        covered = ", ".join(f"{score.covered[place]:.3f}" for place in (0, 2, 5))
        rows.append(f"{score.minutes_ahead:>5} min {score.pinball:8.3f} {score.pinball_ratio:7.3f}  {covered}")
    if found.models:
        rows.append(f"{'an hour ahead, five-minute means':34} {'loss':>8} {'covered':>8}")
        rows += [f"  {score.model:32} {score.pinball:8.3f} {score.covered:8.3f}" for score in found.models]
    return rows
