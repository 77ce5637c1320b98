"""One delivery of a job: JetStream's ack, nak, term and in_progress, and nothing about what the job is."""

import asyncio

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from halfdrop.contracts.errors import Unavailable
from halfdrop.hub.fair_order import LaneName

log = structlog.get_logger()

ACK_TIMEOUT_S = 5.0


class Delivery:
    """A message from JOBS, to be answered exactly once: ack, nak or term."""

    def __init__(self, msg: Msg, *, lane: LaneName, work: float) -> None:
        self._msg = msg
        self.lane = lane
        self.work = work
        """What its lane is charged with for it."""

        self.subject = msg.subject
        self.data = msg.data
        self.headers = msg.headers or {}
        """What the job came with: the same at each delivery, and with it the trace that it belongs to."""

        self.attempt = msg.metadata.num_delivered
        self.sequence = msg.metadata.sequence.stream
        self.queued_at = msg.metadata.timestamp.timestamp()
        """When the stream stored the job, in Unix seconds."""

    async def ack(self) -> None:
        """Take the job out of the queue. Raises Unavailable if that cannot be said.

        Nobody waits for the server's word, which would cost as much again: what is acked has its result stored and
        told, so that one whose ack is lost is delivered again, found done, and acked once more.
        """
        try:
            await self._msg.ack()
        except (NatsError, OSError) as error:
            raise Unavailable(f"JOBS did not take the ack: {error}") from error

    async def nak(self, delay_s: float = 0.0) -> None:
        """Give the job back, to be delivered again after `delay_s`. Raises Unavailable if it cannot be said."""
        try:
            await self._msg.nak(delay=delay_s)
        except (NatsError, OSError) as error:
            raise Unavailable(f"JOBS did not take the nak: {error}") from error

    async def term(self, reason: str) -> None:
        """Take the job out of the queue as given up, with a reason for the server's advisory.

        nats-py's own term cannot carry the reason, so the protocol's line is sent as it is, as a request: the
        server answers once it has done so.
        """
        try:
            await self._msg._client.request(self._msg.reply, f"+TERM {reason}".encode(), timeout=ACK_TIMEOUT_S)
        except (NatsError, OSError) as error:
            raise Unavailable(f"JOBS did not take the term: {error}") from error

    async def keep_alive(self, every_s: float) -> None:
        """Tell the server every `every_s` seconds that the job is being worked on, until cancelled.

        A sign that cannot be sent is no failure of the job: should the outage outlast ack_wait, another worker
        begins the job too, and results are idempotent.
        """
        while True:
            await asyncio.sleep(every_s)
            try:
                await self._msg.in_progress()
            except (NatsError, OSError) as error:
                log.warning("heartbeat_failed", sequence=self.sequence, error=repr(error))
