"""The body of a delivery: `{type, timestamp, data}` with the prediction as data, under 20 kB."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from halfdrop.contracts.jobs import JobStatus
from halfdrop.edge.predictions import Prediction
from halfdrop.edge.webhooks.events import WebhookRecord

BODY_MAX_BYTES = 20_000
"""Standard Webhooks asks for bodies under 20 kB."""

TEST_TYPE = "webhook.test"

Describe = Callable[[JobStatus], Prediction]
"""Returns the prediction as a GET would answer it, with addresses signed for its tenant."""


class WebhookBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver gets."""

    type: str
    """"prediction.start", "prediction.output", "prediction.logs" or "prediction.completed"."""

    timestamp: str
    """When the edge learnt of it, ISO 8601 in UTC; the same at each attempt."""

    data: Prediction


class BatchBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver gets when a batch is over: about 1 KB."""

    type: str
    """"batch.completed"; how it ended is in the data."""

    timestamp: str
    data: msgspec.Raw | msgspec.UnsetType


class TestBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver gets from `halfdrop webhooks test`."""

    type: str
    timestamp: str
    data: dict[str, str]


def make_body(record: WebhookRecord, describe: Describe) -> bytes:
    """Return the JSON to send, at most BODY_MAX_BYTES.

    Of one that would be larger the logs are left out first, then what was said of its words, then the prompt is cut
    short: `logs` says so, and the prediction's address tells it whole.
    """
    if record.status is msgspec.UNSET:
        end = BatchBody(type=f"batch.{record.kind}", timestamp=format_time(record.at), data=record.batch)
        return msgspec.json.encode(end)
    prediction = describe(record.status)
    for fitting in (prediction, *_shorter(prediction)):
        body = msgspec.json.encode(
            WebhookBody(type=f"prediction.{record.kind}", timestamp=format_time(record.at), data=fitting)
        )
        if len(body) <= BODY_MAX_BYTES:
            return body
    raise AssertionError(f"webhook body of {len(body)} bytes: its members are bounded below that")


def make_test_body(now: float) -> bytes:
    """Return the JSON of a delivery that tells of nothing."""
    data = {"message": "halfdrop can deliver here"}
    return msgspec.json.encode(TestBody(type=TEST_TYPE, timestamp=format_time(now), data=data))


def format_time(unix_s: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shorter(prediction: Prediction) -> list[Prediction]:
    left_out = f"left out here, for the body would be larger than {BODY_MAX_BYTES} bytes; told whole by {{}}"
    where = prediction.urls.get if len(prediction.urls.get) < 1_000 else "its GET address"
    said = msgspec.structs.replace(prediction, logs=f"logs {left_out.format(where)}\n")
    wordless = msgspec.structs.replace(
        said, logs=f"logs and words {left_out.format(where)}\n", unknown_words=(), read_as={}
    )
    given = wordless.input
    cut = msgspec.structs.replace(given, prompt=given.prompt[:200], negative_prompt=given.negative_prompt[:200])
    return [said, wordless, msgspec.structs.replace(wordless, input=cut)]
