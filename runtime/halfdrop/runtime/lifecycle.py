"""How a process ends: a signal asks it to, and it stops in order.

That a process never outlives its supervisor is the supervisor's business: halfdrop.deploy.leash.
"""

import asyncio
import signal


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets. Call it in the running loop, once, before opening resources."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop
