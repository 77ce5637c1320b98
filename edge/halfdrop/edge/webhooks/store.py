"""Where events wait and where they lie when given up on: two streams on the edge's own server, used as tables.

One message for each event, under its own subject. WEBHOOKS takes nothing new when it is full; an event's later attempts
replace its message, so that their number and due time survive with it. WEBHOOKS_DEAD forgets its oldest.
"""

from collections.abc import AsyncIterator

import msgspec
import structlog
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, Header, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from halfdrop.edge.orders import FULL_CODES, translated
from halfdrop.edge.webhooks.events import RECORD_MAX_BYTES, WebhookRecord, decode_record, encode_record
from halfdrop.runtime.streams import DAY_S, DUPLICATE_WINDOW_S, ensure_stream

log = structlog.get_logger()

WAITING_STREAM, WAITING_PREFIX = "WEBHOOKS", "webhooks"
DEAD_STREAM, DEAD_PREFIX = "WEBHOOKS_DEAD", "webhooks-dead"

WAITING_MAX_BYTES = 512 * 1024**2
WAITING_MAX = 100_000
"""Events of this edge that wait; an event is about 3 KB here and 1 KB in memory."""

DEAD_MAX_BYTES = 128 * 1024**2
DEAD_MAX = 20_000
DEAD_KEPT_S = 14 * DAY_S

MESSAGE_MAX_BYTES = RECORD_MAX_BYTES + 4 * 1024
"""With its subject and headers."""

BATCH = 256
FETCH_TIMEOUT_S = 5.0


class NoRoom(Exception):
    """The stream takes nothing new."""


class Kept(msgspec.Struct, frozen=True):
    """A record and where its stream has it."""

    record: WebhookRecord
    sequence: int


class EventStream:
    """One of the two streams."""

    def __init__(self, js: JetStreamContext, name: str, prefix: str) -> None:
        self._js = js
        self._name = name
        self._prefix = prefix

    async def add(self, record: WebhookRecord, *, is_once: bool = False) -> tuple[int, bool]:
        """Store a record in place of an earlier one of its id; return its sequence, and whether it was there already.

        is_once: store nothing if the id was stored within the last hour, whatever became of it. Raises NoRoom, and
        Unavailable if the edge's NATS is away or its disk full.
        """
        headers = {Header.MSG_ID.value: record.id} if is_once else None
        with translated("store a webhook event"):
            try:
                ack = await self._js.publish(
                    self._subject(record), encode_record(record), stream=self._name, headers=headers
                )
            except APIError as error:
                if error.err_code in FULL_CODES:
                    raise NoRoom(error.description or "full") from error
                raise
        return ack.seq, bool(ack.duplicate)

    async def read(self, sequence: int) -> WebhookRecord | None:
        """Return the record at `sequence`, None if it is gone. Raises Unavailable."""
        with translated("read a webhook event"):
            try:
                message = await self._js.get_msg(self._name, sequence, direct=True)
            except NotFoundError:
                return None
        return _decode(message.subject or "", message.data or b"")

    async def find(self, record: WebhookRecord) -> Kept | None:
        """Return what is stored under the id of `record`. Raises Unavailable."""
        with translated("find a webhook event"):
            try:
                message = await self._js.get_msg(self._name, subject=self._subject(record), direct=True)
            except NotFoundError:
                return None
        found = _decode(message.subject or "", message.data or b"")
        return Kept(found, message.seq or 0) if found else None

    async def remove(self, sequence: int) -> None:
        """Remove what is at `sequence`; removing what is gone is no error. Raises Unavailable."""
        with translated("remove a webhook event"):
            try:
                await self._js.delete_msg(self._name, sequence)
            except APIError:  # the server says in several ways, none of them its own, that there is nothing
                if await self.read(sequence) is not None:
                    raise

    async def read_all(self) -> AsyncIterator[Kept]:
        """Yield all that is stored, oldest first. Raises Unavailable."""
        with translated("read the webhook events"):
            if not (await self._js.stream_info(self._name)).state.messages:
                return
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60.0, mem_storage=True)
            reading = await self._js.pull_subscribe(f"{self._prefix}.>", stream=self._name, config=config)
            try:
                is_more = True
                while is_more:
                    for message in await reading.fetch(BATCH, timeout=FETCH_TIMEOUT_S):
                        is_more = message.metadata.num_pending > 0
                        record = _decode(message.subject, message.data)
                        if record is not None:
                            yield Kept(record, message.metadata.sequence.stream)
            finally:
                await reading.unsubscribe()

    def _subject(self, record: WebhookRecord) -> str:
        return f"{self._prefix}.{record.tenant}.{record.id}"


async def open_streams(js: JetStreamContext) -> tuple[EventStream, EventStream]:
    """Return WEBHOOKS and WEBHOOKS_DEAD, made if they are not there. Raises Unavailable."""
    with translated("open the webhook events"):
        for name, prefix, most, most_bytes, discard, kept_s in (
            (WAITING_STREAM, WAITING_PREFIX, WAITING_MAX, WAITING_MAX_BYTES, DiscardPolicy.NEW, 0),
            (DEAD_STREAM, DEAD_PREFIX, DEAD_MAX, DEAD_MAX_BYTES, DiscardPolicy.OLD, DEAD_KEPT_S),
        ):
            config = StreamConfig(
                name=name,
                subjects=[f"{prefix}.>"],
                max_msgs_per_subject=1,
                max_msgs=most,
                max_bytes=most_bytes,
                max_msg_size=MESSAGE_MAX_BYTES,
                max_age=kept_s,
                discard=discard,
                duplicate_window=DUPLICATE_WINDOW_S,
                storage=StorageType.FILE,
                allow_direct=True,
            )
            await ensure_stream(js, config)
    return EventStream(js, WAITING_STREAM, WAITING_PREFIX), EventStream(js, DEAD_STREAM, DEAD_PREFIX)


def _decode(subject: str, data: bytes) -> WebhookRecord | None:
    """Return the record, or None for bytes that no version of us wrote: one such message must not stop an edge."""
    try:
        return decode_record(data)
    except msgspec.MsgspecError as error:
        log.error("webhook_event_unreadable", subject=subject, error=str(error))
        return None
