"""Which models are kept in memory, which give way, and which is loaded next. Pure: no clock, no model, no thread.

What a model is worth is what it would cost to have it back: GreedyDual-Size with frequency (Cherkasova, 1998). Its
priority is floor + uses × load seconds / bytes; the lowest gives way, and the floor rises to it, so that what was
popular long ago ages without a clock.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

USES_KEPT = 1024
"""Models whose uses are remembered after they went: a model that comes back is not a stranger."""

PATIENCE_S = 30.0
"""A model that waits longer for room has the one at work make it: its jobs end, no new ones begin. About one load of a
production base model (p50 23 s): what is spent on a switch is never less than half of the time."""


@dataclass(slots=True)
class _Worth:
    cost_s: float
    size_bytes: int
    priority: float


class GreedyDual:
    """What each model is worth."""

    def __init__(self) -> None:
        self._floor = 0.0
        self._uses: dict[str, int] = {}
        self._held: dict[str, _Worth] = {}

    def used(self, digest: str) -> None:
        """A job began with the model."""
        uses = self._uses.pop(digest, 0) + 1
        self._uses[digest] = uses  # the newest last
        while len(self._uses) > USES_KEPT:
            del self._uses[next(iter(self._uses))]
        if (worth := self._held.get(digest)) is not None:
            worth.priority = self._priority(digest, worth)

    def loaded(self, digest: str, *, cost_s: float, size_bytes: int) -> None:
        """The model is in memory, at this cost."""
        worth = _Worth(cost_s=cost_s, size_bytes=max(1, size_bytes), priority=0.0)
        worth.priority = self._priority(digest, worth)
        self._held[digest] = worth

    def evicted(self, digest: str) -> None:
        """The model went."""
        if (worth := self._held.pop(digest, None)) is not None:
            self._floor = max(self._floor, worth.priority)

    def priority(self, digest: str) -> float:
        """Return what the model is worth: the lowest goes first."""
        return self._held[digest].priority

    def _priority(self, digest: str, worth: _Worth) -> float:
        return self._floor + max(1, self._uses.get(digest, 0)) * worth.cost_s / worth.size_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A model in memory."""

    digest: str
    size_bytes: int
    priority: float
    begun: int = 0
    """Jobs that hold it."""

    waiting: int = 0
    """Jobs that will."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A model that jobs wait for."""

    digest: str
    size_bytes: int
    """As far as it is known."""

    rank: int
    """Of its most urgent job: 0 is real-time."""

    since: int
    """Arrival of its oldest job."""

    waited_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What to do about models now."""

    load: str | None = None
    evict: tuple[str, ...] = ()
    drain: frozenset[str] = frozenset()
    """Models that begin no new jobs until another was loaded."""

    reason: Literal["nothing", "fits", "idle made room", "waited", "draining", "busy"] = "nothing"


def choose_models(
    wanted: Sequence[Wanted], held: Sequence[Held], budget_bytes: int, *, patience_s: float = PATIENCE_S
) -> Choice:
    """Return which model to load, and which go for it.

    The one that waited beyond patience comes first, the oldest of those before others; else the most urgent. It is
    loaded where it fits once idle models are gone, those worth least first. A model that others still want or hold goes
    only for one that ran out of patience: it then begins nothing new, and goes when its jobs have ended. Meanwhile what
    fits without anybody going is loaded.
    """
    if not wanted:
        return Choice()
    head = min(wanted, key=lambda each: _urgency(each, patience_s))
    free = budget_bytes - sum(model.size_bytes for model in held)
    idle = [model for model in held if not model.begun and not model.waiting]
    gone = _take(idle, head.size_bytes - free)
    if gone is not None:
        return Choice(load=head.digest, evict=gone, reason="idle made room" if gone else "fits")
    if head.waited_s >= patience_s:
        # All that stand still, in the order of their worth after the idle ones; then those at work must end.
        still = sorted((model for model in held if not model.begun), key=lambda each: (each.waiting > 0, each.priority))
        gone = _take(still, head.size_bytes - free, is_sorted=True)
        if gone is not None:
            return Choice(load=head.digest, evict=gone, reason="waited")
        working = sorted((model for model in held if model.begun), key=lambda each: each.priority)
        needed, draining = head.size_bytes - free - sum(model.size_bytes for model in still), []
        for model in working:
            if needed > 0:
                draining.append(model.digest)
                needed -= model.size_bytes
        return Choice(drain=frozenset(draining) | {model.digest for model in still}, reason="draining")
    small = [each for each in wanted if each.size_bytes <= free]
    if small:
        return Choice(load=min(small, key=lambda each: _urgency(each, patience_s)).digest, reason="fits")
    return Choice(reason="busy")


def least_worth(held: Collection[Held]) -> tuple[str, ...]:
    """Return the models that nobody holds, those worth least first: what can go when memory ran out."""
    return tuple(model.digest for model in sorted(held, key=lambda each: each.priority) if not model.begun)


def _urgency(wanted: Wanted, patience_s: float) -> tuple[bool, float, int, int]:
    is_late = wanted.waited_s >= patience_s
    return (not is_late, -wanted.waited_s if is_late else 0.0, wanted.rank, wanted.since)


def _take(models: Sequence[Held], needed_bytes: int, *, is_sorted: bool = False) -> tuple[str, ...] | None:
    """Return the models that make room, worth least first; None if all of them are not enough."""
    taken: list[str] = []
    for model in models if is_sorted else sorted(models, key=lambda each: each.priority):
        if needed_bytes <= 0:
            break
        taken.append(model.digest)
        needed_bytes -= model.size_bytes
    return tuple(taken) if needed_bytes <= 0 else None
