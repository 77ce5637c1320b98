"""A lane: the orders and cancels that go to one region, in the order in which they came, many at once.

An order's region stands in ORDERS before it goes out, so that an edge that is killed right then asks the same region
first, whose stream drops what it has already. An order that certainly never arrived is given back at once to be sent
elsewhere. One that may be there is, too, once its region has been away for long; of the two regions the one that claims
it first runs it (docs/adr/0029).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from msgspec.structs import replace
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, OutboundBufferLimitError
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError
from opentelemetry.trace import SpanKind

from halfdrop.contracts.claims import CLAIM_HEADER
from halfdrop.contracts.jobs import Job, JobState, JobStatus, accepted_status, accepted_work
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import CANCELS_STREAM, JOBS_STREAM, at_hub, cancel_job, queued_job
from halfdrop.contracts.work import WORK_HEADER
from halfdrop.edge.hub_link import HubLink
from halfdrop.edge.orders import OrderBook
from halfdrop.edge.regions import Regions
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.publishing import GroupPublisher
from halfdrop.runtime.semantics import messaging
from halfdrop.runtime.streams import ensure_hub_streams
from halfdrop.runtime.tracing import Tracing, carry

log = structlog.get_logger()

CHUNK_MAX = 256
"""Messages under way to a region at once: at 100 ms to the hub and back, 2,500 a second."""

MOVE_AFTER_S = 30.0
"""A region away for so long gives up orders that it may have. Sooner most of them would be run there, and be asked for
twice for nothing."""

PUBLISH_TIMEOUT_S = 2.0
RETRY_MIN_S, RETRY_MAX_S = 0.2, 2.0
"""Back-off while the hub is away: short enough that orders flow within seconds of its return."""

OUTAGE = (NatsError, TimeoutError, OSError)
NEVER_ARRIVED = (NoStreamResponseError, NoRespondersError, OutboundBufferLimitError, APIError)
"""Nobody took the message, it was refused, or it never left: it is certainly not there. Else it may be."""


@dataclass(kw_only=True, eq=False)
class Outgoing:
    """A message of OUTBOX that is in hand."""

    message: Msg
    order_id: str
    job: Job | None
    """None for a cancel."""

    lanes_left: int = 1
    """A cancel of an order whose region nobody knows goes to all of them."""

    may_be_there: bool = False
    """An attempt at its present region ended without an answer, or an earlier run of this edge made one."""

    perhaps_in: tuple[str, ...] = ()
    """Regions that it was moved from, which may have it."""

    is_rerouted: bool = False
    """It was given a region in this run: given back, it certainly never arrived there."""


class Lane:
    """Sends what it is given to one region until that has it."""

    def __init__(
        self,
        broker: Broker,
        link: HubLink,
        regions: Regions,
        orders: OrderBook,
        tracing: Tracing,
        *,
        settle: Callable[[Outgoing], Awaitable[None]],
        give_back: Callable[[Outgoing], Awaitable[None]],
    ) -> None:
        self.link = link
        self._regions = regions
        self._orders = orders
        self._tracing = tracing
        self._settle = settle
        self._give_back = give_back
        self._jobs = GroupPublisher(broker, link.js, JOBS_STREAM, timeout_s=PUBLISH_TIMEOUT_S)
        self._waiting: deque[Outgoing] = deque()
        self._filled = asyncio.Event()

    @property
    def length(self) -> int:
        """Messages that wait for their turn."""
        return len(self._waiting)

    def add(self, outgoing: Outgoing) -> None:
        """Take a message in behind the others."""
        self._waiting.append(outgoing)
        self._filled.set()

    async def run(self) -> None:
        """Send for ever. Raises Unavailable when the edge's own server is away."""
        while True:
            await self._filled.wait()
            chunk = [self._waiting.popleft() for _ in range(min(CHUNK_MAX, len(self._waiting)))]
            if not self._waiting:
                self._filled.clear()
            await self._send_stubbornly(chunk)

    async def _send_stubbornly(self, chunk: list[Outgoing]) -> None:
        retry_s = RETRY_MIN_S
        while True:
            if self.link.is_up or await self._is_ready():
                orders, cancels = [e for e in chunk if e.job], [e for e in chunk if e.job is None]
                chunk = await self._send(orders)
                chunk = [*chunk, *cancels] if chunk else await self._send(cancels)  # none goes before an order
            for outgoing in chunk:
                await self._orders.keep(outgoing.order_id)
            if chunk and self._regions.are_several:
                chunk = await self._give_back_others(chunk)
            if not chunk:
                return
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_MAX_S)

    async def _is_ready(self) -> bool:
        try:
            await ensure_hub_streams(self.link.js)
        except OUTAGE as error:
            self.link.report_down(error)
            return False
        self.link.report_up()
        return True

    async def _send(self, chunk: list[Outgoing]) -> list[Outgoing]:
        """Send all of them side by side; return those that the region is not known to have."""
        async with asyncio.TaskGroup() as tasks:
            sending = [(each, tasks.create_task(self._send_one(each))) for each in chunk]
        return [each for each, task in sending if not task.result()]

    async def _send_one(self, outgoing: Outgoing) -> bool:
        """Return True once nothing is left to do for the message, a part of the trace that it came with."""
        stream = JOBS_STREAM if outgoing.job else CANCELS_STREAM
        attributes = messaging("publish", "send", stream, outgoing.order_id)
        headers = outgoing.message.headers or {}
        try:
            with self._tracing.span(
                f"publish {stream}", kind=SpanKind.PRODUCER, attributes=attributes, headers=headers
            ):
                if outgoing.job:
                    await self._send_job(outgoing.job, outgoing.message.data, outgoing.perhaps_in)
                else:
                    await self._send_cancel(outgoing.order_id)
        except OUTAGE as error:
            outgoing.may_be_there = outgoing.may_be_there or not isinstance(error, NEVER_ARRIVED)
            self.link.report_down(error)
            return False
        await self._settle(outgoing)
        return True

    async def _send_job(self, job: Job, data: bytes, perhaps_in: tuple[str, ...]) -> None:
        known = await self._orders.newest_of(job.id, tenant=job.tenant) or accepted_status(job, pattern_key(job.spec))
        if self._regions.are_several and is_wanted(known):
            named = replace(known, region=self.link.region)
            known = await self._orders.apply(replace(named, perhaps_in=perhaps_in) if perhaps_in else named)
        if not is_wanted(known):  # canceled while it waited here, or a hub has told of it already
            log.info("order_not_forwarded", job_id=job.id, state=known.state)
            return
        subject = at_hub(self.link.region, queued_job(job.job_class, job.tenant))
        headers = carry({Header.MSG_ID.value: job.id, WORK_HEADER: f"{accepted_work(job):g}"})
        if self._regions.are_several:
            headers[CLAIM_HEADER] = self.link.region
        await self._jobs.publish(subject, data, headers=headers)
        self.link.report_up()
        self._regions.note_sent(self.link.region, job)
        await self._orders.apply(replace(known, region=self.link.region, queued_at=time.time()))
        log.info("order_forwarded", job_id=job.id, region=self.link.region)

    async def _send_cancel(self, order_id: str) -> None:
        # Stored for workers that have not begun, heard at once by the one that has.
        subject = at_hub(self.link.region, cancel_job(order_id))
        await self.link.js.publish(subject, b"", timeout=PUBLISH_TIMEOUT_S, stream=CANCELS_STREAM)
        self.link.report_up()
        log.info("cancel_forwarded", job_id=order_id, region=self.link.region)

    async def _give_back_others(self, chunk: list[Outgoing]) -> list[Outgoing]:
        """While the region is away, give back what may go elsewhere; return what must wait for it."""
        waiting = [*chunk, *self._waiting]
        self._waiting.clear()
        self._filled.clear()
        kept = []
        for outgoing in waiting:
            if outgoing.job is None or (outgoing.may_be_there and not self._may_move(outgoing.job)):
                kept.append(outgoing)
            else:
                await self._give_back(outgoing)
        return kept

    def _may_move(self, job: Job) -> bool:
        """True if an order that may be here is better sent to another region, and only one of the two will run it."""
        since = self.link.away_since
        if since is None or time.time() - since < MOVE_AFTER_S or not self._regions.claims(self.link.region):
            return False
        return self._regions.has_refuge(job, self.link.region)


def is_wanted(status: JobStatus) -> bool:
    """True if the order still has to go to a hub: it is queued, and no hub is known to have it."""
    return status.state is JobState.QUEUED and status.queued_at is None
