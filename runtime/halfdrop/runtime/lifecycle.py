"""How a process ends: a signal asks it to, and it stops in order.

That a process never outlives its supervisor is the supervisor's business: halfdrop.deploy.leash.
"""

import asyncio
import signal
from collections.abc import Collection
from typing import Any

CANCEL_AGAIN_S = 5.0
"""Longer than a task takes that has something to put away first: a last report has three seconds."""


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets. Call it in the running loop, once, before opening resources."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop


async def end_tasks(tasks: Collection["asyncio.Task[Any]"], *, again_s: float = CANCEL_AGAIN_S) -> None:
    """Cancel the tasks until they have ended; what they raised is left for their owner to see.

    Once is not always enough: up to Python 3.11 `asyncio.wait_for`, which nats-py waits with, swallows a cancellation
    that comes in the very moment of its answer, and an endless task goes on.
    """
    going = set(tasks)
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=again_s)
