"""Where the operator hears of demand: plans and queues over NATS, or nothing at all.

NATS may be away for as long as it likes: every question then raises Unavailable, the decision falls back to what is
observed in the cluster, and the connection is tried again in the background.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from halfdrop.contracts.errors import PermanentError, TransientError, Unavailable
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.plans import (
    DEMAND_EVENTS_BUCKET,
    DEMAND_EVENTS_KEPT_S,
    PLANS_BUCKET,
    AnnouncedDemand,
    DemandPlan,
    decode_plan,
    encode_announced,
    plan_key,
)
from halfdrop.contracts.pools import STATE_KEPT_S, WorkerState, decode_state
from halfdrop.contracts.subjects import worker_state
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.streams import ensure_bucket

log = structlog.get_logger()

RECONNECT_S = 5.0
WORKERS_MAX = 4096
"""Workers whose states are kept; more than any region has."""


class DemandSource(Protocol):
    """What is known of demand beside the cluster itself."""

    async def latest_plan(self, region: str, pool: str) -> DemandPlan | None:
        """Return the newest plan, or None if none was published. Raises Unavailable, PermanentError(bad-plan)."""

    def jobs_of(self, region: str, classes: Iterable[JobClass]) -> float | None:
        """Return the jobs waiting or in hand in a region, or None if no worker told of late."""

    async def announce(self, key: str, demand: AnnouncedDemand | None) -> None:
        """Tell the forecaster of a campaign, or with None that it is off. Raises Unavailable."""


class NoDemand:
    """Nobody tells anything: pools follow their minimum, their schedules and their autoscaler."""

    async def latest_plan(self, region: str, pool: str) -> DemandPlan | None:
        raise Unavailable("no plans are read: HALFDROP_OPERATOR_NATS_URL is empty")

    def jobs_of(self, region: str, classes: Iterable[JobClass]) -> float | None:
        return None

    async def announce(self, key: str, demand: AnnouncedDemand | None) -> None:
        if demand is None:
            return  # what nobody was told of need not be called off
        raise Unavailable("nobody is told: HALFDROP_OPERATOR_NATS_URL is empty", retry_after_s=60.0)


class NatsDemand:
    """Plans from the bucket PLANS, queues from what the workers tell, campaigns into DEMAND_EVENTS."""

    def __init__(self) -> None:
        self._broker: Broker | None = None
        self._plans: KeyValue | None = None
        self._states: dict[str, tuple[float, WorkerState]] = {}

    async def latest_plan(self, region: str, pool: str) -> DemandPlan | None:
        broker = self._connected()
        key = plan_key(region, pool)
        try:
            if self._plans is None:
                self._plans = await broker.js.key_value(PLANS_BUCKET)
            entry = await self._plans.get(key)
        except KeyNotFoundError:
            return None
        except (BucketNotFoundError, NotFoundError):
            self._plans = None  # made anew some day
            return None
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"the plan {key} could not be read: {error or type(error).__name__}") from error
        try:
            return decode_plan(entry.value or b"")
        except msgspec.MsgspecError as error:
            raise PermanentError(f"the plan {key} is none that is known here: {error}", code="bad-plan") from error

    def jobs_of(self, region: str, classes: Iterable[JobClass]) -> float | None:
        heard_since = time.monotonic() - STATE_KEPT_S
        fresh = [
            (heard, state) for heard, state in self._states.values() if heard > heard_since and state.region == region
        ]
        if not fresh:
            return None
        wanted = frozenset(classes)
        _, newest = max(fresh, key=lambda pair: pair[0])  # each worker tells of the whole pool
        return float(sum(lane.jobs for lane in newest.lanes if lane.job_class in wanted))

    async def announce(self, key: str, demand: AnnouncedDemand | None) -> None:
        broker = self._connected()
        try:
            bucket = await ensure_bucket(broker.js, DEMAND_EVENTS_BUCKET, kept_s=DEMAND_EVENTS_KEPT_S)
            if demand is None:
                await bucket.delete(key)
            else:
                await bucket.put(key, encode_announced(demand))
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"the forecaster could not be told: {error or type(error).__name__}") from error

    async def keep_connected(self, url: str, *, name: str, domain: str) -> None:
        """Connect, and go on trying until it works; then listen to the workers until cancelled."""
        while True:
            try:
                async with open_broker(url, name=name, domain=domain or None) as broker:
                    await broker.nc.subscribe(worker_state("*", "*"), cb=self._note)
                    self._broker = broker
                    log.info("demand_connected", url=url)
                    await asyncio.Event().wait()  # the client reconnects by itself from here on
            except (TransientError, PermanentError, NatsError) as error:
                log.warning("demand_unavailable", url=url, error=str(error))
            finally:
                self._broker = self._plans = None
            await asyncio.sleep(RECONNECT_S)

    def _connected(self) -> Broker:
        if self._broker is None or not self._broker.is_connected:
            raise Unavailable("NATS does not answer: no plans are read")
        return self._broker

    async def _note(self, message: Msg) -> None:
        try:
            state = decode_state(message.data)
        except msgspec.MsgspecError:
            return  # a newer worker's; the next may be readable
        if len(self._states) >= WORKERS_MAX and message.subject not in self._states:
            del self._states[min(self._states, key=lambda subject: self._states[subject][0])]
        self._states[message.subject] = (time.monotonic(), state)


@asynccontextmanager
async def open_demand(url: str, *, name: str, domain: str) -> AsyncIterator[DemandSource]:
    """Yield what tells of demand: over NATS, connected in the background, or nothing for an empty `url`."""
    if not url:
        yield NoDemand()
        return
    demand = NatsDemand()
    connecting = asyncio.create_task(demand.keep_connected(url, name=name, domain=domain))
    try:
        yield demand
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
