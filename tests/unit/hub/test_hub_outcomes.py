import pytest

from halfdrop.contracts.errors import InvalidInput, PermanentError, TransientError, Unavailable
from halfdrop.contracts.jobs import JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.hub.outcomes import RETRY_DELAYS_S, Verdict, canceled, exhausted, failed, handed_back


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


@pytest.mark.parametrize(
    "error", [PermanentError("no", code="bad-plates"), InvalidInput("size_px", got=9, allowed="64")]
)
def test_what_cannot_succeed_is_buried_at_the_first_attempt(error: PermanentError) -> None:
    outcome = failed(status(), error, max_deliver=5, now=9.0)
    assert outcome.verdict is Verdict.BURY
    assert outcome.status.state is JobState.FAILED
    assert outcome.status.completed_at == 9.0
    assert outcome.status.error is not None
    assert (outcome.status.error.code, outcome.status.error.is_transient) == (error.code, False)


@pytest.mark.parametrize(
    "error", [Unavailable("store is away"), TransientError("busy"), TimeoutError(), ValueError("red dots secret")]
)
def test_what_may_pass_is_retried_with_growing_waits_and_then_buried(error: Exception) -> None:
    outcomes = [failed(status(attempt), error, max_deliver=5, now=9.0) for attempt in range(1, 6)]
    assert [o.verdict for o in outcomes] == [Verdict.RETRY] * 4 + [Verdict.BURY]
    assert [o.retry_after_s for o in outcomes[:4]] == list(RETRY_DELAYS_S)
    assert all(o.status.state is JobState.RETRYING and o.status.completed_at is None for o in outcomes[:4])


def test_the_wait_that_an_error_asks_for_is_kept() -> None:
    assert failed(status(), TransientError("busy", retry_after_s=30), max_deliver=5, now=9.0).retry_after_s == 30


def test_the_last_wait_repeats_when_more_deliveries_are_allowed() -> None:
    assert failed(status(90), TransientError("busy"), max_deliver=100, now=9.0).retry_after_s == RETRY_DELAYS_S[-1]


def test_the_text_of_an_unforeseen_error_is_not_told_because_it_may_hold_a_prompt() -> None:
    error = failed(status(), ValueError("red dots secret"), max_deliver=5, now=9.0).status.error
    assert error is not None
    assert "secret" not in error.detail
    assert "ValueError" in error.detail


def test_a_job_handed_back_is_taken_again_at_once() -> None:
    outcome = handed_back(status())
    assert (outcome.verdict, outcome.retry_after_s) == (Verdict.RETRY, 0.0)
    assert outcome.status.state is JobState.RETRYING


def test_cancelled_and_exhausted_jobs_have_an_end() -> None:
    for outcome, state in (
        (canceled(status(), now=9.0), JobState.CANCELED),
        (exhausted(status(6), max_deliver=5, now=9.0), JobState.FAILED),
    ):
        assert outcome.status.state is state
        assert outcome.status.completed_at == 9.0
