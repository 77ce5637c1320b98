"""Keys whose values the slowest tier should have and has not: it was away when they were kept. It gets them later.

Only keys are held here; the values are in the faster tiers. What those have forgotten by then is lost, and said so.
"""

from collections import OrderedDict

import structlog

from halfdrop.cache.circuit import Clock

log = structlog.get_logger()

OWED_MAX = 20_000
"""Keys held, the oldest given up first: an hour of five patterns a second, each a spec and plates."""

LOG_EVERY_S = 10.0


class OwedKeys:
    """Keys in the order in which their values were kept: what was kept first is written first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._log_at_s = clock()
        self.lost = 0
        """Values that were in no tier any more, or too many to remember."""

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str) -> None:
        """Owe `key`."""
        self._keys[key] = None
        if len(self._keys) > OWED_MAX:
            self.lose(next(iter(self._keys)))

    def discard(self, key: str) -> None:
        """Owe `key` no more."""
        self._keys.pop(key, None)

    def lose(self, key: str) -> None:
        """Give `key` up."""
        self.discard(key)
        self.lost += 1
        if self._clock() >= self._log_at_s:
            log.error("cache_owed_values_lost", lost=self.lost, owed=len(self._keys))
            self._log_at_s = self._clock() + LOG_EVERY_S

    def oldest(self, count: int) -> list[str]:
        """Return up to `count` keys, oldest first."""
        return [key for key, _ in zip(self._keys, range(count), strict=False)]
