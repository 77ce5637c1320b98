"""Keys that the slowest tier was just found not to have: a flood of unknown keys is answered from here.

An entry is true when it is made and may be wrong at once, when another edge puts the key. It is dropped when such a
put is heard of and lives for seconds anyway.
"""

from collections import OrderedDict

from halfdrop.cache.circuit import Clock

MISSING_S = 5.0
"""Longest time for which a key that exists may be called missing: an edge that is deaf to the region's news."""

MISSING_MAX = 10_000
"""Keys remembered, the oldest forgotten first: 1 to 5 MB. A flood of more costs the slower tiers what it did before."""


class MissingKeys:
    """Keys with an end, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until_s)

    def note(self, key: str) -> None:
        """Remember that there is no `key`."""
        self._until_s[key] = self._clock() + MISSING_S
        self._until_s.move_to_end(key)
        if len(self._until_s) > MISSING_MAX:
            self._until_s.popitem(last=False)

    def knows(self, key: str) -> bool:
        """True if there was no `key` a moment ago."""
        until_s = self._until_s.get(key)
        if until_s is None:
            return False
        if self._clock() < until_s:
            return True
        del self._until_s[key]
        return False

    def discard(self, key: str) -> None:
        """Forget `key`: it exists, or may."""
        self._until_s.pop(key, None)
