"""Where jobs come from: the durable pull consumer `workers` on JOBS, shared by all workers of a hub."""

import asyncio
from collections.abc import AsyncGenerator

import structlog
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from halfdrop.contracts.subjects import JOBS_STREAM
from halfdrop.hub.delivery import Delivery
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.streams import ensure_hub_streams

log = structlog.get_logger()

CONSUMER = "workers"
PULL_WAIT_S = 1.0
"""A pull waits this long on the server. It also bounds how long a stop waits for a pull in flight; a shorter one
would only cost messages, and cancelling a pull could leave a job delivered to nobody until ack_wait ends."""

RETRY_MIN_S, RETRY_MAX_S = 0.5, 5.0


async def collect_jobs(
    broker: Broker, stop: asyncio.Event, bound: asyncio.Event, *, ack_wait_s: float
) -> AsyncGenerator[Delivery, None]:
    """Yield deliveries, one at a time, until `stop`; a job that arrives after it is handed back.

    Sets `bound` once the consumer stands. Outlives every outage: whatever fails is logged, and the consumer is bound
    anew after a growing wait.
    """
    subscription: JetStreamContext.PullSubscription | None = None
    wait_s = RETRY_MIN_S
    while not stop.is_set():
        try:
            if subscription is None:
                subscription = await _bind_consumer(broker.js, ack_wait_s)
                log.info("jobs_bound", consumer=CONSUMER)
                bound.set()
            [msg] = await subscription.fetch(1, timeout=PULL_WAIT_S)
            wait_s = RETRY_MIN_S
        except NatsTimeoutError:
            if not broker.is_connected:
                await _unbind(subscription)
                subscription = None
            continue
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("jobs_unavailable", error=repr(error), retry_after_s=wait_s)
            await _unbind(subscription)
            subscription = None
            await _wait_for(stop, wait_s)
            wait_s = min(2 * wait_s, RETRY_MAX_S)
            continue
        if stop.is_set():
            await msg.nak()
            break
        yield Delivery(msg)
    await _unbind(subscription)


async def _bind_consumer(js: JetStreamContext, ack_wait_s: float) -> JetStreamContext.PullSubscription:
    await ensure_hub_streams(js)
    config = ConsumerConfig(
        name=CONSUMER,
        durable_name=CONSUMER,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait_s,
        # No limit at the server: past it a job would stay in the work queue with nobody told (the advisory is sent
        # at most once, and only while a pull waits). The worker that receives one delivery too many buries the job.
        max_deliver=-1,
    )
    await js.add_consumer(JOBS_STREAM, config)
    return await js.pull_subscribe_bind(CONSUMER, JOBS_STREAM)


async def _unbind(subscription: JetStreamContext.PullSubscription | None) -> None:
    if subscription is not None:
        try:
            await subscription.unsubscribe()
        except (NatsError, OSError) as error:
            log.debug("unsubscribe_failed", error=repr(error))


async def _wait_for(stop: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return
