"""The streams and buckets that Halfdrop keeps, in one place, so that whoever starts first can create them."""

from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    KeyValueConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from halfdrop.contracts import subjects
from halfdrop.runtime.publishing import allow_batches

DAY_S = 86_400.0
STATUS_KEPT_S = 7 * DAY_S
"""How long a finished job can be asked for through NATS; its result.json in the object store stays."""

IDEMPOTENCY_KEPT_S = DAY_S
"""How long an Idempotency-Key is remembered: longer than anybody tries again by machine."""

BATCHES_KEPT_S = 30 * DAY_S
"""How long a batch is remembered after its last change."""

DUPLICATE_WINDOW_S = 3_600.0
"""An outage up to this long cannot enqueue a job twice; after a longer one results are still idempotent by job id."""

JOB_MAX_BYTES = 256 * 1024
"""A job is its spec and 32 KB of plates."""

WORK_MAX_BYTES = 1024**3
"""About 30,000 jobs with their plates; when it is full, new orders are refused."""

EVENTS_MAX_BYTES = 512 * 1024**2
DEAD_MAX_BYTES = 128 * 1024**2
CANCELS_MAX_BYTES = 16 * 1024**2
"""A cancel is its subject alone: about 100 bytes."""

DEMAND_KEPT_S = 7 * DAY_S
"""How long the forecaster may be away before minutes of demand are lost."""

DEMAND_MAX_BYTES = 1024**3
"""A week of 50 members that tell of 30 series each."""

DEMAND_OUT_MAX_BYTES = 64 * 1024**2
"""How much of it an edge keeps while the hub is away: a week of 100 series."""

REPORT_MAX_BYTES = 1024**2
"""A report of as many series as one may tell of has 400 KB; NATS itself takes no larger message."""


async def ensure_hub_streams(js: JetStreamContext, *, region: str | None = None) -> None:
    """Create or update JOBS, EVENTS, CANCELS, DEAD and DEMAND on the hub's server.

    A worker says the region: only the pool itself says what JOBS repeats for it. An edge need not know.
    """
    await _ensure_jobs(js, region)
    await ensure_stream(
        js,
        StreamConfig(
            name=subjects.EVENTS_STREAM,
            subjects=["events.>"],
            max_age=STATUS_KEPT_S,
            max_msgs_per_subject=256,
            max_bytes=EVENTS_MAX_BYTES,
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            allow_direct=True,
            allow_atomic=True,
        ),
    )
    await ensure_stream(js, StreamConfig(name=subjects.DEAD_STREAM, subjects=["dead.>"], max_bytes=DEAD_MAX_BYTES))
    await ensure_stream(
        js,
        StreamConfig(
            name=subjects.CANCELS_STREAM,
            subjects=["cancels.>"],
            max_age=STATUS_KEPT_S,
            max_msgs_per_subject=1,
            max_bytes=CANCELS_MAX_BYTES,
            allow_direct=True,
        ),
    )
    await ensure_demand_stream(js)


async def ensure_demand_stream(js: JetStreamContext) -> None:
    """Create or update DEMAND on the hub's server."""
    await ensure_stream(
        js,
        StreamConfig(
            name=subjects.DEMAND_STREAM,
            subjects=["demand.>"],
            max_age=DEMAND_KEPT_S,
            max_bytes=DEMAND_MAX_BYTES,
            max_msg_size=REPORT_MAX_BYTES,
            discard=DiscardPolicy.OLD,
            duplicate_window=DUPLICATE_WINDOW_S,
            storage=StorageType.FILE,
            allow_direct=True,
        ),
    )


async def _ensure_jobs(js: JetStreamContext, region: str | None) -> None:
    config = _work_queue(subjects.JOBS_STREAM, "jobs.>")
    if region is not None:
        # Workers that wait hear at once in which lane there is work, and how much: plain messages without payload,
        # which no leaf node carries, as nobody at an edge listens.
        config.republish = RePublish(src="jobs.>", dest=f"{subjects.heard_jobs(region)}.>", headers_only=True)
        await ensure_stream(js, config)
        return
    try:
        await js.stream_info(subjects.JOBS_STREAM)
    except NotFoundError:
        await ensure_stream(js, config)


async def ensure_edge_streams(js: JetStreamContext) -> None:
    """Create or update OUTBOX, ORDERS, IDEMPOTENCY and DEMAND_OUT on an edge's own server."""
    await ensure_stream(js, _work_queue(subjects.OUTBOX_STREAM, "outbox.>"))
    await ensure_bucket(js, subjects.ORDERS_BUCKET)
    await allow_batches(js, subjects.ORDERS_STREAM)
    await ensure_bucket(js, subjects.IDEMPOTENCY_BUCKET, kept_s=IDEMPOTENCY_KEPT_S)
    await ensure_stream(
        js,
        StreamConfig(
            name=subjects.DEMAND_OUT_STREAM,
            subjects=["outdemand.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.OLD,
            max_bytes=DEMAND_OUT_MAX_BYTES,
            max_msg_size=REPORT_MAX_BYTES,
            duplicate_window=DUPLICATE_WINDOW_S,
            storage=StorageType.FILE,
        ),
    )


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Create the stream, or bring an existing one to `config`."""
    try:
        await js.add_stream(config)
    except BadRequestError:  # it exists with another configuration
        await js.update_stream(config)


async def ensure_bucket(js: JetStreamContext, bucket: str, *, kept_s: float = STATUS_KEPT_S) -> KeyValue:
    """Return the key-value bucket, created if it is not there yet; entries live for `kept_s`."""
    try:
        return await js.key_value(bucket)
    except (BucketNotFoundError, NotFoundError):
        return await js.create_key_value(KeyValueConfig(bucket=bucket, history=1, ttl=kept_s))


def _work_queue(name: str, subject: str) -> StreamConfig:
    # DiscardPolicy.NEW: when full, refuse new work at the door; never drop what was accepted.
    return StreamConfig(
        name=name,
        subjects=[subject],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        max_bytes=WORK_MAX_BYTES,
        max_msg_size=JOB_MAX_BYTES,
        duplicate_window=DUPLICATE_WINDOW_S,
        storage=StorageType.FILE,
        allow_atomic=True,
    )
