"""`python -m halfdrop.forecaster`: keeps the demand history, forecasts, plans, and serves the planner's page.

Settings come from HALFDROP_FORECASTER_* (settings.py) and HALFDROP_PLANNER_* (service/settings.py). With
`--history FILE` it looks at one's own weeks from a file instead, and needs no cluster.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from halfdrop.contracts.errors import HalfdropError
from halfdrop.forecaster.service.settings import PREFIX as PLANNER_PREFIX
from halfdrop.forecaster.service.settings import PlannerSettings
from halfdrop.forecaster.settings import PREFIX, ForecasterSettings
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.settings import load_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal comes; return 1, after one clear line, when the forecaster cannot start."""
    given = _parse(argv)
    configure_logs("forecaster")
    status = 0
    try:
        said = {f"{PLANNER_PREFIX}{name.upper()}": value for name, value in given.items() if value}
        asyncio.run(_choose(load_settings(PlannerSettings, prefix=PLANNER_PREFIX, environ={**os.environ, **said})))
    except* HalfdropError as group:  # also from inside a task group
        print(f"halfdrop forecaster: {_first(group).splitlines()[0]}", file=sys.stderr)  # noqa: T201
        status = 1
    return status


def _choose(planner: PlannerSettings) -> Coroutine[Any, Any, None]:
    """Return what is to run. Wrong settings are found before seconds of imports."""
    if planner.history:
        from halfdrop.forecaster.service.process import run_planner  # noqa: PLC0415

        return run_planner(planner)
    settings = load_settings(ForecasterSettings, prefix=PREFIX, environ=os.environ)
    _ = settings.hub_urls
    from halfdrop.forecaster.process import run_forecaster  # noqa: PLC0415

    return run_forecaster(settings, planner)


def _parse(argv: Sequence[str] | None) -> dict[str, str]:
    parser = argparse.ArgumentParser(prog="python -m halfdrop.forecaster", description="Forecasts, plans, and a page.")
    parser.add_argument("--history", default="", metavar="FILE", help="CSV or Parquet, a row a minute: no cluster")
    parser.add_argument("--pools", default="", metavar="FILE", help="TOML of the pools to plan")
    parser.add_argument("--port", default="", metavar="N", help="where to serve, 8090 if not said; 0: a free one")
    return {name: str(value) for name, value in vars(parser.parse_args(argv)).items()}


def _first(group: BaseExceptionGroup[HalfdropError]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error)


if __name__ == "__main__":
    sys.exit(main())
