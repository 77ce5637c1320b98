"""What becomes of a delivery: a decision as a value, made without touching anything."""

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from halfdrop.contracts.errors import PermanentError, TransientError
from halfdrop.contracts.jobs import JobError, JobState, JobStatus

RETRY_DELAYS_S = (1.0, 4.0, 15.0, 60.0)
"""Wait before the second delivery, the third and so on; the last one repeats."""


class Verdict(StrEnum):
    """The five ways a delivery ends."""

    COMPLETE = "complete"  # store the result, announce, ack
    REPEAT = "repeat"  # it was finished before: announce again, ack
    CANCEL = "cancel"  # remove what was stored, announce, ack
    RETRY = "retry"  # announce, nak
    BURY = "bury"  # copy to DEAD, announce, term


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and the status to announce with it."""

    verdict: Verdict
    status: JobStatus
    retry_after_s: float = 0.0
    """Only for RETRY: the delay of the nak."""


def canceled(status: JobStatus, *, now: float) -> Outcome:
    """The job's owner does not want it (any more)."""
    return Outcome(verdict=Verdict.CANCEL, status=replace(status, state=JobState.CANCELED, completed_at=now))


def handed_back(status: JobStatus) -> Outcome:
    """This worker stops before the job is done; another one may take it at once."""
    error = JobError(code="handed-back", detail=f"{status.worker} stopped before the job was done", is_transient=True)
    return Outcome(verdict=Verdict.RETRY, status=replace(status, state=JobState.RETRYING, error=error))


def exhausted(status: JobStatus, *, max_deliver: int, now: float) -> Outcome:
    """The job was delivered once too often: it never ended, as when it takes its worker down with it."""
    detail = f"given up after {max_deliver} deliveries; none of them ended"
    return _buried(status, JobError(code="too-many-deliveries", detail=detail), now)


def failed(status: JobStatus, error: Exception, *, max_deliver: int, now: float) -> Outcome:
    """Retry what may pass, bury what cannot or has been tried often enough.

    An error that nobody foresaw counts as transient: the next worker may be another release or another machine.
    """
    if isinstance(error, PermanentError):
        return _buried(status, JobError(code=error.code, detail=error.detail), now)
    if isinstance(error, TransientError):
        cause = JobError(code="transient", detail=error.detail, is_transient=True)
        wait_s = error.retry_after_s
    elif isinstance(error, TimeoutError):
        cause = JobError(code="too-slow", detail="the work took longer than a delivery may", is_transient=True)
        wait_s = 0.0
    else:
        # Only the kind: the text of an unforeseen error may hold a prompt.
        cause = JobError(code="internal", detail=f"unexpected {type(error).__name__}", is_transient=True)
        wait_s = 0.0
    if status.attempt >= max_deliver:
        return _buried(status, cause, now)
    delay_s = RETRY_DELAYS_S[min(status.attempt, len(RETRY_DELAYS_S)) - 1]
    retrying = replace(status, state=JobState.RETRYING, error=cause)
    return Outcome(verdict=Verdict.RETRY, status=retrying, retry_after_s=max(delay_s, wait_s))


def _buried(status: JobStatus, error: JobError, now: float) -> Outcome:
    return Outcome(verdict=Verdict.BURY, status=replace(status, state=JobState.FAILED, error=error, completed_at=now))
