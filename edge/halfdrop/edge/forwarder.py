"""The forwarder: takes orders and cancels from the edge's OUTBOX to a hub, at least once, one effect each.

OUTBOX → `_route` (which region) → `Lane` (publish, many at once) → ack. A message leaves OUTBOX only after the hub has
acknowledged it; the hub's duplicate window and the job's id make a second delivery harmless. An order that was canceled
while it waited here, or that a hub has told of, is not published any more. While the only hub is away messages stay in
hand (`in_progress`) in the order in which they came; with several regions what cannot go now is put off.
"""

import asyncio

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import Job, JobStatus, decode_job
from halfdrop.contracts.subjects import OUTBOX_STREAM, outbox_cancel
from halfdrop.edge.lane import OUTAGE, Lane, Outgoing, is_wanted
from halfdrop.edge.orders import OrderBook
from halfdrop.edge.regions import Regions
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.pulling import BatchPull, open_pull
from halfdrop.runtime.tracing import OFF, Tracing

log = structlog.get_logger()

CONSUMER = "forwarder"
WINDOW = 512
"""Messages in hand at most, each up to 256 KiB and usually 35: so many go out side by side, or wait for their lane."""

LANE_MAX = WINDOW // 2
"""Of several lanes none takes all the room: what one holds beyond this is put off."""

PUT_OFF_MAX = 4_096
"""Messages that the server may hold for us, those in hand and those put off. More cancels than this for a region that
is away hold up the others."""

PUT_OFF_S = 2.0
ACK_WAIT_S = 30.0
"""A message in hand that long without a sign of life is delivered again; one is given at every third of it. A new
forwarder does not wait for that: it makes the consumer anew and finds everything undelivered."""

RETRY_S = 0.5
"""The client looks for a lost server as often."""

_CANCEL_PREFIX = outbox_cancel("")


async def forward_orders(broker: Broker, regions: Regions, orders: OrderBook, tracing: Tracing = OFF) -> None:
    """Forward for ever; every outage, here or at a hub, is waited out."""
    while True:
        try:
            await _Forwarder(broker, regions, orders, tracing).run()
        except* (*OUTAGE, Unavailable) as group:
            log.warning("outbox_unreachable", error=repr(group.exceptions[0]))
        await asyncio.sleep(RETRY_S)


