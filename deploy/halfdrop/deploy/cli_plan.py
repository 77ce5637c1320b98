"""`halfdrop plan`: what a plan of warm GPUs would have cost, and how many jobs would have been late."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.deploy.cli_options import Json

if TYPE_CHECKING:
    from halfdrop.forecaster.plan import PlanPolicy
    from halfdrop.forecaster.replay import Replay

plan_app = typer.Typer(
    name="plan",
    help="Plans of warm GPUs: replay days of demand with a policy, its rivals and the best that was possible.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@plan_app.callback()
def _root() -> None:
    """Keep `replay` a command of its own."""


@plan_app.command()
def replay(
    *,
    history: Annotated[
        Path,
        typer.Option(
            help="CSV or Parquet, a row a minute: t (ISO 8601 or Unix seconds) and gpus (mean GPUs) or gpu_s.",
            exists=True,
            dir_okay=False,
        ),
    ],
    policy: Annotated[
        Path | None,
        typer.Option(
            help="TOML or JSON: idle_cost, late_cost, late_share_target, is_margin_steered, replicas_min, "
            "replicas_max, hold_minutes, hysteresis. Left out: the policy as shipped.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    days: Annotated[float, typer.Option(min=0.05, max=90, help="Days to serve, the last ones of the history.")] = 7.0,
    boot_min_s: Annotated[int, typer.Option(min=1, max=7200, help="Shortest boot of a GPU.")] = 240,
    boot_max_s: Annotated[int, typer.Option(min=1, max=7200, help="Longest boot of a GPU.")] = 480,
    service_s: Annotated[float, typer.Option(min=1, max=3600, help="Mean GPU-seconds of a job.")] = 20.0,
    knobs: Annotated[
        list[float] | None, typer.Option("--knob", min=0.05, max=2, help="A rival's target utilisation; repeat it.")
    ] = None,
    is_json: Json = False,
) -> None:
    """Serve past demand again, at one-second ticks: late jobs and GPU-hours of our policy and of seven others."""
    try:
        from halfdrop.forecaster.demand_file import read_demand  # noqa: PLC0415  pandas: a second that --help has not
        from halfdrop.forecaster.queue_simulator import PoolRules  # noqa: PLC0415
        from halfdrop.forecaster.replay import KNOBS, replay_demand  # noqa: PLC0415
    except ModuleNotFoundError as error:
        wish = ".venv/bin/python -m pip install -c requirements.lock --no-build-isolation -e '.[forecaster]'"
        detail = f"plans need {error.name}, which is not installed here; {wish}"
        raise PermanentError(detail, code="not-installed") from error

    if boot_max_s < boot_min_s:
        raise InvalidInput("--boot-max-s", got=boot_max_s, allowed=f"at least --boot-min-s, {boot_min_s}")
    chosen = read_policy(policy)
    demand = read_demand(history)
    for count, what in ((demand.duplicates, "repeated"), (demand.rejected, "impossible"), (demand.gaps, "unknown")):
        if count:
            typer.echo(f"history: {count} {what} minutes", err=True)
    found = replay_demand(
        demand.gpus,
        start_minute=demand.start_minute,
        window_minutes=min(round(days * 1440), len(demand.gpus)),
        policy=chosen,
        rules=PoolRules(boot_min_s=boot_min_s, boot_max_s=boot_max_s),
        mean_service_s=service_s,
        knobs=tuple(knobs) if knobs else KNOBS,
    )
    if is_json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode(found).decode())
        return
    for row in replay_rows(found):
        typer.echo(row)


def read_policy(path: Path | None) -> "PlanPolicy":
    """Read and check a policy file; raises InvalidInput that names what is wrong in it."""
    import msgspec  # noqa: PLC0415

    from halfdrop.forecaster.plan import PlanPolicy  # noqa: PLC0415

    if path is None:
        return PlanPolicy()
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        policy = decode(path.read_bytes(), type=PlanPolicy)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput("--policy", got=str(path), allowed=f"TOML or JSON of a policy: {error}") from error
    policy.check()
    return policy


def replay_rows(found: "Replay") -> list[str]:
    """Return the table: who, with which knob, how many late, at what cost."""
    rows = [f"{found.days:.1f} days, {found.jobs} jobs, {found.work_hours:.1f} GPU-hours of pure work"]
    rows.append(f"{'policy':12} {'knob':>5} {'late':>8} {'GPU-hours':>10} {'× oracle':>9}")
    for each in found.served:
        knob = "" if each.knob is None else f"{each.knob:g}"
        if each.is_whole:
            rows.append(
                f"{each.policy:12} {knob:>5} {each.late_share:8.2%} {each.gpu_hours:10.1f} {each.oracle_ratio:9.3f}"
            )
        else:
            rows.append(f"{each.policy:12} {knob:>5} {'> 10 %':>8} {'–':>10} {'–':>9}")
    return rows
