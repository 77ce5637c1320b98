"""The forecaster process: `python -m halfdrop.forecaster`, settings from HALFDROP_PLANNER_* (service/settings.py).

`--history FILE` looks at one's own weeks from a file, without a cluster; `--port N` serves elsewhere than on 8090.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from halfdrop.contracts.errors import HalfdropError
from halfdrop.forecaster.service.settings import PREFIX, PlannerSettings
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.settings import load_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal comes; return 1, after one clear line, when the forecaster cannot start."""
    given = _parse(argv)
    configure_logs("forecaster")
    status = 0
    try:
        environ = {**os.environ, **{f"{PREFIX}{name.upper()}": value for name, value in given.items() if value}}
        settings = load_settings(PlannerSettings, prefix=PREFIX, environ=environ)
        # Wrong settings are found before seconds' worth of imports.
        from halfdrop.forecaster.service.process import run_planner  # noqa: PLC0415

        asyncio.run(run_planner(settings))
    except* HalfdropError as group:  # also from inside a task group
        status = 1
        print(f"halfdrop forecaster: {_first(group)}", file=sys.stderr)  # noqa: T201
    return status


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
