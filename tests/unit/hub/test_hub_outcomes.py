from random import Random

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput, PermanentError, TransientError, Unavailable
from halfdrop.contracts.jobs import JobState, JobStatus, supersedes
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.tries import Tries
from halfdrop.hub.outcomes import (
    Outcome,
    Verdict,
    canceled,
    exhausted,
    failed,
    finished_before,
    handed_back,
    is_exhausted,
)
from halfdrop.hub.retries import WAIT_MAX_S


def status(attempt: int = 1) -> JobStatus:
    return JobStatus(
        id="job1",
        origin="test",
        state=JobState.PROCESSING,
        spec=PatternSpec(prompt="red dots", model_digest="0" * 64),
        size_px=256,
        pattern_key="0" * 32,
        attempt=attempt,
        created_at=1.0,
        worker="hub-1",
    )


def fail(told: JobStatus, error: Exception) -> Outcome:
    return failed(told, error, max_deliver=5, now=9.0, random=Random(7))


@pytest.mark.parametrize(
    "error", [PermanentError("no", code="bad-plates"), InvalidInput("size_px", got=9, allowed="64")]
)
def test_what_cannot_succeed_is_buried_at_the_first_attempt(error: PermanentError) -> None:
    outcome = fail(status(), error)
    assert outcome.verdict is Verdict.BURY
    assert outcome.status.state is JobState.FAILED
    assert outcome.status.completed_at == 9.0
    assert outcome.status.error is not None
    assert (outcome.status.error.code, outcome.status.error.is_transient) == (error.code, False)


@pytest.mark.parametrize(
    ("error", "deliveries"),
    [(Unavailable("store is away"), 20), (TransientError("busy"), 5), (TimeoutError(), 5), (ValueError("red"), 3)],
)
def test_what_may_pass_is_retried_and_buried_once_its_kind_has_been_tried_often_enough(
    error: Exception, deliveries: int
) -> None:
    told = status(0)
    for attempt in range(1, deliveries + 1):
        outcome = fail(msgspec.structs.replace(told, attempt=attempt), error)
        told = outcome.status
        if attempt < deliveries:
            assert outcome.verdict is Verdict.RETRY, attempt
            assert told.state is JobState.RETRYING
            assert told.completed_at is None
            assert outcome.retry_after_s <= WAIT_MAX_S + 1
    assert outcome.verdict is Verdict.BURY


def test_a_hand_back_costs_a_job_nothing_and_a_killed_worker_one_delivery() -> None:
    told = status(1)
    for attempt in range(1, 31):
        told = handed_back(msgspec.structs.replace(told, attempt=attempt)).status
    assert told.tries == Tries(through=30, spent=0.0, handed_back=30)
    killed = [is_exhausted(msgspec.structs.replace(told, attempt=attempt), max_deliver=5) for attempt in range(31, 38)]
    assert killed == [False] * 5 + [True] * 2


def test_the_wait_that_an_error_asks_for_is_kept() -> None:
    assert 30 <= fail(status(), TransientError("busy", retry_after_s=30)).retry_after_s <= 31


def test_the_text_of_an_unforeseen_error_is_not_told_because_it_may_hold_a_prompt() -> None:
    error = fail(status(), ValueError("red dots secret")).status.error
    assert error is not None
    assert "secret" not in error.detail
    assert "ValueError" in error.detail


def test_a_job_handed_back_is_taken_again_at_once() -> None:
    outcome = handed_back(status())
    assert (outcome.verdict, outcome.retry_after_s) == (Verdict.RETRY, 0.0)
    assert outcome.status.state is JobState.RETRYING
    assert outcome.status.error is not None
    assert outcome.status.error.code == "handed-back"


def test_a_result_found_is_told_as_that_of_the_present_revival() -> None:
    done = msgspec.structs.replace(status(), state=JobState.COMPLETED, completed_at=4.0)
    revived = msgspec.structs.replace(status(), revival=2)
    assert finished_before(done, status()).status == done
    told = finished_before(done, revived).status
    assert told == msgspec.structs.replace(done, revival=2)
    assert supersedes(told, msgspec.structs.replace(revived, attempt=3))


def test_cancelled_and_exhausted_jobs_have_an_end() -> None:
    for outcome, state in (
        (canceled(status(), now=9.0), JobState.CANCELED),
        (exhausted(status(6), max_deliver=5, now=9.0), JobState.FAILED),
    ):
        assert outcome.status.state is state
        assert outcome.status.completed_at == 9.0
