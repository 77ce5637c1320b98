"""What of an order's course is told: pure functions from two statuses to events, and the record that one is kept as.

A webhook-id is `<order>.<event>`, and the event's name follows from the status alone. So a status that is applied
twice, after a crash, makes the same ids again, and what is stored already is not stored twice.
"""

import re
from typing import Literal

import msgspec

from halfdrop.contracts.jobs import JobState, JobStatus, WebhookEvent
from halfdrop.edge.names import BATCH_ID_PATTERN, ID_PATTERN

Rank = Literal[0, 1, 2]
"""Place of an event in its order's course: start, then logs and output by age, then completed."""

RANKS: dict[WebhookEvent, Rank] = {"start": 0, "output": 1, "logs": 1, "completed": 2}

EVENT_ID_PATTERN = (
    rf"(?:{ID_PATTERN.rstrip('$')}\.(?:start|completed|(?:logs|output)-[0-9]{{1,6}}-[0-9]{{1,6}}-[0-9]{{1,4}})"
    rf"|{BATCH_ID_PATTERN.rstrip('$')}\.completed)$"
)


RECORD_MAX_BYTES = 60 * 1024
"""A status is a prompt, its words, up to 64 lines and a few files: about 3 KB."""

ERROR_CHARS = 2_000


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt did not deliver."""

    code: str
    """One of a few classes: timeout, connect, status-5xx, private …"""

    detail: str
    at: float
    """Unix seconds."""


class WebhookRecord(msgspec.Struct, frozen=True, kw_only=True, tag="webhook.v1"):
    """One event on its way to one address, as the edge's streams keep it."""

    id: str
    """The webhook-id."""

    kind: WebhookEvent
    order_id: str
    """Whose event it is: an order's id, or a batch's."""

    tenant: str
    url: str
    at: float
    """Unix seconds at which the edge learnt of it."""

    status: JobStatus | msgspec.UnsetType = msgspec.UNSET
    """The order as it was then. The body is made from it at each attempt, so that signed addresses are fresh."""

    batch: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Of a batch's end instead: the batch in JSON, in which nothing is signed."""

    attempts: int = 0
    """Attempts that failed."""

    due_at: float = 0.0
    """Unix seconds before which it is not tried again."""

    failure: Failure | None = None
    """Of the last attempt."""


def events_of(old: JobStatus | None, new: JobStatus, *, now: float) -> list[WebhookRecord]:
    """Return what `new` tells beyond `old` to the webhook of its order, in the order in which to tell it.

    With `completed` comes everything that an output or logs event of the same moment would say, so those are told only
    to who did not ask for it.
    """
    webhook = new.webhook
    if webhook is msgspec.UNSET:
        return []
    found: list[tuple[WebhookEvent, str]] = []
    if "start" in webhook.events and _has_started(new) and not (old and _has_started(old)):
        found.append(("start", "start"))
    moment = f"{new.attempt}-{new.step}-{len(new.log)}"
    if not (new.state.is_final and "completed" in webhook.events):
        if "output" in webhook.events and new.state is JobState.COMPLETED:
            found.append(("output", f"output-{moment}"))
        if "logs" in webhook.events and new.log and (old is None or new.log != old.log):
            found.append(("logs", f"logs-{moment}"))
    if new.state.is_final and "completed" in webhook.events:
        found.append(("completed", "completed"))
    return [
        WebhookRecord(
            id=f"{new.id}.{name}", kind=kind, order_id=new.id, tenant=new.tenant, url=webhook.url, at=now, status=new
        )
        for kind, name in found
    ]


def end_of_batch(batch_id: str, data: bytes, *, tenant: str, url: str, now: float) -> WebhookRecord:
    """Return the one event of a batch. data: the batch in JSON, as a GET answers it."""
    name: WebhookEvent = "completed"
    return WebhookRecord(
        id=f"{batch_id}.{name}",
        kind=name,
        order_id=batch_id,
        tenant=tenant,
        url=url,
        at=now,
        batch=msgspec.Raw(data),
    )


def is_event_id(text: str) -> bool:
    """True if `text` has the form of a webhook-id of ours; anything else must not reach a subject."""
    return re.fullmatch(EVENT_ID_PATTERN, text) is not None


def encode_record(record: WebhookRecord) -> bytes:
    """Return the JSON form of a record, readable with the nats command line, at most RECORD_MAX_BYTES.

    One that would be larger loses its log and the details of its error, for a stream that refused it would stop the
    status, and all behind it.
    """
    encoded = msgspec.json.encode(record)
    status = record.status
    if len(encoded) <= RECORD_MAX_BYTES or status is msgspec.UNSET:
        return encoded
    error = status.error
    cut = error and msgspec.structs.replace(error, detail=error.detail[:ERROR_CHARS])
    shorter = msgspec.structs.replace(status, log=("left out here: too long",), error=cut)
    return msgspec.json.encode(msgspec.structs.replace(record, status=shorter))


def decode_record(data: bytes) -> WebhookRecord:
    """Return the record in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.json.decode(data, type=WebhookRecord)


def _has_started(status: JobStatus) -> bool:
    is_under_way = status.state in (JobState.PROCESSING, JobState.RETRYING)
    return is_under_way or (status.state.is_final and status.started_at is not None)
