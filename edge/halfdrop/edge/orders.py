"""Orders: accepted into the edge's own OUTBOX before anybody is told so, and known by their newest status in ORDERS.

The path: `submit_order` → `publish_job`, then the forwarder. The edge's own NATS server is all it needs; a hub may be
away for days. This process is the only writer of its ORDERS bucket, so a lock for each order is enough to keep its
statuses in order, and what is not in memory and not known from the start is not in the bucket either. What many ask for
at once is written in batches (`GroupPublisher`): the server syncs each to the disk once.

An order that goes on to a hub at once has no status of its own in ORDERS before the hub has it: until then it lies in
OUTBOX, from which the same status is made again (docs/adr/0028).
"""

import json
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import APIError, KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from halfdrop.contracts.errors import NotFound, Unavailable
from halfdrop.contracts.jobs import (
    Job,
    JobState,
    JobStatus,
    accepted_status,
    decode_job,
    decode_status,
    encode_job,
    encode_status,
    revival_of,
    supersedes,
)
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import (
    ORDERS_BUCKET,
    ORDERS_STREAM,
    OUTBOX_STREAM,
    order_status,
    outbox_cancel,
    outbox_job,
)
from halfdrop.edge.key_locks import KeyLocks
from halfdrop.edge.listeners import Listeners
from halfdrop.edge.names import is_order_id
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.publishing import GroupPublisher
from halfdrop.runtime.streams import ensure_edge_streams
from halfdrop.runtime.tracing import carry

log = structlog.get_logger()

ORDER_BYTES = 64 * 1024
"""Room that one more order with its plates needs."""

FULL_CODES = frozenset({10077, 10047, 10023})
"""JetStream's error codes for a stream at its limit, for storage used up, and for a server out of resources."""

FULL_RETRY_S = 30.0

AskElsewhere = Callable[[str], Awaitable[JobStatus | None]]


class OutboxFull(Unavailable):
    """The edge's own stream of orders has no room: the hub has been away for long, or the disk is full."""


