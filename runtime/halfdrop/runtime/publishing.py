"""Publishing to a stream by many at once: what waits while one batch is under way goes together in the next.

A server that syncs each message to the disk stores about a thousand a second, whoever publishes. An atomic batch (NATS
2.12, ADR-50) is synced once (2.15): 64 messages cost no more than ten alone. Alone or few, messages go as they always
went; a batch that the server does not take as such (one of its messages is there already, the stream is full or knows
no batches) is published again one by one, so that each message has an answer of its own.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Mapping, Sequence

from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import NoStreamResponseError

from halfdrop.runtime.broker import Broker

BATCH_MIN = 10
"""Fewer go one by one, side by side: a batch costs the server about as much as ten messages, however small."""

BATCH_MAX, BATCH_BYTES_MAX = 256, 8 * 2**20
"""A server holds at most 1,000 messages of a batch, for at most 10 s."""

TIMEOUT_S = 5.0


class _Waiting:
    """A message, and what became of it."""

    def __init__(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = headers
        self.is_done = False
        self.error: BaseException | None = None


class GroupPublisher:
    """Publishes to one stream, for as many tasks as like to."""

    def __init__(self, broker: Broker, js: JetStreamContext, stream: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._nc = broker.nc
        self._js = js
        self._stream = stream
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._waiting: deque[_Waiting] = deque()

    async def publish(self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None) -> None:
        """Return once the stream has the message. Raises what JetStreamContext.publish raises.

        Messages are stored in the order of the calls; after a time-out nobody knows whether one was stored. A message
        may be published twice: give it an id, or publish what may be there twice.
        """
        message = _Waiting(subject, payload, headers or {})
        self._waiting.append(message)
        try:
            async with self._turn:  # first come, first served: whoever has the turn publishes for all that wait
                if not message.is_done:
                    await self._publish_batch(self._take_batch())
        finally:
            if not message.is_done:  # its caller was cancelled
                self._waiting.remove(message)
        if message.error is not None:
            raise message.error

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and len(batch) < BATCH_MAX and size_bytes < BATCH_BYTES_MAX:
            batch.append(self._waiting.popleft())
            size_bytes += len(batch[-1].payload)
        return batch

    async def _publish_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            if len(batch) < BATCH_MIN or not await self._is_taken_whole(batch):
                await asyncio.gather(*(self._publish_alone(message) for message in batch))
        except Exception as error:
            for message in batch:
                message.error, message.is_done = error, True
        finally:
            # Cancelled, who has the turn next goes on with the rest.
            self._waiting.extendleft(message for message in reversed(batch) if not message.is_done)

    async def _is_taken_whole(self, batch: Sequence[_Waiting]) -> bool:
        """Publish an atomic batch. False if the server refused it, and so stored none of it."""
        batch_id = secrets.token_hex(11)
        for number, message in enumerate(batch, 1):
            headers = {**message.headers, Header.BATCH_ID.value: batch_id, Header.BATCH_SEQUENCE.value: str(number)}
            if number < len(batch):
                await self._nc.publish(message.subject, message.payload, headers=headers)
        headers[Header.BATCH_COMMIT.value] = "1"
        last = batch[-1]
        try:
            reply = await self._nc.request(last.subject, last.payload, timeout=self._timeout_s, headers=headers)
        except NoRespondersError as error:
            raise NoStreamResponseError from error
        answer = json.loads(reply.data)
        if "error" in answer:
            return False
        # A stream that knows no batches stores the last message as any other, and the first ones, too.
        if answer.get("count") != len(batch):
            return False
        for message in batch:
            message.is_done = True
        return True

    async def _publish_alone(self, message: _Waiting) -> None:
        try:
            await self._js.publish(
                message.subject,
                message.payload,
                timeout=self._timeout_s,
                stream=self._stream,
                headers=dict(message.headers),
            )
        except Exception as error:  # told to whoever asked for this one
            message.error = error
        message.is_done = True


async def allow_batches(js: JetStreamContext, stream: str) -> None:
    """Let `stream` take atomic batches."""
    config = (await js.stream_info(stream)).config
    if not config.allow_atomic:
        await js.update_stream(config, allow_atomic=True)
