"""How long something took, counted in buckets: cheap to add to, and readable as a Prometheus histogram.

Kept apart from the metrics that show it, so that what is measured knows nothing of how it is read. Only one thread adds
(a process's event loop); any thread may read.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""0.1 ms to a minute, about three to a decade: a picture from a cache, a preview, a print file, a `Prefer: wait`."""

QUEUE_BOUNDS_S = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""For what waits in a queue: at once, to a day."""


class Durations:
    """Durations in seconds, counted in buckets up to and including each bound, and above the last."""

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """Return (bound, how many took that long or less) for each bound; the last one, "+Inf", is how many in all."""
        bounds = [*(f"{bound:g}" for bound in self._bounds_s), "+Inf"]
        return list(zip(bounds, accumulate(list(self._counts)), strict=True))


class DurationsBy:
    """Durations by name, such as a stage of a job; a name's first one makes its buckets."""

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._by_name: dict[tuple[str, ...], Durations] = {}

    def add(self, name: tuple[str, ...], seconds: float) -> None:
        """Count one under `name`. Names are from a set that the code bounds, never from a request."""
        durations = self._by_name.get(name)
        if durations is None:
            durations = self._by_name[name] = Durations(self._bounds_s)
        durations.add(seconds)

    def items(self) -> list[tuple[tuple[str, ...], Durations]]:
        """Return all, whatever another thread adds meanwhile."""
        return list(self._by_name.items())