class OrderBook:
    """The orders of this edge. Made by `open_orders`."""

    def __init__(
        self, broker: Broker, bucket: KeyValue, listeners: Listeners, ask_elsewhere: AskElsewhere | None = None
    ) -> None:
        self._ask_elsewhere = ask_elsewhere
        self._broker = broker
        self._js = broker.js
        self._bucket = bucket
        self._listeners = listeners
        self._outbox = GroupPublisher(broker, broker.js, OUTBOX_STREAM)
        self._statuses = GroupPublisher(broker, broker.js, ORDERS_STREAM)
        self._locks = KeyLocks()
        self.full = ""
        """Why orders are refused for want of room, or ""."""

        self._ids: dict[str, list[str]] = {}
        """All ids by tenant, oldest first: they sort by age. 75 bytes each."""
        self._open: dict[str, JobStatus] = {}
        """Newest status of orders that are not finished."""
        self._unwritten: set[str] = set()
        """Orders of which only OUTBOX knows, and not yet ORDERS."""

        self.is_flowing: Callable[[], bool] = lambda: False
        """Whether what is accepted now goes on to a hub at once. Set by the forwarder."""

        self.on_news: Callable[[JobStatus | None, JobStatus], Awaitable[None]] | None = None
        """Told of each status that is news, and of the one before, until it has kept what it wants of it; what it
        raises, the status is not taken in, and whoever brought it brings it again."""

        self.accepted = 0
        """Orders taken since the start."""

        self.on_accepted: Callable[[Job], None] | None = None
        """Told of each of them, once it is durable."""

    @property
    def is_connected(self) -> bool:
        """Whether the edge's own NATS server answers."""
        return self._broker.is_connected

    async def load(self) -> None:
        """Read what earlier runs of this edge left in the bucket."""
        watcher = await self._bucket.watchall(ignore_deletes=True)
        try:
            async for entry in watcher:
                if entry is None:  # all that was there has come
                    break
                status = _decode(entry.key, entry.value)
                if status is not None:
                    self._note(status)
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]
        await self._load_outbox()

    async def _load_outbox(self) -> None:
        """Write down what was accepted right before an earlier run died."""
        for order_id in await _ids_in_outbox(self._js):
            if await self.newest_of(order_id) is not None:
                continue
            try:
                message = await self._js.get_last_msg(OUTBOX_STREAM, outbox_job(order_id))
                job = decode_job(message.data or b"")
            except (NotFoundError, msgspec.MsgspecError) as error:  # the forwarder says what is wrong with it
                log.warning("outbox_message_unread", job_id=order_id, error=repr(error))
                continue
            await self.apply(accepted_status(job, pattern_key(job.spec)))

    async def submit(self, job: Job, key: str) -> JobStatus:
        """Accept `job`, of the pattern with `key`: durable in OUTBOX, then visible.

        Raises OutboxFull if there is no room for it, Unavailable if the edge's NATS is away.
        """
        with translated("accept the order"):
            await self._publish(outbox_job(job.id), encode_job(job), message_id=job.id)
            self.accepted += 1
            if self.on_accepted is not None:
                self.on_accepted(job)
            return await self._note_accepted(accepted_status(job, key))

    async def _note_accepted(self, status: JobStatus) -> JobStatus:
        async with self._locks.hold(status.id):
            current = await self.newest_of(status.id, tenant=status.tenant)
            if current is not None:  # the forwarder was quicker, or it was accepted before
                return current
            if self.on_news is not None:
                await self.on_news(None, status)
            if self.is_flowing():
                self._unwritten.add(status.id)
            else:
                await self._write(status)
            self._note(status)
            self._listeners.tell(status)
        return status

    async def keep(self, order_id: str) -> None:
        """Write down what only OUTBOX knows of an order that cannot go on for now. Raises Unavailable."""
        if order_id not in self._unwritten:
            return
        async with self._locks.hold(order_id):
            if order_id in self._unwritten and (status := self._open.get(order_id)) is not None:
                await self._write(status)

    async def cancel(self, order_id: str, tenant: str, now: float) -> JobStatus:
        """Ask that `order_id` stop; what has not started is canceled at once, a running job when its worker hears.

        Canceling what is finished changes nothing. Raises NotFound, and Unavailable if the edge's NATS is away.
        """
        status = await self.find(order_id, tenant)
        if status.state.is_final:
            return status
        with translated("cancel the order"):
            await self._publish(outbox_cancel(order_id), order_id.encode(), message_id=_cancel_id(status))
            if status.state is JobState.QUEUED and self.knows(order_id, tenant):
                canceled = msgspec.structs.replace(status, state=JobState.CANCELED, completed_at=now, stage="")
                return await self.apply(canceled)
        return status

    async def find(self, order_id: str, tenant: str) -> JobStatus:
        """Return the newest status. Raises NotFound for an id that nobody knows who can be asked, or is another
        tenant's."""
        status = self._open.get(order_id)
        if status is None and is_order_id(order_id):
            status = await self._read(order_id)
            if status is None and self._ask_elsewhere is not None:
                status = await self._ask_elsewhere(order_id)
        if status is None or status.tenant != tenant:
            raise NotFound(f"no prediction has the id {order_id[:40]!r}")
        return status

    async def newest(self, tenant: str, *, before: str | None, limit: int, prefix: str = "") -> list[JobStatus]:
        """Return up to `limit` orders of `tenant`, newest first, those older than the id `before`.

        prefix: of their ids; a batch's id is that of its orders.
        """
        ids = self._ids.get(tenant, [])
        if prefix:
            ids = ids[bisect_left(ids, prefix) : bisect_left(ids, prefix + "~")]
        end = bisect_left(ids, before) if before else len(ids)
        found: list[JobStatus] = []
        for order_id in reversed(ids[:end]):
            if len(found) == limit:
                break
            status = self._open.get(order_id) or await self._read(order_id)
            if status is not None:  # None: older than the bucket remembers
                found.append(status)
        return found

    def unfinished(self) -> list[JobStatus]:
        """Return the newest status of each order that is not finished; another thread may ask."""
        return list(self._open.values())

    def overdue(self, now: float) -> list[JobStatus]:
        """Return unfinished orders, whoever's, that nobody wants any more at `now`."""
        return [o for o in self._open.values() if o.cancel_at is not msgspec.UNSET and o.cancel_at <= now]

    def count(self, tenant: str) -> int:
        """Return how many orders of `tenant` this edge knows of."""
        return len(self._ids.get(tenant, ()))

    async def apply(self, status: JobStatus) -> JobStatus:
        """Take `status` into the book if it is news, and tell the listeners; return the one that counts now."""
        async with self._locks.hold(status.id):
            current = await self.newest_of(status.id, tenant=status.tenant)
            if current is not None:
                if not supersedes(status, current):
                    return current
                if status.region is msgspec.UNSET:  # hubs need not know their region's name
                    status = msgspec.structs.replace(status, region=current.region)
                if status.perhaps_in is msgspec.UNSET and current.perhaps_in is not msgspec.UNSET:
                    status = msgspec.structs.replace(status, perhaps_in=current.perhaps_in)
            if self.on_news is not None:
                await self.on_news(current, status)
            await self._write(status)
            self._note(status)
            self._listeners.tell(status)
        return status

    async def _write(self, status: JobStatus) -> None:
        with translated("record a status"):
            await self._statuses.publish(order_status(status.id), encode_status(status))
        self._unwritten.discard(status.id)

    async def newest_of(self, order_id: str, *, tenant: str = "") -> JobStatus | None:
        """Return the newest status of an order, whoever's; given its tenant, an unknown order costs no look-up.

        Raises Unavailable if the edge's NATS is away.
        """
        status = self._open.get(order_id)
        if status is not None or (tenant and not self.knows(order_id, tenant)):
            return status
        return await self._read(order_id)

    async def _publish(self, subject: str, payload: bytes, *, message_id: str) -> None:
        headers = carry({Header.MSG_ID.value: message_id})
        try:
            await self._outbox.publish(subject, payload, headers=headers)
        except APIError as error:
            if error.err_code not in FULL_CODES:
                raise
            self.full = f"orders wait for the hub in a store without room for more ({error.description})"
            detail = "the edge's store of orders is full, and this one was not taken; it empties when the hub is back"
            raise OutboxFull(detail, retry_after_s=FULL_RETRY_S) from error
        self.full = ""

    async def look_at_outbox(self) -> None:
        """Learn whether there is room for another order. Raises Unavailable if the edge's NATS is away."""
        with translated("tell how full its store is"):
            info = await self._js.stream_info(OUTBOX_STREAM)
        room_bytes = (info.config.max_bytes or 0) - info.state.bytes
        is_full = (info.config.max_bytes or 0) > 0 and room_bytes < ORDER_BYTES
        self.full = f"{info.state.messages} orders wait for the hub; no room for more" if is_full else ""

    async def _read(self, order_id: str) -> JobStatus | None:
        with translated("read the order"):
            try:
                entry = await self._bucket.get(order_id)
            except KeyNotFoundError:
                return None
            return _decode(order_id, entry.value)

    def knows(self, order_id: str, tenant: str) -> bool:
        """Whether this edge took the order, or has heard of it from its hub."""
        ids = self._ids.get(tenant, [])
        place = bisect_left(ids, order_id)
        return place < len(ids) and ids[place] == order_id

    def _note(self, status: JobStatus) -> None:
        ids = self._ids.setdefault(status.tenant, [])
        place = bisect_left(ids, status.id)
        if place == len(ids) or ids[place] != status.id:
            insort(ids, status.id)
        if status.state.is_final:
            self._open.pop(status.id, None)
        else:
            self._open[status.id] = status


