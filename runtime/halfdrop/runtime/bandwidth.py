"""A bound on bytes per second for what is fetched in the background, so that it never crowds out what was asked for."""

import asyncio
import time
from collections.abc import Callable

BURST_S = 0.25
"""What may be taken at once after a pause, as a time at full rate: long enough for a picture, too short to be felt."""


class Bandwidth:
    """At most `bytes_per_s`, averaged over any time longer than the burst, for all tasks that share it.

    Whoever learns how much it read only when it has it takes those bytes afterwards: the next one waits for the debt.
    """

    def __init__(self, bytes_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        assert bytes_per_s > 0, "no bandwidth at all: do not fetch instead"
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._free_at_s = 0.0
        """When all that was taken so far will have been paid for."""

    async def take(self, size_bytes: int) -> None:
        """Count `size_bytes`, and return when they fit within the rate."""
        now_s = self._clock()
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._bytes_per_s
        if self._free_at_s > now_s:
            await asyncio.sleep(self._free_at_s - now_s)
