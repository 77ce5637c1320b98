"""How a process begins and ends: stop on a signal, and never outlive the supervisor that started it."""

import asyncio
import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "HALFDROP_PARENT_PID"
"""Set by a supervisor for its children: the process id that they must not outlive."""

_PR_SET_PDEATHSIG = 1


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets. Call it in the running loop, once, before opening resources."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop


def die_with_parent() -> None:
    """Have Linux send this process SIGTERM when its supervisor dies, even by SIGKILL.

    Does nothing unless a supervisor asked for it through HALFDROP_PARENT_PID, nor on systems without prctl. Leaves at
    once when the supervisor is already gone: it may have died between the fork and this call.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(f"the supervisor (process {parent}) is gone")
