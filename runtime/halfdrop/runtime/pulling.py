"""Pulling from a consumer in batches: what is there comes at once, and the first that comes is not made to wait.

nats-py's `fetch` of several waits for the last of them until its time is over, so that one message alone takes seconds.
Here a request for many stays open at the server, and each call returns what has come.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import Header
from nats.js.errors import APIError, ServiceUnavailableError

from halfdrop.runtime.broker import Broker

PULL_S = 2.0
"""A request that brings nothing is made anew after this; one lost in an outage costs little more."""

GRACE_S = 1.0
"""How much later than that its end may be told before the server counts as lost."""

_OVER = ("404", "408")
"""Statuses that say: this request brings no more."""

NO_RESPONDERS = "503"


class BatchPull:
    """An open pull from one consumer. Made by `open_pull`."""

    def __init__(self, broker: Broker, subject: str, inbox: str) -> None:
        self._nc = broker.nc
        self._subject = subject
        self._inbox = inbox
        self._arrived: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._request_id = ""
        self._open = 0
        """Messages that the present request may still bring."""

    async def fetch(self, count: int) -> list[Msg]:
        """Return what has come, or else what comes within PULL_S, `count` at most; possibly nothing.

        Raises APIError for what the server says of the consumer, ServiceUnavailableError if it says nothing.
        """
        if not self._arrived:
            if not self._open:
                await self._request(count)
            await self._wait()
        return self._take(count)

    async def receive(self, message: Msg) -> None:
        """Take what the subscription brings."""
        self._arrived.append(message)
        self._news.set()

    async def _request(self, count: int) -> None:
        self._request_id = secrets.token_hex(6)
        self._open = count
        body = {"batch": count, "expires": int(PULL_S * 1e9)}
        await self._nc.publish(self._subject, json.dumps(body).encode(), reply=f"{self._inbox}.{self._request_id}")

    async def _wait(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(PULL_S + GRACE_S):
                await self._news.wait()
        except TimeoutError as error:
            self._open = 0
            raise ServiceUnavailableError(description="no server answers the pull") from error

    def _take(self, count: int) -> list[Msg]:
        found: list[Msg] = []
        while self._arrived and len(found) < count:
            message = self._arrived.popleft()
            status = _status(message)
            is_ours = message.subject == f"{self._inbox}.{self._request_id}" or not status
            if not status:
                self._open = max(0, self._open - 1)
                found.append(message)
            elif is_ours:
                self._open = 0
                self._check(status, message, found)
        return found

    def _check(self, status: str, message: Msg, found: list[Msg]) -> None:
        if status in _OVER:
            return
        if found:  # these first; the trouble is met again by the next request
            return
        if status == NO_RESPONDERS:
            raise ServiceUnavailableError(description="no server answers the pull")
        raise APIError(code=int(status), description=(message.headers or {}).get(Header.DESCRIPTION.value, ""))


@asynccontextmanager
async def open_pull(broker: Broker, *, domain: str | None, stream: str, consumer: str) -> AsyncIterator[BatchPull]:
    """Pull from a consumer that exists, in the JetStream of `domain`, until the block ends."""
    api = f"$JS.{domain}.API" if domain else "$JS.API"
    inbox = broker.nc.new_inbox()
    pull = BatchPull(broker, f"{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}", inbox)
    subscription = await broker.nc.subscribe(f"{inbox}.*", cb=pull.receive)
    try:
        yield pull
    finally:
        with suppress(NatsError, OSError):  # of a connection that is gone nothing is left to end
            await subscription.unsubscribe()


def _status(message: Msg) -> str:
    return "" if message.data or not message.headers else message.headers.get(Header.STATUS.value, "")
