"""Deliveries that were given up on: kept for two weeks with their cause, to be looked at, replayed or dropped."""

import msgspec
import structlog

from halfdrop.contracts.errors import NotFound, Unavailable
from halfdrop.edge.webhooks.events import Failure, WebhookRecord, is_event_id
from halfdrop.edge.webhooks.store import EventStream, NoRoom

log = structlog.get_logger()

TENANT_DEAD_MAX = 1_000
"""Kept of one tenant; beyond it its oldest is forgotten, so that nobody's failures push out another's."""


class DeadDeliveries:
    """All of this edge. `load` reads what earlier runs left."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._by_tenant: dict[str, dict[str, int]] = {}
        """Sequence by webhook-id, the first given up on first."""

    async def load(self) -> None:
        """Take up what earlier runs left. Raises Unavailable."""
        async for kept in self._stream.read_all():
            self._by_tenant.setdefault(kept.record.tenant, {})[kept.record.id] = kept.sequence

    def count(self) -> int:
        """Return how many there are; another thread may ask."""
        return sum(len(known) for known in list(self._by_tenant.values()))

    async def newest(self, tenant: str, *, before: str | None, limit: int) -> list[WebhookRecord]:
        """Return up to `limit` of a tenant, the last given up on first, those after the id `before`. Raises
        Unavailable."""
        known = self._by_tenant.get(tenant, {})
        ids = list(reversed(known))
        if before in known:
            ids = ids[ids.index(before) + 1 :]
        found: list[WebhookRecord] = []
        for webhook_id in ids:
            if len(found) == limit:
                break
            record = await self._stream.read(known[webhook_id]) if webhook_id in known else None
            if record is not None:
                found.append(record)
            else:  # older than the stream remembers
                known.pop(webhook_id, None)
        return found

    async def find(self, tenant: str, webhook_id: str) -> WebhookRecord:
        """Return one. Raises NotFound for an unknown id or another tenant's, and Unavailable."""
        sequence = self._by_tenant.get(tenant, {}).get(webhook_id) if is_event_id(webhook_id) else None
        record = None if sequence is None else await self._stream.read(sequence)
        if record is None:
            raise NotFound(f"no dead delivery has the id {webhook_id[:60]!r}; `halfdrop webhooks dead` lists them")
        return record

    async def bury(self, record: WebhookRecord, failure: Failure) -> None:
        """Put an event among the dead; one that is there already is replaced. Raises Unavailable."""
        known = self._by_tenant.setdefault(record.tenant, {})
        try:
            sequence, _ = await self._stream.add(msgspec.structs.replace(record, failure=failure))
        except NoRoom as error:  # it forgets its oldest; this is a disk without room
            raise Unavailable(f"the edge's NATS server cannot keep a dead webhook: {error}") from error
        known.pop(record.id, None)
        known[record.id] = sequence
        log.warning("webhook_dead", job_id=record.order_id, kind=record.kind, code=failure.code)
        while len(known) > TENANT_DEAD_MAX:
            await self._stream.remove(known.pop(next(iter(known))))

    async def remove(self, record: WebhookRecord) -> None:
        """Forget one that was found. Raises Unavailable."""
        known = self._by_tenant.get(record.tenant, {})
        sequence = known.get(record.id)
        if sequence is not None:
            await self._stream.remove(sequence)
            known.pop(record.id, None)
