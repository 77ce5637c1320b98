"""How many samples one call may have, learnt for each model and shape from calls that fitted and calls that did not.

Pure. A limit begins at what the device's plan allows. A call that runs out of memory is a wall; the limit is then
sought between the largest call that fitted and the wall, so that few calls fail. Walls move when memory is freed, so
after many calls at the limit a wall is tried again, one sample further.
"""

from dataclasses import dataclass

from halfdrop.hub.engine.planning import Group

RETRY_CALLS = 512
"""Calls at the limit after which the wall is moved by one: one failed call in so many costs nothing."""


@dataclass(slots=True)
class _Known:
    fitted: int = 0
    wall: int | None = None
    """The smallest call that did not fit."""

    calls: int = 0
    """Full calls since the wall was met."""


class Limits:
    """What is known of calls, by model, shape and precision: LoRAs and lattices change nothing in it."""

    def __init__(self, rows_max: int) -> None:
        assert rows_max >= 1, rows_max
        self.rows_max = rows_max
        self._known: dict[tuple[object, ...], _Known] = {}

    def allowed(self, group: Group) -> int:
        """Return how many samples the next call may have, 1 at least."""
        known = self._known.get(_key(group))
        if known is None or known.wall is None:
            return self.rows_max
        return max(1, min(self.rows_max, (known.fitted + known.wall) // 2))

    def fitted(self, group: Group, rows: int) -> None:
        """A call of `rows` samples went through."""
        known = self._known.setdefault(_key(group), _Known())
        known.fitted = max(known.fitted, rows)
        if known.wall is None:
            return
        if rows >= known.wall:
            known.wall = None if rows >= self.rows_max else rows + 1
        known.calls += rows >= self.allowed(group)
        if known.calls >= RETRY_CALLS and known.wall is not None:
            known.calls, known.wall = 0, known.wall + 1
            known.fitted = max(known.fitted, known.wall - 1)
            if known.wall > self.rows_max:
                known.wall = None

    def overflowed(self, group: Group, rows: int) -> None:
        """A call of `rows` samples ran out of memory."""
        known = self._known.setdefault(_key(group), _Known())
        known.wall = rows if known.wall is None else min(known.wall, rows)
        known.fitted = min(known.fitted, known.wall - 1)
        known.calls = 0

    def walls(self) -> dict[tuple[object, ...], int]:
        """Return the calls that are known not to fit, for reports."""
        return {key: known.wall for key, known in self._known.items() if known.wall is not None}


def _key(group: Group) -> tuple[object, ...]:
    return group.model, group.shape, group.dtype, group.phase
