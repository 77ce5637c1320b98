"""The forwarder: takes orders and cancels from the edge's OUTBOX to the hub, at least once, one effect each.

A message leaves OUTBOX only after the hub has acknowledged it; the hub's duplicate window and the job's id make a
second delivery harmless. One message is in hand at a time, and while the hub is away it stays there (`in_progress`):
the order of messages holds, so that a cancel never overtakes its job.
"""

import asyncio
import time

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, Header
from opentelemetry.trace import SpanKind

from halfdrop.contracts.jobs import Job, accepted_status, accepted_work, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import (
    CANCELS_STREAM,
    JOBS_STREAM,
    OUTBOX_STREAM,
    cancel_job,
    job_event,
    outbox_cancel,
    queued_job,
)
from halfdrop.contracts.work import WORK_HEADER
from halfdrop.edge.hub_link import HubLink, fetch_next
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.semantics import messaging
from halfdrop.runtime.streams import ensure_hub_streams
from halfdrop.runtime.tracing import OFF, Tracing, carry

log = structlog.get_logger()

CONSUMER = "forwarder"
ACK_WAIT_S = 10.0
"""A message held longer than this without `in_progress` is delivered again: its forwarder died. Every order behind it
waits as long, so not much above the longest gap between two signs of life (a third of this, and one attempt)."""

PUBLISH_TIMEOUT_S = 2.0
RETRY_MIN_S, RETRY_MAX_S = 0.2, 2.0
"""Back-off while the hub is away: short enough that orders flow within seconds of its return."""

_OUTAGE = (NatsError, TimeoutError, OSError)
_CANCEL_PREFIX = outbox_cancel("")


async def forward_orders(broker: Broker, link: HubLink, tracing: Tracing = OFF) -> None:
    """Forward for ever; every outage, here or at the hub, is waited out."""
    retry_s = RETRY_MIN_S
    while True:
        try:
            subscription = await _subscribe(broker.js)
            while True:
                message = await fetch_next(subscription)
                retry_s = RETRY_MIN_S
                if message is not None:
                    await _forward_traced(message, link, tracing)
        except _OUTAGE as error:
            log.warning("outbox_unreachable", error=repr(error))
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, RETRY_MAX_S)


async def _subscribe(js: JetStreamContext) -> JetStreamContext.PullSubscription:
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=1)
    return await js.pull_subscribe("outbox.>", durable=CONSUMER, stream=OUTBOX_STREAM, config=config)


async def _forward_traced(message: Msg, link: HubLink, tracing: Tracing) -> None:
    """Forward one message as a part of the trace that it came with: its headers keep that through every restart."""
    kind, job_id = message.subject.rsplit(".", 2)[-2:]
    stream = CANCELS_STREAM if kind == "cancel" else JOBS_STREAM
    attributes = messaging("publish", "send", stream, job_id)
    headers = message.headers or {}
    with tracing.span(f"publish {stream}", kind=SpanKind.PRODUCER, attributes=attributes, headers=headers):
        await _forward_stubbornly(message, link)


async def _forward_stubbornly(message: Msg, link: HubLink) -> None:
    """Forward one message, trying until the hub has it."""
    retry_s, prolonged_s = RETRY_MIN_S, time.monotonic()
    while True:
        try:
            if not link.is_up:
                await ensure_hub_streams(link.js)
            await _forward(message, link.js)
            link.report_up()
            link.forwarded += not message.subject.startswith(_CANCEL_PREFIX)
            break
        except _OUTAGE as error:
            link.report_down(error)
        if time.monotonic() - prolonged_s > ACK_WAIT_S / 3:
            await message.in_progress()
            prolonged_s = time.monotonic()
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, RETRY_MAX_S)
    await message.ack()


async def _forward(message: Msg, hub: JetStreamContext) -> None:
    if message.subject.startswith(_CANCEL_PREFIX):
        await _forward_cancel(message.subject.removeprefix(_CANCEL_PREFIX), hub)
        return
    try:
        job = decode_job(message.data)
    except msgspec.MsgspecError as error:
        # Not written by any version of us that we can read; keeping it would stop every order behind it.
        log.error("outbox_message_dropped", subject=message.subject, error=str(error))
        return
    await _forward_job(job, message.data, hub)


async def _forward_job(job: Job, data: bytes, hub: JetStreamContext) -> None:
    await hub.publish(
        queued_job(job.job_class, job.tenant),
        data,
        timeout=PUBLISH_TIMEOUT_S,
        stream=JOBS_STREAM,
        headers=carry({Header.MSG_ID.value: job.id, WORK_HEADER: f"{accepted_work(job):g}"}),
    )
    queued = msgspec.structs.replace(accepted_status(job, pattern_key(job.spec)), queued_at=time.time())
    await hub.publish(
        job_event(job.origin, job.id),
        encode_status(queued),
        timeout=PUBLISH_TIMEOUT_S,
        headers=carry({Header.MSG_ID.value: f"{job.id}.queued"}),
    )
    log.info("order_forwarded", job_id=job.id)


async def _forward_cancel(job_id: str, hub: JetStreamContext) -> None:
    # Stored for workers that have not begun, heard at once by the one that has.
    await hub.publish(cancel_job(job_id), b"", timeout=PUBLISH_TIMEOUT_S, stream=CANCELS_STREAM)
    log.info("cancel_forwarded", job_id=job_id)
