"""The edge process: `python -m halfdrop.edge`, settings from HALFDROP_EDGE_* (see settings.py)."""

import os
import sys
import time

from halfdrop.contracts.errors import HalfdropError
from halfdrop.edge.settings import PREFIX, EdgeSettings, is_open
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.settings import load_settings
from halfdrop.runtime.tracing import open_tracing


def main() -> int:
    """Run until a signal comes; return 1, after one clear line, when the edge cannot start."""
    began_s, status = time.monotonic(), 0
    configure_logs("edge")
    try:
        settings = load_settings(EdgeSettings, prefix=PREFIX, environ=os.environ)
        is_open(settings)
        # Wrong settings are found before a second's worth of imports.
        import uvloop  # noqa: PLC0415

        from halfdrop.edge.process import run_edge  # noqa: PLC0415

        with open_tracing("halfdrop-edge", settings.name) as tracing:
            uvloop.run(run_edge(settings, tracing, began_s=began_s))
    except* HalfdropError as group:  # also from inside a task group
        status = 1
        # A library's error may go on for pages below its first line.
        print(f"halfdrop edge: {_first(group).splitlines()[0]}", file=sys.stderr)  # noqa: T201
    return status


def _first(group: BaseExceptionGroup[HalfdropError]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error)


if __name__ == "__main__":
    sys.exit(main())
