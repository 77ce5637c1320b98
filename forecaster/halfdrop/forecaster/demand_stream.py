"""Reading the stream DEMAND from a sequence on, without a consumer: the place is the reader's to remember.

A batched direct get (NATS 2.11) answers with messages in their order and says when that was all. Each names the one
before it, so that a message lost on the way is noticed.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.subjects import DEMAND_STREAM
from halfdrop.forecaster.demand_rows import Stored
from halfdrop.runtime.broker import Broker

BATCH_MAX = 256
BATCH_BYTES_MAX = 8 * 2**20
TIMEOUT_S = 5.0

NOTHING, END = "404", "204"


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of DEMAND."""

    created: str
    """Tells this stream from one that was made anew under its name."""

    first: int
    """Sequence of the oldest message that is there; where none is, one past the last that was."""

    last: int
    size_bytes: int
    max_bytes: int


class DemandStream:
    """DEMAND on one hub's server. Made by `open_demand_stream`."""

    def __init__(self, broker: Broker, inbox: str) -> None:
        self._broker = broker
        self._inbox = inbox
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._requests = 0

    async def receive(self, message: Msg) -> None:
        """Take what the subscription brings."""
        await self._arrived.put(message)

    async def describe(self) -> StreamState:
        """Return the stream's state. Raises Unavailable."""
        try:
            info = await self._broker.js.stream_info(DEMAND_STREAM)
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"DEMAND cannot be read: {error!r}") from error
        assert info.created is not None
        return StreamState(
            created=f"{round(info.created.timestamp() * 1000):x}",
            first=info.state.first_seq,
            last=info.state.last_seq,
            size_bytes=info.state.bytes,
            max_bytes=info.config.max_bytes or 0,
        )

    async def read(self, sequence: int) -> list[Stored]:
        """Return the messages from `sequence` on, up to BATCH_MAX or BATCH_BYTES_MAX. Raises Unavailable."""
        self._requests += 1
        reply = f"{self._inbox}.{self._requests}"
        api = f"$JS.{self._broker.domain}.API" if self._broker.domain else "$JS.API"
        request = {
            "seq": sequence,
            "batch": BATCH_MAX,
            "max_bytes": BATCH_BYTES_MAX,
            "next_by_subj": "demand.>",
        }
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._broker.nc.publish(
                    f"{api}.DIRECT.GET.{DEMAND_STREAM}", json.dumps(request).encode(), reply=reply
                )
                return await self._gather(reply)
        except (NatsError, OSError, TimeoutError, KeyError, ValueError) as error:
            raise Unavailable(f"DEMAND cannot be read: {error!r}") from error

    async def _gather(self, reply: str) -> list[Stored]:
        found: list[Stored] = []
        while True:
            message = await self._arrived.get()
            if message.subject != reply:
                continue  # the rest of a request that was given up
            headers = message.headers or {}
            status = headers.get("Status", "")
            if status == NOTHING:
                return []
            before = int(headers["Nats-Last-Sequence"]) if status != "503" else -1
            if before != (found[-1].sequence if found else 0):
                raise Unavailable(f"DEMAND: messages were lost on the way, or nobody answers ({status or before})")
            if status == END:
                return found
            stored_at = datetime.fromisoformat(headers["Nats-Time-Stamp"][:26].rstrip("Z") + "+00:00").timestamp()
            found.append(Stored(sequence=int(headers["Nats-Sequence"]), stored_at=stored_at, data=message.data))


@asynccontextmanager
async def open_demand_stream(broker: Broker) -> AsyncIterator[DemandStream]:
    """Read DEMAND until the block ends."""
    inbox = broker.nc.new_inbox()
    stream = DemandStream(broker, inbox)
    subscription = await broker.nc.subscribe(f"{inbox}.*", cb=stream.receive)
    try:
        yield stream
    finally:
        with suppress(NatsError, OSError):
            await subscription.unsubscribe()
