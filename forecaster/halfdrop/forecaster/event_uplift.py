"""What events of a kind did to demand: the median, over past events, of demand during them over what is usual then.

Usual is the same time of the week, in the nearest weeks before and after that had no event. Only minutes that are known
in both count.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import numpy as np

from halfdrop.contracts.demand_events import UPLIFT_MAX, UPLIFT_MIN, DemandEvent
from halfdrop.forecaster.workload import MINUTE_S, FloatArray

WEEK_S = 7 * 86_400.0
WEEKS_LOOKED_AT = 8
"""On either side of an event: one of a month covers the four nearest itself."""

WEEKS_COMPARED = 4
KNOWN_SHARE_MIN = 0.5
"""An event counts if at least so much of it is known, and a week if it is known for so much of the event."""

EVENTS_MAX = 20
"""Of a kind, the last ones: what people do on Black Friday changes over the years."""

MinutesOf = Callable[[DemandEvent, float, float], Awaitable[FloatArray]]
"""Demand per minute of what an event touches, from one Unix second to another, NaN where nothing is known."""


class EventRatio(msgspec.Struct, frozen=True, kw_only=True):
    """What one event did."""

    event_id: str
    ratio: float
    """Demand during it, over what is usual then."""

    weeks: int
    """How many weeks that was compared with."""


class LearntUplift(msgspec.Struct, frozen=True, kw_only=True):
    """What events of a kind do."""

    kind: str
    uplift: float
    low: float
    high: float
    """The median, the smallest and the largest of the ratios."""

    ratios: tuple[EventRatio, ...]
    """What it rests on, the oldest event first."""

    @property
    def events(self) -> int:
        """How many events it rests on."""
        return len(self.ratios)


async def learn_uplift(
    kind: str, events: Sequence[DemandEvent], minutes_of: MinutesOf, *, now: float
) -> LearntUplift | None:
    """Return what past events of `kind` did, None if there is none to learn from. `now`: Unix seconds.

    Raises what `minutes_of` raises.
    """
    past = [event for event in events if event.kind == kind and event.end <= now]
    ratios = []
    for event in sorted(past, key=lambda event: event.start)[-EVENTS_MAX:]:
        found = await _learn_one(event, events, minutes_of, now)
        if found is not None:
            ratios.append(found)
    if not ratios:
        return None
    values = [each.ratio for each in ratios]
    return LearntUplift(
        kind=kind,
        uplift=float(np.clip(np.median(values), UPLIFT_MIN, UPLIFT_MAX)),
        low=min(values),
        high=max(values),
        ratios=tuple(ratios),
    )


async def _learn_one(
    event: DemandEvent, events: Sequence[DemandEvent], minutes_of: MinutesOf, now: float
) -> EventRatio | None:
    start = _minute_up(min(event.start + event.ramp_s, event.end - MINUTE_S))  # in its ramp it is not in full yet
    end = max(_minute_up(event.end), start + MINUTE_S)
    during = await minutes_of(event, start, end)
    if np.mean(~np.isnan(during)) < KNOWN_SHARE_MIN:
        return None
    compared = []
    for weeks in sorted(range(-WEEKS_LOOKED_AT, WEEKS_LOOKED_AT + 1), key=abs):
        shift_s = weeks * WEEK_S
        if weeks == 0 or end + shift_s > now or _is_touched(event, events, start + shift_s, end + shift_s):
            continue
        usual = await minutes_of(event, start + shift_s, end + shift_s)
        is_known = ~(np.isnan(during) | np.isnan(usual))
        if is_known.mean() >= KNOWN_SHARE_MIN and usual[is_known].sum() > 0:
            compared.append(float(during[is_known].sum() / usual[is_known].sum()))
        if len(compared) == WEEKS_COMPARED:
            break
    if not compared:
        return None
    return EventRatio(event_id=event.id, ratio=float(np.median(compared)), weeks=len(compared))


def _is_touched(event: DemandEvent, events: Sequence[DemandEvent], start: float, end: float) -> bool:
    """True if any event changed the demand of what `event` touches in that time."""
    return any(other.start < end and start < other.end and _overlap(event, other) for other in events)


def _overlap(one: DemandEvent, other: DemandEvent) -> bool:
    pairs = ((one.region, other.region), (one.model, other.model))
    is_apart = any(left is not None and right is not None and left != right for left, right in pairs)
    classes = set(one.job_classes) & set(other.job_classes) or not (one.job_classes and other.job_classes)
    return not is_apart and bool(classes)


def _minute_up(at: float) -> float:
    return math.ceil(at / MINUTE_S) * float(MINUTE_S)