class _Forwarder:
    """One run, from a consumer made anew to the first error of the edge's own server; nothing is kept beyond it."""

    def __init__(self, broker: Broker, regions: Regions, orders: OrderBook, tracing: Tracing) -> None:
        self._broker = broker
        self._regions = regions
        self._orders = orders
        self._in_hand: dict[str, Outgoing] = {}
        """By subject."""
        self._nowhere: set[str] = set()
        """Orders that were put off and that no region has, though ORDERS may name one."""
        self._room = asyncio.Event()
        self._lanes = {
            name: Lane(broker, link, regions, orders, tracing, settle=self._settle, give_back=self._route)
            for name, link in regions.links.items()
        }

    async def run(self) -> None:
        """Forward until the edge's own server fails us."""
        await _make_consumer(self._broker.js)
        async with (
            open_pull(self._broker, domain=self._broker.domain, stream=OUTBOX_STREAM, consumer=CONSUMER) as pull,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._keep())
            for lane in self._lanes.values():
                tasks.create_task(lane.run())
            self._orders.is_flowing = self._is_flowing
            try:
                await self._take_in(pull)
            finally:
                self._orders.is_flowing = lambda: False

    def _is_flowing(self) -> bool:
        return len(self._in_hand) < WINDOW // 2 and all(link.is_up for link in self._regions.links.values())

    async def _take_in(self, pull: BatchPull) -> None:
        while True:
            room = WINDOW - len(self._in_hand)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            for message in await pull.fetch(room):
                known = self._in_hand.get(message.subject)
                if known is not None:  # we were stopped for so long that it came again
                    known.message = message
                    continue
                outgoing = await self._read(message)
                if outgoing is not None:
                    self._in_hand[message.subject] = outgoing
                    await self._route(outgoing)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for outgoing in list(self._in_hand.values()):
                await outgoing.message.in_progress()
                await self._orders.keep(outgoing.order_id)

    async def _read(self, message: Msg) -> Outgoing | None:
        order_id = message.subject.rpartition(".")[2]
        if message.subject.startswith(_CANCEL_PREFIX):
            return Outgoing(message=message, order_id=order_id, job=None)
        try:
            return Outgoing(message=message, order_id=order_id, job=decode_job(message.data))
        except msgspec.MsgspecError as error:
            # Not written by any version of us that we can read; keeping it would hold a place for ever.
            log.error("outbox_message_dropped", subject=message.subject, error=str(error))
            await message.ack()
            return None

    async def _route(self, outgoing: Outgoing) -> None:
        """Hand a message to the lane of its region, or put it off."""
        if outgoing.job is None:
            await self._route_cancel(outgoing)
            return
        status = await self._orders.newest_of(outgoing.order_id, tenant=outgoing.job.tenant)
        if status is not None and not is_wanted(status):  # canceled here, or an earlier run's publish did arrive
            log.info("order_not_forwarded", job_id=outgoing.order_id, state=status.state)
            await self._settle(outgoing)
            return
        if self._regions.are_several and status is not None:
            self._recall(outgoing, status)
        region = self._find_region(outgoing, outgoing.job, status)
        outgoing.is_rerouted = True
        lane = None if region is None else self._lanes[region]
        if lane is None or (self._regions.are_several and lane.length >= LANE_MAX):
            await self._put_off(outgoing)
        else:
            lane.add(outgoing)

    def _recall(self, outgoing: Outgoing, status: JobStatus) -> None:
        """Take over what the book says of where the order may be already."""
        if status.perhaps_in is not msgspec.UNSET:
            outgoing.perhaps_in = tuple(dict.fromkeys((*status.perhaps_in, *outgoing.perhaps_in)))
        if outgoing.order_id in self._nowhere:
            self._nowhere.discard(outgoing.order_id)
            outgoing.is_rerouted = True
        elif not outgoing.is_rerouted and status.region is not msgspec.UNSET:
            outgoing.may_be_there = True  # an earlier run of this edge may have sent it

    def _find_region(self, outgoing: Outgoing, job: Job, status: JobStatus | None) -> str | None:
        """Return where the order goes: where it may be already, or else where it is served best."""
        earlier = None if status is None or status.region is msgspec.UNSET else status.region
        if earlier is None or not self._regions.are_several:
            return self._regions.choose(job).region
        if not outgoing.is_rerouted:
            if earlier in self._lanes:
                return earlier
            log.error("region_unknown", job_id=job.id, region=earlier, allowed=sorted(self._lanes))
            return None
        region = self._regions.choose(job).region
        if region is None or region == earlier or not (outgoing.may_be_there or outgoing.perhaps_in):
            return region if region is not None or not outgoing.may_be_there else earlier
        if not self._regions.claims(region):  # two might run it
            return earlier if outgoing.may_be_there else None
        if outgoing.may_be_there:
            outgoing.perhaps_in = tuple(dict.fromkeys((*outgoing.perhaps_in, earlier)))
            outgoing.may_be_there = False
            log.warning("order_moved", job_id=job.id, from_region=earlier, to_region=region)
        return region

    async def _route_cancel(self, outgoing: Outgoing) -> None:
        status = await self._orders.newest_of(outgoing.order_id)
        names = list(self._lanes)
        if status is not None and self._regions.are_several:
            if status.region in self._lanes:
                perhaps = () if status.perhaps_in is msgspec.UNSET else status.perhaps_in
                names = list(dict.fromkeys((str(status.region), *(each for each in perhaps if each in self._lanes))))
            elif status.state.is_final and status.queued_at is None:
                names = []  # it never left: its region would have been written down before
        outgoing.lanes_left = len(names)
        if not names:
            await self._settle(outgoing)
        for name in names:
            self._lanes[name].add(outgoing)

    async def _settle(self, outgoing: Outgoing) -> None:
        """A lane is through with the message; the last one acks it."""
        outgoing.lanes_left -= 1
        if outgoing.lanes_left <= 0:
            self._let_go(outgoing)
            await outgoing.message.ack()

    async def _put_off(self, outgoing: Outgoing) -> None:
        """Let the server keep the message for a while: it cannot go now, and others can."""
        await self._orders.keep(outgoing.order_id)
        if not outgoing.may_be_there and not outgoing.perhaps_in and len(self._nowhere) < PUT_OFF_MAX:
            self._nowhere.add(outgoing.order_id)
        self._let_go(outgoing)
        await outgoing.message.nak(delay=PUT_OFF_S)

    def _let_go(self, outgoing: Outgoing) -> None:
        self._in_hand.pop(outgoing.message.subject, None)
        self._room.set()


async def _make_consumer(js: JetStreamContext) -> None:
    """Make the consumer anew, so that what an earlier run had in hand comes at once and not after its ack_wait."""
    try:
        await js.delete_consumer(OUTBOX_STREAM, CONSUMER)
    except NotFoundError:
        log.debug("outbox_consumer_new")
    config = ConsumerConfig(
        name=CONSUMER,
        durable_name=CONSUMER,
        filter_subject="outbox.>",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=PUT_OFF_MAX,
    )
    await js.add_consumer(OUTBOX_STREAM, config)
