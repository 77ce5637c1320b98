"""Which jobs nobody wants any more: known in memory, so that neither taking a job nor running it asks the server.

The live message is quick but can be lost; the stream CANCELS is certain but must be asked. So all ids are read once,
each cancel is heard as it comes, and the stream is read again whenever something may have been missed: after a
reconnect, before the next job is taken; and when its count of messages is not what was heard.
"""

import asyncio
import json
from collections import defaultdict

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.subjects import CANCELS_STREAM, cancel_job
from halfdrop.runtime.broker import REQUEST_TIMEOUT_S, Broker

log = structlog.get_logger()

LOOK_AGAIN_S = 10.0
IDS_MAX = 262_144
"""More than CANCELS holds by its limit of bytes; about 40 MB."""

_PREFIX = cancel_job("")


class Cancels:
    """The ids of canceled jobs, and who waits for one of them."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._last_sequence = -1
        self._heard = 0
        """Cancels heard since the stream was read."""

        self._reconnects = -1
        """How often the connection had been made anew when the stream was read."""

    def is_canceled(self, job_id: str) -> bool:
        """True if the job is known to be canceled: the order stands until a cancel is known."""
        return job_id in self._ids

    async def wait_for_cancel(self, job_id: str) -> None:
        """Return once the job is canceled; without a cancel, wait for ever."""
        if job_id in self._ids:
            return
        heard = asyncio.Event()
        self._waiting[job_id].add(heard)
        try:
            await heard.wait()
        finally:
            self._waiting[job_id].discard(heard)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def add(self, job_id: str) -> None:
        """Note that a job is canceled, and wake who works on it."""
        self._ids[job_id] = None
        if len(self._ids) > IDS_MAX:
            del self._ids[next(iter(self._ids))]
        for heard in self._waiting.get(job_id, ()):
            heard.set()

    async def hear(self, message: Msg) -> None:
        """Take a live message."""
        self._heard += 1
        self.add(message.subject.removeprefix(_PREFIX))

    async def catch_up(self, broker: Broker) -> None:
        """Read CANCELS unless all of it is known. Costs nothing on a connection that has held since the last time.

        Raises Unavailable if the server does not answer.
        """
        if self._reconnects != broker.nc.stats["reconnects"]:
            await self._read(broker)

    async def look_again(self, broker: Broker) -> None:
        """Read CANCELS if its count shows that something was missed. Raises Unavailable."""
        await self.catch_up(broker)
        heard_before = self._heard
        info = await _ask(broker, {})
        if not heard_before <= info.state.last_seq - self._last_sequence <= self._heard:
            await self._read(broker)

    async def _read(self, broker: Broker) -> None:
        reconnects, self._heard = broker.nc.stats["reconnects"], 0
        offset = 0
        while True:
            info = await _ask(broker, {"subjects_filter": f"{_PREFIX}*", "offset": offset})
            for subject in info.state.subjects:
                self.add(subject.removeprefix(_PREFIX))
            offset += len(info.state.subjects)
            if not info.state.subjects or offset >= info.total:
                break
        # What is heard while we read may be in both: the next look finds a difference then, and reads once more.
        self._last_sequence, self._reconnects = info.state.last_seq, reconnects


async def watch_cancels(broker: Broker, cancels: Cancels) -> None:
    """Look again now and then, until cancelled; every outage is waited out. `hear` must be subscribed before."""
    while True:
        await asyncio.sleep(LOOK_AGAIN_S)
        try:
            await cancels.look_again(broker)
        except Unavailable as error:
            log.warning("cancels_unknown", error=error.detail)


class _State(msgspec.Struct):
    last_seq: int
    subjects: dict[str, int] = msgspec.field(default_factory=dict)


class _Info(msgspec.Struct):
    state: _State
    total: int = 0


async def _ask(broker: Broker, wish: dict[str, object]) -> _Info:
    """Ask for the stream's state; nats-py's own way cannot ask for the second page of subjects."""
    api = f"$JS.{broker.domain}.API" if broker.domain else "$JS.API"
    subject = f"{api}.STREAM.INFO.{CANCELS_STREAM}"
    try:
        reply = await broker.nc.request(subject, json.dumps(wish).encode(), timeout=REQUEST_TIMEOUT_S)
        return msgspec.json.decode(reply.data, type=_Info)
    except (NatsError, OSError, TimeoutError, msgspec.MsgspecError) as error:
        raise Unavailable(f"CANCELS cannot be read: {error!r}") from error
