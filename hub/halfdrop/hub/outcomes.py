"""What becomes of a delivery: a decision as a value, made without touching anything."""

from enum import StrEnum
from random import Random

import msgspec
from msgspec.structs import replace

from halfdrop.contracts.errors import PermanentError, TransientError
from halfdrop.contracts.jobs import JobError, JobState, JobStatus, revival_of
from halfdrop.contracts.tries import NO_TRIES, Tries
from halfdrop.hub.retries import Failure, charge, failure_of, hand_back, spent_before, wait_s


class Verdict(StrEnum):
    """The ways a delivery ends."""

    COMPLETE = "complete"  # store the result, announce, ack
    REPEAT = "repeat"  # it was finished before: announce again, ack
    CANCEL = "cancel"  # remove what was stored, announce, ack
    RETRY = "retry"  # announce, nak
    BURY = "bury"  # copy to DEAD, announce, term
    YIELD = "yield"  # another region runs it and tells of it: ack


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and the status to announce with it."""

    verdict: Verdict
    status: JobStatus
    retry_after_s: float = 0.0
    """Only for RETRY: the delay of the nak."""

    is_saved: bool = False
    """Saved progress may lie with the job's files; the end of the job removes it."""


def canceled(status: JobStatus, *, now: float) -> Outcome:
    """The job's owner does not want it (any more)."""
    return Outcome(verdict=Verdict.CANCEL, status=replace(status, state=JobState.CANCELED, completed_at=now))


def finished_before(result: JobStatus, status: JobStatus) -> Outcome:
    """The job is done already. Its result is told as that of the present revival, or nobody would take it."""
    told = result if revival_of(result) >= revival_of(status) else replace(result, revival=status.revival)
    return Outcome(verdict=Verdict.REPEAT, status=told, is_saved=True)


def handed_back(status: JobStatus) -> Outcome:
    """This worker stops before the job is done; another one may take it at once, and goes on from the same step."""
    error = JobError(code="handed-back", detail=f"{status.worker} stopped before the job was done", is_transient=True)
    tries = hand_back(tries_of(status), status.attempt)
    return Outcome(verdict=Verdict.RETRY, status=replace(status, state=JobState.RETRYING, error=error, tries=tries))


def is_exhausted(status: JobStatus, *, max_deliver: int) -> bool:
    """True if the deliveries before this one have cost all that a job may spend."""
    return spent_before(tries_of(status), status.attempt) >= max_deliver


def exhausted(status: JobStatus, *, max_deliver: int, now: float) -> Outcome:
    """The job was delivered once too often: it never ended, as when it takes its worker down with it."""
    ended = status.attempt - 1
    detail = f"given up after {ended} deliveries, max_deliver being {max_deliver}; the last ended without a word"
    return _buried(status, JobError(code="too-many-deliveries", detail=detail), now)


def failed(status: JobStatus, error: Exception, *, max_deliver: int, now: float, random: Random) -> Outcome:
    """Retry what may pass, bury what cannot or has been tried often enough.

    An error that nobody foresaw may pass, too: the next worker may be another release or another machine.
    """
    if isinstance(error, PermanentError):
        return _buried(status, JobError(code=error.code, detail=error.detail), now)
    failure = failure_of(error)
    before = tries_of(status)
    tries = charge(before, status.attempt, failure)
    status = replace(status, tries=tries)
    cause = _describe(failure, error)
    if tries.spent >= max_deliver:
        return _buried(status, cause, now)
    delay_s = wait_s(
        failure,
        failures=max(0, status.attempt - 1 - before.handed_back),
        retry_after_s=error.retry_after_s if isinstance(error, TransientError) else 0.0,
        random=random,
    )
    retrying = replace(status, state=JobState.RETRYING, error=cause)
    return Outcome(verdict=Verdict.RETRY, status=retrying, retry_after_s=delay_s)


def tries_of(status: JobStatus) -> Tries:
    """Return the job's account; an empty one before the first failure."""
    return NO_TRIES if status.tries is msgspec.UNSET else status.tries


def _describe(failure: Failure, error: Exception) -> JobError:
    if isinstance(error, TransientError):
        return JobError(code="transient", detail=error.detail, is_transient=True)
    if failure is Failure.TOO_SLOW:
        return JobError(code="too-slow", detail="the work took longer than a delivery may", is_transient=True)
    # Only the kind: the text of an unforeseen error may hold a prompt.
    return JobError(code="internal", detail=f"unexpected {type(error).__name__}", is_transient=True)


def _buried(status: JobStatus, error: JobError, now: float) -> Outcome:
    failed_status = replace(status, state=JobState.FAILED, error=error, completed_at=now)
    return Outcome(verdict=Verdict.BURY, status=failed_status, is_saved=True)
