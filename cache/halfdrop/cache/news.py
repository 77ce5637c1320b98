"""News of the region: what one edge has forgotten or finished, told to all others through Redis within a millisecond.

Published rather than tracked by the server (`CLIENT TRACKING … BCAST`): that would also report every first write, every
expiry and every eviction, none of which makes a copy of immutable bytes wrong. News can be missed while the connection
is down, so each connection begins with a reset; see docs/adr/0011. Whether an invalidation was missed by what outlives
this process is told by the *mark*, which each of them changes: docs/adr/0016.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from halfdrop.cache.regional import RedisTier
from halfdrop.contracts.errors import Unavailable

log = structlog.get_logger()

CHANNEL = "halfdrop:cache-news"
GONE, DONE, HERE = b"gone ", b"done ", b"here "
"""A message is one of these words and a key; between them, after GONE, stand the new mark and a blank."""

MARK_KEY = "halfdrop:cache-mark"
MARK_CHARS = 16
"""Hexadecimal digits, drawn anew with each invalidation, and where the server has forgotten them."""

QUIET_S = 1.0
"""After so long without a word the server is asked for one; after as long again the connection counts as lost."""

RECONNECT_S = 0.25
"""Pause before connecting again: four attempts a second cost nothing and end an outage soon."""


class OnReset(Protocol):
    """What to do when invalidations may have been missed; `has_missed`: by what outlives the process, too."""

    async def __call__(self, *, has_missed: bool) -> None: ...


class RegionNews:
    """Tells and hears news through the server of `tier`. Listening is between `start` and `close`."""

    def __init__(self, tier: RedisTier, *, heard_path: Path | None = None) -> None:
        self._tier = tier
        self._heard_path = heard_path
        self._heard = ""
        """The newest mark that was heard and acted upon."""
        self._listener: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Event] = {}
        self._on_gone: Callable[[str], Awaitable[None]] = _nothing
        self._on_here: Callable[[str], Awaitable[None]] = _nothing
        self._on_reset: OnReset = _nothing
        self.is_connected = False
        self.resets = 0
        """Times that news may have been missed."""

    def start(
        self,
        *,
        on_gone: Callable[[str], Awaitable[None]],
        on_here: Callable[[str], Awaitable[None]],
        on_reset: OnReset,
    ) -> None:
        """Begin to listen: `on_gone(key)` for a key that was invalidated, `on_reset(…)` when any may have been,
        `on_here(key)` for one that an edge has put."""
        self._on_gone, self._on_here, self._on_reset = on_gone, on_here, on_reset
        self._heard = self._read_heard()
        self._tier.tell_puts(CHANNEL, HERE)
        self._listener = asyncio.create_task(self._listen(), name="cache news")

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    async def tell_gone(self, key: str) -> None:
        """Have every edge forget `key`, this one included. Raises Unavailable."""
        mark = secrets.token_hex(MARK_CHARS // 2)
        async with self._tier.client.pipeline(transaction=True) as pipe:
            pipe.set(MARK_KEY, mark)
            pipe.publish(CHANNEL, b"%b%b %b" % (GONE, mark.encode(), key.encode()))
            await self._tier.run(pipe.execute())

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
        is_first = True
        while True:
            try:
                async with self._subscribed() as pubsub:
                    async for message in _messages(pubsub):
                        if message["type"] == "subscribe":
                            # The client may also have connected anew by itself; either way it says so like this.
                            await self._begin(is_first=is_first)
                            is_first, self.is_connected = False, True
                        elif message["type"] == "message":
                            await self._hear(message["data"])
            except Exception as error:  # whatever a client library raises: who stops listening keeps what is gone
                if self.is_connected or not isinstance(error, (RedisError, OSError, Unavailable)):
                    log.warning("cache_news_lost", error=str(error))
                self.is_connected = is_first = False
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
            mark, _, key = key.partition(" ")
            await self._on_gone(key)
            self._note_heard(mark)
        elif word == HERE:
            await self._on_here(key)
        elif word == DONE and key in self._waiting:
            self._waiting[key].set()

    async def _begin(self, *, is_first: bool) -> None:
        """Catch up with what was missed, now that everything from here on is heard."""
        await self._tier.run(self._tier.client.set(MARK_KEY, secrets.token_hex(MARK_CHARS // 2), nx=True))
        read = await self._tier.run(self._tier.client.get(MARK_KEY))
        mark = read.decode() if isinstance(read, bytes) else ""
        has_missed = self._heard_path is not None and mark != self._heard
        # At a start that found its server at once, memory holds nothing that came before its news did.
        if has_missed or not is_first:
            self.resets += 1
            log.info("cache_flushed", reason="news may have been missed", disk=has_missed)
            await self._on_reset(has_missed=has_missed)
        self._note_heard(mark)

    def _read_heard(self) -> str:
        try:
            return self._heard_path.read_text() if self._heard_path else ""
        except OSError:
            return ""

    def _note_heard(self, mark: str) -> None:
        if mark == self._heard:
            return
        self._heard = mark
        if self._heard_path is not None:
            try:
                self._heard_path.write_text(mark)
            except OSError as error:  # the next start then empties the disk for nothing, which costs time only
                log.warning("cache_mark_not_written", error=str(error))


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


async def _nothing(*_: object, **__: object) -> None: ...
