"""Progress lines of the training commands: plain lines on standard output, flushed, for a terminal or a log file."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
