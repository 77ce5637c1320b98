"""The follower: takes the statuses that hubs publish for this edge's orders into the order book.

A durable consumer remembers how far it came, so statuses published while this process was down, or the hub
unreachable, are caught up with.
"""

import asyncio

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import decode_status
from halfdrop.contracts.subjects import EVENTS_STREAM, job_event
from halfdrop.edge.hub_link import HubLink, fetch_next
from halfdrop.edge.orders import OrderBook
from halfdrop.runtime.semantics import messaging
from halfdrop.runtime.streams import ensure_hub_streams
from halfdrop.runtime.tracing import OFF, TRACEPARENT, Tracing

log = structlog.get_logger()

RETRY_MIN_S, RETRY_MAX_S = 0.2, 2.0


async def follow_events(link: HubLink, edge_name: str, orders: OrderBook, tracing: Tracing = OFF) -> None:
    """Follow for ever; an absent hub is waited out."""
    retry_s = RETRY_MIN_S
    while True:
        try:
            subscription = await _subscribe(link.js, edge_name)
            link.report_up()
            while True:
                message = await fetch_next(subscription)
                if message is None:  # from a frozen hub, too, nothing comes: only an answer shows that it lives
                    await subscription.consumer_info()
                link.report_up()
                retry_s = RETRY_MIN_S
                if message is not None:
                    link.followed += 1
                    await _take_traced(message, orders, tracing)
        except Unavailable as error:  # our own server: the status stays with the hub and comes again
            log.warning("status_not_recorded", error=error.detail)
        except (NatsError, TimeoutError, OSError) as error:
            link.report_down(error)
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, RETRY_MAX_S)


async def _subscribe(js: JetStreamContext, edge_name: str) -> JetStreamContext.PullSubscription:
    subject = job_event(edge_name, ">")
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.ALL)
    durable = f"edge-{edge_name}"
    try:
        return await js.pull_subscribe(subject, durable=durable, stream=EVENTS_STREAM, config=config)
    except NotFoundError:  # a new hub: no stream yet
        await ensure_hub_streams(js)
        return await js.pull_subscribe(subject, durable=durable, stream=EVENTS_STREAM, config=config)


async def _take_traced(message: Msg, orders: OrderBook, tracing: Tracing) -> None:
    """Take one status. Those that begin or end something come with their trace; steps in between come without."""
    headers = message.headers or {}
    if TRACEPARENT not in headers:
        await _take(message, orders)
        return
    attributes = messaging("process", "process", EVENTS_STREAM, message.subject.rpartition(".")[2])
    with tracing.span(f"process {EVENTS_STREAM}", kind=SpanKind.CONSUMER, attributes=attributes, headers=headers):
        await _take(message, orders)


async def _take(message: Msg, orders: OrderBook) -> None:
    try:
        status = decode_status(message.data)
    except msgspec.MsgspecError as error:
        log.error("event_dropped", subject=message.subject, error=str(error))
    else:
        await orders.apply(status)
    await message.ack()
