"""The region's tier: one Redis or Valkey that many edges share.

Every operation has a time limit after which it counts as an outage: an answer from here must be quicker than making
the thing again.
"""

import asyncio
from collections.abc import Awaitable

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from halfdrop.cache.seal import SEAL_BYTES, has_seal, make_seal
from halfdrop.contracts.errors import PermanentError, Unavailable

log = structlog.get_logger()

TIMEOUT_S = 0.25
"""Limit of one operation, waiting for a connection included. A preview is drawn in a tenth of it."""

TTL_S = 7 * 24 * 3600
"""A week: longer than a season's designs stay popular; the object store remembers what this forgets."""

CONNECTIONS_MAX = 32
"""Per process. A command takes 0.1 ms, so this is far more than one event loop can keep busy."""

PREFIX = "halfdrop:cache:"


class RedisTier:
    """Sealed bytes in Redis or Valkey, each for `ttl_s` seconds. Made by `open_redis_tier`."""

    name = "redis"
    is_remote = True

    def __init__(self, client: Redis, *, prefix: str, ttl_s: int, timeout_s: float) -> None:
        self.client = client
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self.damaged = 0
        self._news: tuple[str, bytes] | None = None

    def tell_puts(self, channel: str, word: bytes) -> None:
        """From now on publish `word` and the key on `channel` with each put, in the same round trip."""
        self._news = channel, word

    async def get(self, key: str) -> bytes | None:
        stored = await self.run(self.client.get(self._prefix + key))
        if stored is None:
            return None
        assert isinstance(stored, bytes)
        seal, data = stored[:SEAL_BYTES], stored[SEAL_BYTES:]
        if has_seal(seal, key, data):
            return data
        self.damaged += 1
        log.warning("cache_value_damaged", tier=self.name, key=key)
        return None

    async def put(self, key: str, data: bytes) -> None:
        async with self.client.pipeline(transaction=False) as pipe:
            pipe.set(self._prefix + key, make_seal(key, data) + data, ex=self._ttl_s)
            if self._news is not None:
                channel, word = self._news
                pipe.publish(channel, word + key.encode())
            await self.run(pipe.execute())

    async def delete(self, key: str) -> None:
        await self.run(self.client.delete(self._prefix + key))

    async def increment(self, key: str, *, ttl_s: int, by: int = 1) -> int:
        """Add `by` to the number at `key`, kept for `ttl_s` from now, and return it. Raises Unavailable."""
        async with self.client.pipeline(transaction=True) as pipe:
            pipe.incrby(self._prefix + key, by)
            pipe.expire(self._prefix + key, ttl_s)
            counted = await self.run(pipe.execute())
        assert isinstance(counted, list)
        return int(counted[0])

    async def clear(self) -> None:
        """Nothing: what is here is not this process's alone."""

    async def aclose(self) -> None:
        await self.client.aclose()

    async def run(self, command: Awaitable[object]) -> object:
        """Return what a command of `client` does. Raises Unavailable if it fails or takes longer than the limit."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command
        except (RedisError, OSError) as error:  # OSError covers TimeoutError
            raise Unavailable(f"redis: {error or 'no answer in time'}") from error


def open_redis_tier(url: str, *, prefix: str = PREFIX, ttl_s: int = TTL_S, timeout_s: float = TIMEOUT_S) -> RedisTier:
    """Return the tier at `url` (redis://, rediss://, unix://), connecting when first used.

    Raises PermanentError(bad-redis-url) for a URL that names no server.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=None,  # the limit around each operation counts this wait too
            socket_timeout=None,
            socket_connect_timeout=None,
            # A restarted server leaves dead connections in the pool; the first use of each is repeated on a new one.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
    except ValueError as error:
        raise PermanentError(f"redis {url!r}: {error}", code="bad-redis-url") from error
    return RedisTier(Redis.from_pool(pool), prefix=prefix, ttl_s=ttl_s, timeout_s=timeout_s)
