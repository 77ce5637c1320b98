"""What is known of a batch, and the decisions about it that need no clock and no server.

A batch's state is a letter for each line and the place in the file up to which lines were placed. The order of a line
has an id that follows from batch and number, so whoever reads an old state after a crash places again what was placed
already, and that is the same order.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from halfdrop.contracts.jobs import JobState, Webhook

BatchPhase = Literal["running", "paused", "canceling", "completed", "canceled"]
FINAL_PHASES: tuple[BatchPhase, ...] = ("completed", "canceled")


class LineCode:
    """Where a line is: a byte that can be read in a dump."""

    BLANK = ord(".")
    REFUSED = ord("x")
    WAITING = ord("w")
    QUEUED = ord("q")
    PROCESSING = ord("p")
    COMPLETED = ord("c")
    FAILED = ord("f")
    CANCELED = ord("k")


LINE_CODES: dict[JobState, int] = {
    JobState.QUEUED: LineCode.QUEUED,
    JobState.PROCESSING: LineCode.PROCESSING,
    JobState.RETRYING: LineCode.PROCESSING,
    JobState.COMPLETED: LineCode.COMPLETED,
    JobState.FAILED: LineCode.FAILED,
    JobState.CANCELED: LineCode.CANCELED,
}
UNFINISHED_CODES = (LineCode.QUEUED, LineCode.PROCESSING)

WINDOW_MIN = 4
"""Orders of a batch that are unfinished at once, at least: workers with nothing else to do are found by it."""

STARTED_SOON_S, STARTED_LATE_S = 1.0, 3.0
"""An order that was begun sooner than the first says that more could be under way; later than the second, fewer."""

RATE_SAMPLES = 256


class LineCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines by where they are; all but `total` add up to it."""

    total: int
    refused: int
    """Lines that could not be read or understood: `urls.errors` tells why."""

    waiting: int
    """Not placed yet."""

    queued: int
    processing: int
    completed: int
    failed: int
    canceled: int

    @property
    def accepted(self) -> int:
        return self.total - self.refused

    @property
    def final(self) -> int:
        return self.completed + self.failed + self.canceled


class BatchState(msgspec.Struct, frozen=True, kw_only=True, tag="batch.v1"):
    """A batch, as the edge that accepted it keeps it."""

    id: str
    tenant: str
    phase: BatchPhase = "running"
    created_at: float
    started_at: float | None = None
    """Unix seconds when work on its first order began."""

    finished_at: float | None = None
    states: bytes
    """A LineCode for each line of what the client sent."""

    cursor_bytes: int = 0
    """Lines of the stored file before this place were placed."""

    input_bytes: int
    webhook: Webhook | msgspec.UnsetType = msgspec.UNSET
    """Whom to tell of its end."""

    is_told: bool = False
    """Whether its end was told."""

    cancel_at: float | msgspec.UnsetType = msgspec.UNSET


def encode_batch(state: BatchState) -> bytes:
    """Return the MessagePack form of a batch's state: a byte a line and some more."""
    return msgspec.msgpack.encode(state)


def decode_batch(data: bytes) -> BatchState:
    """Return the state in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.msgpack.decode(data, type=BatchState)


def count_lines(states: bytes | bytearray, *, is_over: bool) -> LineCounts:
    """Return how many lines are where. is_over: what was not placed by the end of its batch never will be."""
    waiting = states.count(LineCode.WAITING)
    return LineCounts(
        total=len(states) - states.count(LineCode.BLANK),
        refused=states.count(LineCode.REFUSED),
        waiting=0 if is_over else waiting,
        queued=states.count(LineCode.QUEUED),
        processing=states.count(LineCode.PROCESSING),
        completed=states.count(LineCode.COMPLETED),
        failed=states.count(LineCode.FAILED),
        canceled=states.count(LineCode.CANCELED) + (waiting if is_over else 0),
    )


def next_window(window: float, waited_s: float, *, unfinished: int, window_max: int) -> float:
    """Return how many orders of a batch may be unfinished, now that one was begun `waited_s` after it was placed.

    It doubles with each round while workers begin at once, and shrinks while they do not: so a pool of any size is kept
    busy, and what a pause or a cancel finds at the hub is a few seconds of work. It grows only while it is used.
    """
    if waited_s > STARTED_LATE_S:
        return max(WINDOW_MIN, window * 0.9)
    if waited_s < STARTED_SOON_S and unfinished + 2 >= window:
        return min(window_max, window + 1)
    return window


def rate_per_s(ends: Sequence[float], now: float) -> float | None:
    """Return lines finished in a second, from the newest times of such ends; None before the second one.

    It falls while nothing ends.
    """
    if len(ends) < 2:
        return None
    span_s = max(now, ends[-1]) - ends[0]
    return (len(ends) - 1) / span_s if span_s > 0 else None
