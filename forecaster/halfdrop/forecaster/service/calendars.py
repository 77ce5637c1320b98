"""Where announced events lie: in the calendar on the home hub's server, or without a cluster in this process."""

import asyncio
from typing import Protocol

import structlog

from halfdrop.contracts.demand_events import DemandEvent, check_event
from halfdrop.contracts.errors import HalfdropError, NotFound, Unavailable
from halfdrop.forecaster.calendar import open_calendar
from halfdrop.runtime.broker import open_broker

log = structlog.get_logger()

LOOK_EVERY_S = 10.0
RECONNECT_S = 5.0
EVENTS_MAX = 1_000


class Calendar(Protocol):
    """The events that are known."""

    async def list(self) -> list[DemandEvent]:
        """Return all events by their start."""

    async def put(self, event: DemandEvent) -> None:
        """Enter the event, or change the one with its id."""

    async def delete(self, event_id: str) -> None:
        """Take the event out. Raises NotFound."""


class OwnCalendar:
    """For a history file: events are tried out on the page and forgotten when the process ends."""

    def __init__(self) -> None:
        self._events: dict[str, DemandEvent] = {}

    async def list(self) -> list[DemandEvent]:
        return sorted(self._events.values(), key=lambda event: (event.start, event.id))

    async def put(self, event: DemandEvent) -> None:
        check_event(event)
        if len(self._events) >= EVENTS_MAX and event.id not in self._events:
            raise NotFound(f"no room for another event: {EVENTS_MAX} are kept; remove some first")
        self._events[event.id] = event

    async def delete(self, event_id: str) -> None:
        if self._events.pop(event_id, None) is None:
            raise NotFound(f"no event has the id {event_id[:128]!r}")


class HubCalendar:
    """The calendar in DEMAND_EVENTS of the home hub. `keep_connected` must be running."""

    def __init__(self, url: str, *, domain: str) -> None:
        self._url, self._domain = url, domain
        self._calendar: Calendar | None = None

    async def keep_connected(self) -> None:
        """Connect, and go on trying until cancelled."""
        while True:
            try:
                async with open_broker(self._url, name="planner-events", domain=self._domain) as broker:
                    self._calendar = await open_calendar(broker)
                    await asyncio.Event().wait()  # the client reconnects by itself from here on
            except HalfdropError as error:
                log.warning("calendar_away", url=self._url, error=str(error))
            finally:
                self._calendar = None
            await asyncio.sleep(RECONNECT_S)

    async def list(self) -> list[DemandEvent]:
        return await self._opened().list()

    async def put(self, event: DemandEvent) -> None:
        await self._opened().put(event)

    async def delete(self, event_id: str) -> None:
        await self._opened().delete(event_id)

    def _opened(self) -> Calendar:
        if self._calendar is None:
            raise Unavailable("the home hub's NATS server does not answer: the calendar cannot be read or changed")
        return self._calendar
