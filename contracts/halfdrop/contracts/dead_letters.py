"""A job given up on, as it lies in DEAD: the message as it was, and in headers all that is needed to try it again.

Header values are one line of plain text; what came with the job's own message is kept as JSON in one of them.
"""

from collections.abc import Mapping

import msgspec

from halfdrop.contracts.jobs import Job, decode_job, revival_of

CAUSE, DETAIL = "Halfdrop-Cause", "Halfdrop-Detail"
SUBJECT, DELIVERIES, WORKER = "Halfdrop-Subject", "Halfdrop-Deliveries", "Halfdrop-Worker"
QUEUED_AT, BURIED_AT, HEADERS = "Halfdrop-Queued-At", "Halfdrop-Buried-At", "Halfdrop-Headers"

TEXT_MAX_CHARS = 500
HEADERS_MAX_CHARS = 4_000
"""A job comes with an id and a trace; more than this is not ours, and is left out."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One message of DEAD, read."""

    sequence: int
    """Place in DEAD."""

    job_id: str
    """The job's, or "unreadable-…" for a message that is no job."""

    tenant: str
    job_class: str
    cause: str
    """Stable code, as in the job's status."""

    detail: str
    deliveries: int
    worker: str
    """Who gave it up."""

    queued_at: float | None
    buried_at: float | None
    subject: str
    """In JOBS."""

    headers: dict[str, str]
    """Those of the job's own message."""

    job: Job | None
    """None: a message that is no job."""

    @property
    def revival(self) -> int:
        return 0 if self.job is None else revival_of(self.job)


def letter_headers(
    *,
    cause: str,
    detail: str,
    subject: str,
    deliveries: int,
    worker: str,
    queued_at: float,
    buried_at: float,
    headers: Mapping[str, str],
) -> dict[str, str]:
    """Return the headers of a dead letter."""
    theirs = msgspec.json.encode(dict(headers)).decode("ascii", "replace")
    return {
        CAUSE: _line(cause),
        DETAIL: _line(detail),
        SUBJECT: _line(subject),
        DELIVERIES: str(deliveries),
        WORKER: _line(worker),
        QUEUED_AT: f"{queued_at:.6f}",
        BURIED_AT: f"{buried_at:.6f}",
        HEADERS: theirs if len(theirs) <= HEADERS_MAX_CHARS else "{}",
    }


def read_letter(sequence: int, subject: str, headers: Mapping[str, str], data: bytes) -> DeadLetter:
    """Return the letter. What an earlier release did not write, or nobody can read, is empty."""
    try:
        job = decode_job(data)
    except msgspec.MsgspecError:
        job = None
    was = headers.get(SUBJECT, "")
    parts = was.split(".")
    told_class, told_tenant = (parts[1], parts[2]) if len(parts) >= 3 else ("", "")
    return DeadLetter(
        sequence=sequence,
        job_id=subject.partition(".")[2],
        tenant=job.tenant if job is not None else told_tenant,
        job_class=job.job_class if job is not None else told_class,
        cause=headers.get(CAUSE, "unknown"),
        detail=headers.get(DETAIL, ""),
        deliveries=int(_number(headers.get(DELIVERIES)) or 0),
        worker=headers.get(WORKER, ""),
        queued_at=_number(headers.get(QUEUED_AT)),
        buried_at=_number(headers.get(BURIED_AT)),
        subject=was,
        headers=_read_headers(headers.get(HEADERS, "{}")),
        job=job,
    )


def _line(text: str) -> str:
    plain = text.encode("ascii", "replace").decode()
    return " ".join(plain.split())[:TEXT_MAX_CHARS]


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _read_headers(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError:
        return {}
