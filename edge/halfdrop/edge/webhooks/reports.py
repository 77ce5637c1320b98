"""What a tenant is told of its webhooks: the servers they go to, and the deliveries that were given up on."""

from collections.abc import Sequence

import msgspec

from halfdrop.edge.webhooks.addresses import Endpoint, endpoint_of
from halfdrop.edge.webhooks.bodies import format_time
from halfdrop.edge.webhooks.events import WebhookRecord
from halfdrop.edge.webhooks.schedule import Schedule

SHOWN_MAX = 1_000
"""Servers in one answer: a tenant that has more reads its metrics elsewhere."""


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One server that webhooks go to. Times are ISO 8601 in UTC, since this edge started."""

    endpoint: str
    """Scheme, host and port."""

    breaker: str
    """closed: well, or not known to be ill; open: left alone until `retry_at`; half-open: one event tries it."""

    waiting: int
    """Events that wait for it, at this edge."""

    failures_in_a_row: int
    last_success_at: str | None
    last_failure_at: str | None
    last_failure: str
    retry_at: str | None
    disabled: tuple[str, ...]
    """Addresses there that answered 410: nothing is sent to them until they are enabled."""


class WebhookEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """All servers that a tenant's webhooks go to."""

    results: list[WebhookEndpoint]


class DeadDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up on."""

    id: str
    """The webhook-id."""

    type: str
    prediction: str
    """Id of the order."""

    url: str
    created_at: str
    attempts: int
    code: str
    """timeout, connect, status-5xx, private, gone, disabled, full …"""

    reason: str
    failed_at: str | None


class DeadDeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Dead deliveries, the last given up on first, and the address of the next page."""

    results: list[DeadDelivery]
    next: str | None


def report_endpoints(schedule: Schedule, tenant: str, disabled: Sequence[str]) -> list[WebhookEndpoint]:
    """Return what is known of the servers that a tenant's webhooks go to. disabled: its disabled addresses."""
    addresses: dict[Endpoint, list[str]] = {}
    for url in disabled:
        addresses.setdefault(endpoint_of(tenant, url), []).append(url)
    states = {key: state for key, state in schedule.endpoints.items() if key.tenant == tenant}
    found = []
    for endpoint in sorted({*states, *addresses})[:SHOWN_MAX]:
        state = states.get(endpoint)
        found.append(
            WebhookEndpoint(
                endpoint=endpoint.origin,
                breaker=state.breaker.state if state else "closed",
                waiting=state.waiting if state else 0,
                failures_in_a_row=state.breaker.failures if state else 0,
                last_success_at=_time(state.last_success_at) if state else None,
                last_failure_at=_time(state.last_failure_at) if state else None,
                last_failure=state.last_failure if state else "",
                retry_at=_time(state.breaker.opens_at) if state else None,
                disabled=tuple(addresses.get(endpoint, ())),
            )
        )
    return found


def report_dead(record: WebhookRecord) -> DeadDelivery:
    """Return what its tenant is told of a dead delivery."""
    failure = record.failure
    return DeadDelivery(
        id=record.id,
        type=f"prediction.{record.kind}",
        prediction=record.order_id,
        url=record.url,
        created_at=format_time(record.at),
        attempts=record.attempts,
        code=failure.code if failure else "",
        reason=failure.detail if failure else "",
        failed_at=format_time(failure.at) if failure else None,
    )


def _time(unix_s: float) -> str | None:
    return format_time(unix_s) if unix_s else None
