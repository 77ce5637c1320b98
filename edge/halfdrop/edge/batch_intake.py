"""Reading a batch: a stream of lines, checked in slices so short that nobody else's request waits for them.

The lines that are right are kept as they will lie in the object store; of those that are not, the first
ERRORS_LISTED_MAX are told with their numbers and the rest is counted. What is held is bounded by the settings, for each
of INTAKES_MAX batches that are read at once.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from halfdrop.contracts.errors import Overloaded, PermanentError
from halfdrop.edge.batch_lines import LINE_MAX_BYTES, BatchLine, LineError, LineRules, check_line, refuse_line
from halfdrop.edge.batch_state import LineCode
from halfdrop.edge.requests import DRAIN_MAX_BYTES, BodyTooLarge, MalformedBody, UnsupportedMediaType

ERRORS_LISTED_MAX = 1_000
INTAKES_MAX = 4
"""Batches read at once; each may hold its whole body."""

SLICE_S = 0.001
"""How long lines are checked before everybody else has a turn: three lines or so."""

REST_S = 0.001
"""Pause after a slice: lines take half of the loop's time at most, however many come at once."""

MEDIA_TYPES = ("application/jsonl", "application/x-ndjson")
_MEDIA_TYPE = re.compile(rf"(?:{'|'.join(map(re.escape, MEDIA_TYPES))})\s*(?:;|\Z)", re.IGNORECASE)


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a batch may be."""

    lines_max: int
    bytes_max: int


class BatchRefused(PermanentError):
    """No line of a batch can run, or one cannot and the client wants all or nothing."""

    def __init__(self, detail: str, errors: tuple[LineError, ...]) -> None:
        super().__init__(detail, code="batch-refused")
        self.errors = errors


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as it was read."""

    lines: bytes
    """The good ones, a BatchLine each."""

    states: bytes
    """A LineCode for each line of the body."""

    errors: tuple[LineError, ...]
    digest: str
    """SHA-256 of the body."""

    @property
    def refused(self) -> int:
        return self.states.count(LineCode.REFUSED)

    @property
    def accepted(self) -> int:
        return self.states.count(LineCode.WAITING)


class IntakeRoom:
    """The places for batches that are being read, at this edge."""

    def __init__(self) -> None:
        self._taken = 0
        self.lines_refused = 0
        """Bad lines since the start."""

    async def read(
        self, body: AsyncIterator[bytes], content_type: str, rules: LineRules, limits: BatchLimits
    ) -> Intake:
        """Read and check a whole body.

        Raises UnsupportedMediaType, BodyTooLarge, MalformedBody for an empty one, and Overloaded where too many are
        being read already.
        """
        if not _MEDIA_TYPE.match(content_type):
            allowed = " or ".join(map(repr, MEDIA_TYPES))
            detail = f"content-type: got {content_type[:80]!r}; allowed: {allowed}"
            raise UnsupportedMediaType(detail, code="unsupported-media-type")
        if self._taken >= INTAKES_MAX:
            raise Overloaded(f"{self._taken} batches are being read already", retry_after_s=2.0)
        self._taken += 1
        try:
            found = await _read(body, rules, limits)
        finally:
            self._taken -= 1
        self.lines_refused += found.refused
        return found


async def _read(body: AsyncIterator[bytes], rules: LineRules, limits: BatchLimits) -> Intake:
    good, states, errors = bytearray(), bytearray(), list[LineError]()
    taken: set[str] = set()
    digest = hashlib.sha256()
    slice_ends_s = time.perf_counter() + SLICE_S
    async for raw in split_lines(body, digest.update, limits.bytes_max):
        if len(states) >= limits.lines_max:
            await _drain(body)
            raise _too_large(f"{limits.lines_max} lines")
        outcome = _check(len(states) + 1, raw, rules, taken)
        if outcome is None:
            states.append(LineCode.BLANK)
        elif isinstance(outcome, BatchLine):
            states.append(LineCode.WAITING)
            good += msgspec.json.encode(outcome) + b"\n"
        else:
            states.append(LineCode.REFUSED)
            if len(errors) < ERRORS_LISTED_MAX:
                errors.append(outcome)
        if time.perf_counter() >= slice_ends_s:
            await asyncio.sleep(REST_S)
            slice_ends_s = time.perf_counter() + SLICE_S
    if states.count(LineCode.BLANK) == len(states):
        raise MalformedBody("body: got no line; allowed: one JSON object on each line", code="malformed-body")
    return Intake(lines=bytes(good), states=bytes(states), errors=tuple(errors), digest=digest.hexdigest())


def _check(number: int, raw: bytes | None, rules: LineRules, taken: set[str]) -> BatchLine | LineError | None:
    """Return the line, what is wrong with it, or None for a blank one. raw: None for one that is too long."""
    if raw is None:
        detail = f"line: got more than {LINE_MAX_BYTES} bytes; allowed: up to that"
        return LineError(line=number, detail=detail, code="body-too-large")
    if not raw.strip():
        return None
    try:
        return check_line(number, raw, rules, taken)
    except PermanentError as error:
        return refuse_line(number, error)


async def split_lines(
    body: AsyncIterator[bytes], note: Callable[[bytes], object], bytes_max: int
) -> AsyncIterator[bytes | None]:
    """Yield each line of `body` without its end, None for one longer than LINE_MAX_BYTES; `note` sees every chunk.

    Raises BodyTooLarge after `bytes_max` bytes.
    """
    rest, size_bytes, is_too_long = b"", 0, False
    async for chunk in body:
        size_bytes += len(chunk)
        if size_bytes > bytes_max:
            await _drain(body)
            raise _too_large(f"{bytes_max} bytes")
        note(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield None if is_too_long or len(line) > LINE_MAX_BYTES else line
            is_too_long = False
        if len(rest) > LINE_MAX_BYTES:  # what follows belongs to it: nothing of it is kept
            rest, is_too_long = b"", True
    if is_too_long:
        yield None
    elif rest:
        yield None if len(rest) > LINE_MAX_BYTES else rest


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read on and throw away, within reason: a client still sending would not see the answer."""
    left_bytes = DRAIN_MAX_BYTES
    async for chunk in body:
        left_bytes -= len(chunk)
        if left_bytes < 0:
            return


def _too_large(allowed: str) -> BodyTooLarge:
    detail = f"body: got more than {allowed}; allowed: up to that in one batch"
    return BodyTooLarge(detail, code="body-too-large")
