"""The warning that this machine will go: a file that the node's termination handler makes.

Nodes that a provider takes back are drained by handlers that know that provider (AWS and Azure have one, Google's
kubelet does it itself), and a drained worker gets SIGTERM: that is the usual way, and needs nothing here. Where workers
run without such an orchestrator, the machine's own handler touches a file. We do not ask providers' metadata services
ourselves: each has its own paths, headers and tokens, and the handlers follow their changes.
"""

import asyncio
from pathlib import Path

import structlog

log = structlog.get_logger()

LOOK_S = 0.5
"""Of the 30 seconds that the shortest warning gives (Google's), little is lost."""


async def watch_for_interruption(path: str, stop: asyncio.Event) -> None:
    """Set `stop` once there is a file at `path`; with an empty path, never. Returns when `stop` is set."""
    while path and not stop.is_set():
        if await asyncio.to_thread(Path(path).exists):
            log.warning("interruption_announced", path=path)
            stop.set()
        else:
            await asyncio.sleep(LOOK_S)
