"""The seam between the cache and its tiers."""

from typing import Protocol

KEY_MAX_BYTES = 400
"""UTF-8 bytes of the longest key: LMDB, the strictest tier, takes 511 in all."""


class Tier(Protocol):
    """One place that keeps bytes by key. A miss is None, an outage raises Unavailable, nothing else is raised.

    Keys are 1 to KEY_MAX_BYTES bytes of text; values are any bytes, the empty ones included. Any tier may forget any
    value at any time, unless it says otherwise.
    """

    @property
    def name(self) -> str:
        """One lower-case word for logs, counts and `Cache-Status`."""

    @property
    def is_remote(self) -> bool:
        """True if using it waits for something outside this process's memory and page cache.

        Remote tiers are written in the background and asked once for many concurrent readers of a key.
        """

    @property
    def damaged(self) -> int:
        """Values that were not what had been put, since the start; each was a miss."""

    async def get(self, key: str) -> bytes | None:
        """Return exactly the bytes last put under `key`, or None."""

    async def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, replacing what was there. A value that is too large for the tier is not kept."""

    async def delete(self, key: str) -> None:
        """Forget `key`; forgetting what is not there is no error."""

    async def clear(self) -> None:
        """Forget everything. Asked of local tiers only; a remote one is others', too, and does nothing."""

    async def aclose(self) -> None:
        """Let go of files and connections. The tier is of no use afterwards."""
