"""`python -m halfdrop.forecaster`: the forecaster; settings from HALFDROP_FORECASTER_* (see settings.py)."""

import asyncio
import os
import sys

from halfdrop.contracts.errors import HalfdropError
from halfdrop.forecaster.settings import PREFIX, ForecasterSettings
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.settings import load_settings


def main() -> int:
    """Run until a signal comes; return 1, after one clear line, when the forecaster cannot start."""
    configure_logs("forecaster")
    status = 0
    try:
        settings = load_settings(ForecasterSettings, prefix=PREFIX, environ=os.environ)
        _ = settings.hub_urls
        # Wrong settings are found before half a second of imports.
        from halfdrop.forecaster.process import run_forecaster  # noqa: PLC0415

        asyncio.run(run_forecaster(settings))
    except* HalfdropError as group:  # also from inside a task group
        print(f"halfdrop forecaster: {_first(group).splitlines()[0]}", file=sys.stderr)  # noqa: T201
        status = 1
    return status


def _first(group: BaseExceptionGroup[HalfdropError]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error)


if __name__ == "__main__":
    sys.exit(main())