async def open_orders(broker: Broker, listeners: Listeners, *, ask_elsewhere: AskElsewhere | None = None) -> OrderBook:
    """Return the book with what earlier runs left in it. Raises Unavailable if the edge's NATS does not answer.

    ask_elsewhere: asked for the newest status of an order that this edge does not know, by its id.
    """
    with translated("open the orders"):
        await ensure_edge_streams(broker.js)
        book = OrderBook(broker, await broker.js.key_value(ORDERS_BUCKET), listeners, ask_elsewhere)
        await book.load()
        return book


class _OutboxState(msgspec.Struct):
    subjects: dict[str, int] = msgspec.field(default_factory=dict)


class _OutboxInfo(msgspec.Struct):
    state: _OutboxState
    total: int = 0


async def _ids_in_outbox(js: JetStreamContext) -> list[str]:
    """Return the ids of the orders in OUTBOX. The server tells 100,000 at once; nats-py cannot ask for more."""
    prefix = outbox_job("")
    found: list[str] = []
    while True:
        wish = {"subjects_filter": f"{prefix}*", "offset": len(found)}
        reply = await js._nc.request(
            f"{js._prefix}.STREAM.INFO.{OUTBOX_STREAM}", json.dumps(wish).encode(), timeout=js._timeout
        )
        info = msgspec.json.decode(reply.data, type=_OutboxInfo)
        found += [subject.removeprefix(prefix) for subject in info.state.subjects]
        if not info.state.subjects or len(found) >= info.total:
            return found


def _cancel_id(status: JobStatus) -> str:
    """An order is canceled once; one that was brought back from the dead letters can be canceled once more."""
    return f"{status.id}.cancel" + (f".{revival_of(status)}" if revival_of(status) else "")


def _decode(order_id: str, value: bytes | None) -> JobStatus | None:
    """Return the status, or None for bytes that no version of us wrote: one such entry must not stop an edge."""
    try:
        return decode_status(value or b"")
    except msgspec.MsgspecError as error:
        log.error("status_unreadable", job_id=order_id, error=str(error))
        return None


@contextmanager
def translated(verb: str) -> Iterator[None]:
    """Turn what fails at the edge's own NATS server into Unavailable."""
    try:
        yield
    except (NatsError, TimeoutError, OSError) as error:
        raise Unavailable(f"the edge's NATS server cannot {verb}: {error or type(error).__name__}") from error
