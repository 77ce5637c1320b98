"""News of the region: what one edge has forgotten or finished, told to all others through Redis within a millisecond.

Published rather than tracked by the server (`CLIENT TRACKING … BCAST`): that would also report every first write, every
expiry and every eviction, none of which makes a copy of immutable bytes wrong. News can be missed while the connection
is down, so each connection after the first begins with a reset; see docs/adr/0011.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from halfdrop.cache.regional import RedisTier
from halfdrop.contracts.errors import Unavailable

log = structlog.get_logger()

CHANNEL = "halfdrop:cache-news"
GONE, DONE = b"gone ", b"done "
"""A message is one of these words and a key."""

QUIET_S = 1.0
"""After so long without a word the server is asked for one; after as long again the connection counts as lost."""

RECONNECT_S = 0.25
"""Pause before connecting again: four attempts a second cost nothing and end an outage soon."""


class RegionNews:
    """Tells and hears news through the server of `tier`. Listening is between `start` and `close`."""

    def __init__(self, tier: RedisTier) -> None:
        self._tier = tier
        self._listener: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Event] = {}
        self._on_gone: Callable[[str], Awaitable[None]] = _nothing
        self._on_reset: Callable[[], Awaitable[None]] = _nothing
        self.is_connected = False
        self.resets = 0
        """Connections after the first: each time news may have been missed."""

    def start(self, *, on_gone: Callable[[str], Awaitable[None]], on_reset: Callable[[], Awaitable[None]]) -> None:
        """Begin to listen: `on_gone(key)` for a key that was invalidated, `on_reset()` when any may have been."""
        self._on_gone, self._on_reset = on_gone, on_reset
        self._listener = asyncio.create_task(self._listen(), name="cache news")

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    async def tell_gone(self, key: str) -> None:
        """Have every edge forget `key`, this one included. Raises Unavailable."""
        await self._tier.run(self._tier.client.publish(CHANNEL, GONE + key.encode()))

    async def wait_until_done(self, key: str, *, timeout_s: float) -> None:
        """Return when another edge says that it is done with `key`, or after `timeout_s`."""
        done = self._waiting.setdefault(key, asyncio.Event())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await done.wait()
        finally:
            if self._waiting.get(key) is done:
                del self._waiting[key]

    async def _listen(self) -> None:
        has_listened = False
        while True:
            try:
                async with self._subscribed() as pubsub:
                    async for message in _messages(pubsub):
                        if message["type"] == "subscribe":
                            # The client may also have connected anew by itself; either way it says so like this.
                            if has_listened:
                                await self._reset()
                            has_listened = self.is_connected = True
                        elif message["type"] == "message":
                            await self._hear(message["data"])
            except Exception as error:  # whatever a client library raises: who stops listening keeps what is gone
                if self.is_connected or not isinstance(error, (RedisError, OSError, Unavailable)):
                    log.warning("cache_news_lost", error=str(error))
                self.is_connected = False
            await asyncio.sleep(RECONNECT_S)

    @contextlib.asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[PubSub]:
        pubsub: PubSub = self._tier.client.pubsub()
        try:
            await self._tier.run(pubsub.subscribe(CHANNEL))
            yield pubsub
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _hear(self, message: bytes) -> None:
        word, key = message[: len(GONE)], message[len(GONE) :].decode(errors="replace")
        if word == GONE:
            await self._on_gone(key)
        elif word == DONE and key in self._waiting:
            self._waiting[key].set()

    async def _reset(self) -> None:
        self.resets += 1
        log.info("cache_memory_flushed", reason="news may have been missed")
        await self._on_reset()


async def _messages(pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
    """Yield what arrives, for ever. Raises Unavailable when the server says nothing although asked."""
    is_asked = False
    while True:
        message = await pubsub.get_message(timeout=QUIET_S)
        if message is not None:
            is_asked = False
            yield message
        elif is_asked:
            raise Unavailable("redis: no answer on the connection for news")
        else:
            await pubsub.ping()
            is_asked = True


async def _nothing(*_: object) -> None: ...
