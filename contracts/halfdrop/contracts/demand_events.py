"""Campaigns and product drops: demand that people know of before any series shows it.

One form for all who announce one: the command line, the planner's page, and the operator, whose DemandEvent objects
come as `AnnouncedDemand` and are read as events here. All of them lie in the bucket DEMAND_EVENTS on a hub's server.
"""

import math
import re
from typing import Any

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.plans import AnnouncedDemand

DURATION_MIN_S, DURATION_MAX_S = 60.0, 31 * 86_400.0
"""Longer than a month it is no event but the demand there is, which the forecaster learns by itself."""

UPLIFT_MIN, UPLIFT_MAX = 0.01, 1000.0
"""As in the operator's CRD. Below 1 it is a lull: a public holiday, a planned closure."""

RAMP_MAX_S = 86_400.0
NAME_MAX_CHARS, NOTE_MAX_CHARS = 120, 512
TIME_MIN_S, TIME_MAX_S = 946_684_800.0, 4_102_444_800.0
"""The years 2000 to 2100: beyond them somebody gave milliseconds, or nothing."""

DEFAULT_KIND = "campaign"

_ID = re.compile(r"(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,382}[a-z0-9])?")
"""A key of a bucket. Room for namespace, name and region of a Kubernetes object."""

_KIND = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class DemandEvent(msgspec.Struct, frozen=True, kw_only=True, tag="demand-event.v1"):
    """A time in which demand is a multiple of what it would be otherwise."""

    id: str
    """Unique in the calendar; its key in the bucket."""

    name: str
    kind: str = DEFAULT_KIND
    """Events of one kind are alike, so that the uplift of the next can be learnt from the last: "drop", "sale"."""

    start: float
    end: float
    """Unix seconds."""

    region: str | None = None
    """None: all."""

    model: str | None = None
    """None: all."""

    uplift: float
    """Times the demand that there would be without it: 3 is three times as much."""

    ramp_s: float = 0.0
    """Seconds from the start until the uplift is reached in full."""

    job_classes: tuple[JobClass, ...] = ()
    """Empty: all."""

    pools: tuple[str, ...] = ()
    """GPUPools that it touches; empty: all."""

    note: str = ""


def check_event(event: DemandEvent) -> DemandEvent:
    """Return the event if it can be one. Raises InvalidInput that says what was got and what is allowed."""
    if not _ID.fullmatch(event.id):
        raise InvalidInput("id", got=event.id, allowed="up to 384 of a-z, 0-9, '.', '_' and '-', such as autumn-drop")
    if not 1 <= len(event.name.strip()) <= NAME_MAX_CHARS or not event.name.isprintable():
        raise InvalidInput("name", got=event.name, allowed=f"1 to {NAME_MAX_CHARS} printable characters")
    if not _KIND.fullmatch(event.kind):
        raise InvalidInput("kind", got=event.kind, allowed="up to 32 of a-z, 0-9 and '-', such as drop, sale, holiday")
    if len(event.note) > NOTE_MAX_CHARS:
        raise InvalidInput("note", got=event.note, allowed=f"up to {NOTE_MAX_CHARS} characters")
    check_span(event.start, event.end, uplift=event.uplift, ramp_s=event.ramp_s)
    return event


def check_span(start: float, end: float, *, uplift: float, ramp_s: float = 0.0) -> None:
    """Raise InvalidInput unless an event can last from `start` to `end` (Unix seconds) with this uplift and ramp."""
    for name, at in (("start", start), ("end", end)):
        if not TIME_MIN_S <= at <= TIME_MAX_S:  # refuses NaN as well
            raise InvalidInput(name, got=at, allowed="Unix seconds in the years 2000 to 2100")
    if end <= start:
        raise InvalidInput("end", got=f"{start - end:g} s before the start", allowed="a time after the start")
    lasts_s = end - start
    if not DURATION_MIN_S <= lasts_s <= DURATION_MAX_S:
        allowed = "1 minute to 31 days; what lasts longer the forecaster learns from the demand itself"
        raise InvalidInput("end", got=f"an event of {lasts_s / 86_400:.4g} days", allowed=allowed)
    if not (math.isfinite(uplift) and UPLIFT_MIN <= uplift <= UPLIFT_MAX):
        allowed = f"{UPLIFT_MIN:g} to {UPLIFT_MAX:g}: times the usual demand, 3 for three times as much"
        raise InvalidInput("uplift", got=uplift, allowed=allowed)
    if not 0 <= ramp_s <= min(RAMP_MAX_S, lasts_s):
        raise InvalidInput("ramp_s", got=ramp_s, allowed=f"0 to {min(RAMP_MAX_S, lasts_s):g} s: a day or the event")


def uplift_at(event: DemandEvent, at: float) -> float:
    """Return by what the event multiplies demand at the Unix second `at`; 1 outside of it."""
    if not event.start <= at < event.end:
        return 1.0
    risen = min(1.0, (at - event.start) / event.ramp_s) if event.ramp_s > 0 else 1.0
    return 1.0 + (event.uplift - 1.0) * risen


def events_announced(key: str, demand: AnnouncedDemand) -> tuple[DemandEvent, ...]:
    """Return what the operator announced under `key` as events, one for each region that it names."""
    return tuple(
        DemandEvent(
            id=f"{key}.{region}" if region else key,
            name=demand.name,
            kind=demand.kind,
            start=demand.starts_at,
            end=demand.ends_at,
            region=region,
            uplift=demand.uplift,
            ramp_s=demand.ramp_s,
            job_classes=demand.job_classes,
            pools=demand.pools,
            note=demand.note,
        )
        for region in demand.regions or (None,)
    )


def encode_event(event: DemandEvent) -> bytes:
    """Return the JSON form of an event: readable with the nats command line."""
    return msgspec.json.encode(event)


def decode_events(key: str, data: bytes) -> tuple[DemandEvent, ...]:
    """Return the events that lie under `key`, checked, whoever wrote them.

    Raises msgspec.MsgspecError for what is neither form, InvalidInput for an event that cannot be one.
    """
    found: Any = msgspec.json.decode(data, type=DemandEvent | AnnouncedDemand)
    events = events_announced(key, found) if isinstance(found, AnnouncedDemand) else (found,)
    return tuple(check_event(event) for event in events)
