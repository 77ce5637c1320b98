"""Ids of an order's events, from which a stream goes on after a reconnect, at this edge or the same one restarted.

An id says what was told up to it, and is worked out from the status alone: nothing is counted per connection. What no
version of us wrote reads as "nothing was told".
"""

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET

from halfdrop.contracts.jobs import JobState, JobStatus, revival_of

_RANKS = {JobState.QUEUED: 0, JobState.PROCESSING: 1, JobState.RETRYING: 2}
_FINAL_RANK = 3
_NUMBER = "(0|[1-9][0-9]{0,9})"
_SNAPSHOT = re.compile(rf"s{_NUMBER}-{_NUMBER}-([0-3])-{_NUMBER}-{_NUMBER}-{_NUMBER}")
_TOLD = re.compile(rf"r{_NUMBER}-{_NUMBER}-([0-3])-{_NUMBER}")


class Snapshot(NamedTuple):
    """Which snapshot of an order was sent: `s0-1-1-7-2-93204`."""

    revival: int
    """How often the job was brought back from the dead letters."""

    attempt: int
    rank: int
    """Of the state: queued, processing, retrying, and 3 for a final one."""

    step: int
    lines: int
    """Of the log."""

    rest: int
    """Checksum of what else changes: the stage, and which picture of the progress there is."""

    def __str__(self) -> str:
        return "s" + "-".join(map(str, self))

    @property
    def is_final(self) -> bool:
        return self.rank == _FINAL_RANK

    def covers(self, other: "Snapshot") -> bool:
        """True if whoever has this snapshot has no use for `other`: it is the same, or older."""
        mine, others = ((each.revival, each.is_final, *each[1:4]) for each in (self, other))
        return self == other or mine > others


def snapshot_of(status: JobStatus) -> Snapshot:
    """Return the id of a status."""
    picture = 0 if status.progress_picture is UNSET else status.progress_picture.step
    rest = zlib.crc32(f"{status.stage} {picture}".encode())
    rank = _RANKS.get(status.state, _FINAL_RANK)
    return Snapshot(revival_of(status), status.attempt, rank, status.step, len(status.log), rest)


def read_snapshot(text: str) -> Snapshot | None:
    """Return the snapshot that a Last-Event-ID names, None for anything else."""
    found = _SNAPSHOT.fullmatch(text)
    return Snapshot(*map(int, found.groups())) if found else None


LOGS, OUTPUT, ERROR, DONE = range(4)


class Told(NamedTuple):
    """What was told of an order in Replicate's events: `r3-412233-1-2`."""

    lines: int = 0
    """Of the log, with those on the words of the order."""

    line: int = 0
    """Checksum of the last one: a log keeps its newest lines only, so their numbers may change."""

    phase: int = LOGS
    files: int = 0
    """Whose addresses were told."""

    def __str__(self) -> str:
        return "r" + "-".join(map(str, self))

    def after(self, line: str) -> "Told":
        """Return this with one more line told."""
        return self._replace(lines=self.lines + 1, line=zlib.crc32(line.encode()))

    def find_in(self, lines: Sequence[str]) -> int:
        """Return how many of `lines` were told: up to the last one told, wherever it is now."""
        if self.lines <= len(lines) and (self.lines == 0 or zlib.crc32(lines[self.lines - 1].encode()) == self.line):
            return self.lines
        places = (place for place in range(len(lines), 0, -1) if zlib.crc32(lines[place - 1].encode()) == self.line)
        return next(places, 0)


def read_told(text: str) -> Told:
    """Return what a Last-Event-ID says was told; nothing for anything else."""
    found = _TOLD.fullmatch(text)
    return Told(*map(int, found.groups())) if found else Told()
