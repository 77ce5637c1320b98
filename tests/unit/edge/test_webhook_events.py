"""What of an order's course is told, under which ids, and in what body."""

import msgspec

from halfdrop.contracts.jobs import Artifact, JobError, JobState, JobStatus, Webhook, WebhookEvent
from halfdrop.contracts.patterns import PROMPT_MAX_CHARS, PatternSpec, Wording
from halfdrop.edge.order_terms import WEBHOOK_EVENTS
from halfdrop.edge.predictions import Prediction, make_prediction, sign_files
from halfdrop.edge.webhooks.bodies import BODY_MAX_BYTES, make_body
from halfdrop.edge.webhooks.events import (
    WebhookRecord,
    decode_record,
    encode_record,
    events_of,
    is_event_id,
)

ORDER = "0kf5xk3q6v8c2m9t4r7w1ybzen"
NOW = 1_790_000_000.0
QUEUED = JobStatus(
    id=ORDER, origin="test", state=JobState.QUEUED, spec=PatternSpec(prompt="dots", model_digest="ab" * 32),
    size_px=256, pattern_key="ab" * 16, created_at=NOW,
    webhook=Webhook(url="https://example.com/", events=WEBHOOK_EVENTS),
)  # fmt: skip


def step(state: JobState, number: int, *log: str, attempt: int = 1) -> JobStatus:
    return msgspec.structs.replace(
        QUEUED, state=state, attempt=attempt, step=number, steps=4, started_at=NOW + 1, log=log
    )


STARTED = step(JobState.PROCESSING, 0)
LOGGED = step(JobState.PROCESSING, 1, "master 0.2 s")
DONE = msgspec.structs.replace(step(JobState.COMPLETED, 4, "master 0.2 s", "svg 0.1 s"), completed_at=NOW + 2)


def asked(status: JobStatus, *events: WebhookEvent) -> JobStatus:
    return msgspec.structs.replace(status, webhook=Webhook(url="https://example.com/", events=events))


def told(old: JobStatus | None, new: JobStatus) -> list[str]:
    return [record.id.removeprefix(f"{ORDER}.") for record in events_of(old, new, now=NOW)]


def describe(status: JobStatus) -> Prediction:
    found = make_prediction(
        status, model="house", base_url="https://edge.example.com", queue_position=None, now=NOW, hub_away_since=None
    )
    return sign_files(found, lambda url: f"{url}?tenant=acme&expires=1790003600&signature={'A' * 43}")


def test_an_order_is_told_from_start_to_end_each_change_once() -> None:
    assert told(None, QUEUED) == []
    assert told(QUEUED, STARTED) == ["start"]
    assert told(STARTED, LOGGED) == ["logs-1-1-1"]
    assert told(LOGGED, step(JobState.PROCESSING, 2, "master 0.2 s")) == []
    assert told(LOGGED, DONE) == ["completed"]


def test_an_id_follows_from_the_status_alone() -> None:
    first = events_of(STARTED, LOGGED, now=NOW)
    again = events_of(QUEUED, LOGGED, now=NOW + 77)
    assert first[0].id in [record.id for record in again]
    assert all(is_event_id(record.id) for record in [*first, *again, *events_of(LOGGED, DONE, now=NOW)])
    for wrong in ("", ORDER, f"{ORDER}.>", f"{ORDER}.start.x", f"{ORDER.upper()}.start", f"{ORDER}.start\n"):
        assert not is_event_id(wrong)


def test_a_retried_job_starts_once() -> None:
    retrying = msgspec.structs.replace(STARTED, state=JobState.RETRYING, error=JobError(code="x", detail="y"))
    assert told(STARTED, retrying) == []
    assert told(retrying, step(JobState.PROCESSING, 0, attempt=2)) == []


def test_what_was_missed_is_told_with_the_end() -> None:
    assert told(QUEUED, DONE) == ["start", "completed"]
    canceled = msgspec.structs.replace(QUEUED, state=JobState.CANCELED, completed_at=NOW + 1)
    assert told(QUEUED, canceled) == ["completed"]  # it never began


def test_only_what_was_asked_for_is_told() -> None:
    assert told(asked(LOGGED, "output"), asked(DONE, "output")) == ["output-1-4-2"]
    assert told(asked(LOGGED, "output", "completed"), asked(DONE, "output", "completed")) == ["completed"]
    assert told(asked(LOGGED, "logs"), asked(DONE, "logs")) == ["logs-1-4-2"]
    failed = msgspec.structs.replace(DONE, state=JobState.FAILED)
    assert told(asked(LOGGED, "output"), asked(failed, "output")) == []
    assert told(LOGGED, msgspec.structs.replace(DONE, webhook=msgspec.UNSET)) == []


def test_a_record_survives_its_bytes() -> None:
    (record,) = events_of(LOGGED, DONE, now=NOW)
    assert decode_record(encode_record(record)) == record


def test_the_body_is_type_timestamp_and_the_prediction() -> None:
    (record,) = events_of(LOGGED, DONE, now=NOW)
    body = msgspec.json.decode(make_body(record, describe))
    assert body == {
        "type": "prediction.completed",
        "timestamp": "2026-09-21T14:13:20.000Z",
        "data": msgspec.json.decode(msgspec.json.encode(describe(DONE))),
    }


def test_a_body_is_never_larger_than_the_standard_allows() -> None:
    """The longest logs, then also the longest words and prompts, in letters that take four bytes each."""
    wide = "\U0001f3a8" * PROMPT_MAX_CHARS
    files = tuple(
        Artifact(name=name, path="x", media_type="", size_bytes=1, sha256="")
        for name in ("master.png", "pattern.svg", "proof.png", *(f"plate-{n}-ffffff.png" for n in range(1, 6)))
    )
    noisy = msgspec.structs.replace(DONE, artifacts=files, log=tuple("x" * 400 for _ in range(64)))
    wordy = msgspec.structs.replace(
        noisy,
        spec=msgspec.structs.replace(noisy.spec, prompt=wide, negative_prompt=wide),
        wording=Wording(unknown_words=tuple(wide[:100] for _ in range(10)), read_as={wide[:500]: wide[:400]}),
        webhook=Webhook(url="https://example.com/" + "x" * 1_900, events=WEBHOOK_EVENTS),
    )
    for status, missing in ((noisy, "logs left out"), (wordy, "logs and words left out")):
        record = WebhookRecord(
            id=f"{ORDER}.completed", kind="completed", order_id=ORDER, tenant="acme", url="https://example.com/",
            at=NOW, status=status,
        )  # fmt: skip
        body = make_body(record, describe)
        assert 2_000 < len(body) <= BODY_MAX_BYTES
        data = msgspec.json.decode(body)["data"]
        assert data["logs"].startswith(missing)
        assert data["output"]["master"].endswith("A" * 43)
