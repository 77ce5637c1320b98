"""The metrics of an edge's webhooks, told apart by what this code bounds: never by a host, an address or a tenant."""

import time
from collections.abc import Iterator

from prometheus_client.core import Metric

from halfdrop.edge.webhooks.deliveries import Deliveries
from halfdrop.runtime.exposition import Family

DELIVERED = Family(
    name="halfdrop_webhooks_delivered_total", kind="counter", meaning="webhook events that a receiver took with a 2xx"
)
FAILED = Family(
    name="halfdrop_webhooks_failed_total",
    kind="counter",
    meaning="attempts that did not deliver: timeout, connect, dns, tls, protocol, status-3xx, status-4xx, status-5xx, "
    "gone (410), private (an address that may not be connected to), disabled, internal",
    labels=("code",),
)
SUPERSEDED = Family(
    name="halfdrop_webhooks_superseded_total",
    kind="counter",
    meaning="events left out because a later one of their order says more",
)
REFUSED = Family(
    name="halfdrop_webhooks_refused_total",
    kind="counter",
    meaning="events put among the dead at once because the store, or their tenant's share of it, is full",
)
WAITING = Family(name="halfdrop_webhooks_waiting", kind="gauge", meaning="webhook events that wait to be delivered")
OLDEST = Family(
    name="halfdrop_webhooks_waiting_oldest_age_seconds", kind="gauge", meaning="age of the oldest of them, or 0"
)
DEAD = Family(name="halfdrop_webhooks_dead", kind="gauge", meaning="deliveries given up on, and kept to be replayed")
IN_FLIGHT = Family(name="halfdrop_webhooks_in_flight", kind="gauge", meaning="webhook attempts under way")
BREAKERS = Family(
    name="halfdrop_webhooks_breakers",
    kind="gauge",
    meaning="servers that webhooks go to, by their breaker: closed, open (left alone), half-open (being tried)",
    labels=("state",),
)
DURATIONS = Family(
    name="halfdrop_webhook_attempt_duration_seconds", kind="histogram", meaning="one attempt, whatever came of it"
)
DELAYS = Family(
    name="halfdrop_webhook_delay_seconds",
    kind="histogram",
    meaning="from when the edge learnt of an event to its delivery",
)

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))


def read_webhooks(deliveries: Deliveries) -> Iterator[Metric]:
    """Yield every family with its present values. May run in a thread beside the loop: it only reads, and copies."""
    counts, schedule = deliveries.counts, deliveries.schedule
    yield DELIVERED.of(counts.delivered)
    yield FAILED.by(list(counts.failed.items()))
    yield SUPERSEDED.of(counts.superseded)
    yield REFUSED.of(counts.refused)
    yield WAITING.of(len(schedule))
    oldest = schedule.oldest_at()
    yield OLDEST.of(0.0 if oldest is None else max(0.0, time.time() - oldest))
    yield DEAD.of(deliveries.dead.count())
    yield IN_FLIGHT.of(schedule.in_flight)
    states = [state.breaker.state for state in list(schedule.endpoints.values())]
    yield BREAKERS.by(((state,), states.count(state)) for state in ("closed", "open", "half-open"))
    yield DURATIONS.of(counts.durations)
    yield DELAYS.of(counts.delays)
