"""Watch the children's log files: keep them bounded, and pass on the lines that a person should see."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

LOG_MAX_BYTES = 16 * 2**20
"""A log that grows past this is cut; what was in it is kept once, as `NAME.log.1`."""

POLL_S = 0.25
READ_MAX_BYTES = 256 * 1024
LINES_MAX = 20
"""Lines of one log shown per look; a flood stays in the file."""

LINE_MAX_CHARS = 300

NATS_LEVELS = ("[WRN]", "[ERR]", "[FTL]")


QUIET_LEVELS = ("debug", "info")
DULL_FIELDS = ("event", "level", "timestamp", "process", "exception")
"""Fields of an event that are said otherwise, or are long: they stand in the file."""


class LogWatch:
    """Reads what is appended to one log from now on."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def read_lines(self) -> list[str]:
        """Return the whole lines that were appended since the last call, READ_MAX_BYTES at most at a time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(READ_MAX_BYTES)
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def cut(self) -> None:
        """Keep a copy of the log and empty it. Its writer appends, so it goes on at the new end."""
        self.path.with_suffix(".log.1").write_bytes(self.path.read_bytes())
        with self.path.open("r+b") as file:
            file.truncate()
        self._offset, self._rest = 0, b""


async def watch_logs(logs: Sequence[LogWatch], say: Callable[[str], None]) -> None:
    """Pass the warnings in `logs` to `say`, each with the name of its part in front, until cancelled."""
    while True:
        await asyncio.sleep(POLL_S)
        for log in logs:
            pass_warnings(log, say)


def pass_warnings(log: LogWatch, say: Callable[[str], None]) -> None:
    """Say what one log has gained, and cut it when it is long."""
    worth = [text for line in log.read_lines() if (text := read_warning(line))]
    for text in worth[:LINES_MAX]:
        say(f"{log.name}: {text[:LINE_MAX_CHARS]}")
    if len(worth) > LINES_MAX:
        say(f"{log.name}: … {len(worth) - LINES_MAX} more in {log.path}")
    if log.path.exists() and log.path.stat().st_size > LOG_MAX_BYTES:
        log.cut()


def read_warning(line: str) -> str | None:
    """Return what a person should see of a log line: warnings and worse, and text that is no log event at all.

    Valkey's own lines are left out: it warns about kernel settings at each start, and it keeps nothing to lose. So
    are indented lines, the inside of a traceback: its ends say enough here.
    """
    if line.startswith("{"):
        return _read_event(line)
    if line.startswith("["):
        return line if any(level in line for level in NATS_LEVELS) else None
    if ":M " in line[:16] or ":C " in line[:16] or ":signal-handler" in line[:30]:
        return None
    return None if line[:1].isspace() else line.rstrip() or None


def _read_event(line: str) -> str | None:
    """Return "warning job_failed job_id=…" for a structlog line; None if it is not worth showing."""
    try:
        event = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return line
    if event.get("level", "info") in QUIET_LEVELS:
        return None
    fields = (f"{name}={value}" for name, value in event.items() if name not in DULL_FIELDS)
    text = " ".join((str(event.get("level")), str(event.get("event")), *fields))
    return " ".join(text.split())  # some errors bring their own lines
