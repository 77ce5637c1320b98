"""The calendar of events: campaigns and drops that people announced, kept in the bucket DEMAND_EVENTS of a hub.

The operator writes its DemandEvent objects into the same bucket; they are listed here beside the others, and taken off
where they were put: in Kubernetes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import InvalidKeyError, KeyNotFoundError
from nats.js.kv import KeyValue

from halfdrop.contracts.demand_events import DemandEvent, check_event, decode_events, encode_event
from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError, Unavailable
from halfdrop.contracts.plans import DEMAND_EVENTS_BUCKET, DEMAND_EVENTS_KEPT_S
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.streams import ensure_bucket

log = structlog.get_logger()

EVENTS_MAX = 10_000
"""Entries in the calendar: 27 campaigns a day for more than a year."""

__all__ = ["DemandEvent", "EventCalendar", "open_calendar"]


class EventCalendar:
    """The events that are known, past ones included for as long as something can be learnt from them."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def list(self) -> list[DemandEvent]:
        """Return all events by their start. What cannot be read or cannot be is logged and left out.

        Raises Unavailable if the server is away.
        """
        found: list[DemandEvent] = []
        with _translated("read the calendar"):
            watcher = await self._bucket.watchall(ignore_deletes=True)
            try:
                async for entry in watcher:
                    if entry is None:  # all that was there has come
                        break
                    found.extend(_read(entry.key, entry.value or b""))
            finally:
                await watcher.stop()  # type: ignore[no-untyped-call]
        return sorted(found, key=lambda event: (event.start, event.id))

    async def put(self, event: DemandEvent) -> None:
        """Enter the event, or change the one with its id. Raises InvalidInput, PermanentError, Unavailable."""
        check_event(event)
        with _translated("enter the event"):
            status = await self._bucket.status()
            if status.values >= EVENTS_MAX:
                detail = f"the calendar holds {status.values} events, {EVENTS_MAX} are allowed; remove some first"
                raise PermanentError(detail, code="calendar-full")
            await self._bucket.put(event.id, encode_event(event))

    async def delete(self, event_id: str) -> None:
        """Take the event out. Raises NotFound, InvalidInput for one of the operator's, and Unavailable."""
        with _translated("remove the event"):
            try:
                entry = await self._bucket.get(event_id)
            except (KeyNotFoundError, InvalidKeyError) as error:
                await self._explain_missing(event_id)
                raise NotFound(f"no event has the id {event_id[:128]!r}; `halfdrop events list` shows them") from error
            self._refuse_operators(event_id, _read(event_id, entry.value or b""), entry.value or b"")
            await self._bucket.delete(event_id)

    async def _explain_missing(self, event_id: str) -> None:
        """Say so if the id is that of one region of an event of the operator's."""
        if any(event.id == event_id for event in await self.list()):
            raise _operators(event_id)

    def _refuse_operators(self, event_id: str, events: tuple[DemandEvent, ...], data: bytes) -> None:
        if events and b'"announced.v1"' in data:
            raise _operators(event_id)


async def open_calendar(broker: Broker) -> EventCalendar:
    """Return the calendar on the hub's server of `broker`, made if it is not there. Raises Unavailable."""
    with _translated("open the calendar"):
        return EventCalendar(await ensure_bucket(broker.js, DEMAND_EVENTS_BUCKET, kept_s=DEMAND_EVENTS_KEPT_S))


def _read(key: str, data: bytes) -> tuple[DemandEvent, ...]:
    try:
        return decode_events(key, data)
    except (msgspec.MsgspecError, InvalidInput, UnicodeDecodeError) as error:
        log.warning("demand_event_ignored", key=key, error=str(error))
        return ()


def _operators(event_id: str) -> InvalidInput:
    allowed = "an event entered here; this one is a Kubernetes object: kubectl delete demandevent"
    return InvalidInput("id", got=event_id, allowed=allowed)


@contextmanager
def _translated(verb: str) -> Iterator[None]:
    try:
        yield
    except (NatsError, TimeoutError, OSError) as error:
        raise Unavailable(f"the hub's NATS server cannot {verb}: {error or type(error).__name__}") from error
