"""The follower: takes the statuses that a region's hub publishes for this edge's orders into the order book.

A durable consumer remembers how far it came, so statuses published while this process was down, or the hub
unreachable, are caught up with. Statuses come in batches; those of one order are taken one after the other, those of
different orders side by side, and a batch is acked once all of it is in the book.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import JobStatus, decode_status
from halfdrop.contracts.subjects import EVENTS_STREAM, LOCAL_REGION, hub_domain, job_event
from halfdrop.edge.hub_link import HubLink
from halfdrop.edge.names import is_order_id
from halfdrop.edge.orders import OrderBook
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.pulling import open_pull
from halfdrop.runtime.semantics import messaging
from halfdrop.runtime.streams import ensure_hub_streams
from halfdrop.runtime.tracing import OFF, TRACEPARENT, Tracing

log = structlog.get_logger()

BATCH_MAX = 256
ACK_WAIT_S = 5.0
"""What was on its way to an edge that died is told to the next one after this; told twice, a status changes nothing."""

RETRY_MIN_S, RETRY_MAX_S = 0.2, 2.0


async def follow_events(
    broker: Broker, link: HubLink, edge_name: str, orders: OrderBook, tracing: Tracing = OFF
) -> None:
    """Follow one region's hub for ever; while it is absent, wait."""
    durable = consumer_name(edge_name, link.region)
    retry_s = RETRY_MIN_S
    while True:
        try:
            await _make_consumer(link.js, edge_name, durable)
            link.report_up()
            async with open_pull(
                broker, domain=hub_domain(link.region), stream=EVENTS_STREAM, consumer=durable
            ) as pull:
                while True:
                    messages = await pull.fetch(BATCH_MAX)
                    if not messages:  # from a frozen hub, too, nothing comes: only an answer shows that it lives
                        await link.js.consumer_info(EVENTS_STREAM, durable)
                    link.report_up()
                    retry_s = RETRY_MIN_S
                    link.followed += len(messages)
                    await _take(messages, link.region, orders, tracing)
        except* Unavailable as group:  # our own server: the statuses stay with the hub and come again
            log.warning("status_not_recorded", error=str(group.exceptions[0]))
        except* (NatsError, TimeoutError, OSError) as group:
            link.report_down(group.exceptions[0])
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, RETRY_MAX_S)


def consumer_name(edge_name: str, region: str) -> str:
    """Name of the edge's consumer at a hub. Each region's is another: a leaf node carries an ack to every hub, and one
    with a consumer of that name would take it for its own."""
    return f"edge-{edge_name}" if region == LOCAL_REGION else f"edge-{edge_name}-in-{region}"


async def _make_consumer(js: JetStreamContext, edge_name: str, durable: str) -> None:
    config = ConsumerConfig(
        name=durable,
        durable_name=durable,
        filter_subject=job_event(edge_name, ">"),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        deliver_policy=DeliverPolicy.ALL,
    )
    try:
        await js.add_consumer(EVENTS_STREAM, config)
    except NotFoundError:  # a new hub: no stream yet
        await ensure_hub_streams(js)
        await js.add_consumer(EVENTS_STREAM, config)


async def _take(messages: Sequence[Msg], region: str, orders: OrderBook, tracing: Tracing) -> None:
    """Bring a batch into the book, then ack it."""
    by_order: dict[str, list[tuple[Msg, JobStatus]]] = {}
    for message, status in _read(messages, region):
        by_order.setdefault(status.id, []).append((message, status))
    async with asyncio.TaskGroup() as tasks:
        for statuses in by_order.values():
            tasks.create_task(_apply(_without_stale(statuses), orders, tracing))
    for message in messages:
        await message.ack()


def _read(messages: Iterable[Msg], region: str) -> Iterator[tuple[Msg, JobStatus]]:
    for message in messages:
        try:
            status = decode_status(message.data)
        except msgspec.MsgspecError as error:
            log.error("event_dropped", subject=message.subject, error=str(error))
            continue
        if not is_order_id(status.id):
            log.error("event_dropped", subject=message.subject, error="its id is none of ours")
            continue
        yield message, status if status.region is not msgspec.UNSET else msgspec.structs.replace(status, region=region)


def _without_stale(statuses: Sequence[tuple[Msg, JobStatus]]) -> Iterator[tuple[Msg, JobStatus]]:
    """Leave out what the next status of the batch says anew: steps in between, not a change of state."""
    for place, (message, status) in enumerate(statuses):
        following = statuses[place + 1][1] if place + 1 < len(statuses) else None
        if following is None or (following.state, following.attempt) != (status.state, status.attempt):
            yield message, status


async def _apply(statuses: Iterable[tuple[Msg, JobStatus]], orders: OrderBook, tracing: Tracing) -> None:
    """Take one order's statuses. Those that begin or end something come with their trace; steps come without."""
    for message, status in statuses:
        headers = message.headers or {}
        if TRACEPARENT not in headers:
            await orders.apply(status)
            continue
        attributes = messaging("process", "process", EVENTS_STREAM, status.id)
        with tracing.span(f"process {EVENTS_STREAM}", kind=SpanKind.CONSUMER, attributes=attributes, headers=headers):
            await orders.apply(status)
