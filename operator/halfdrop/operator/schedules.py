"""Which schedule and which freeze hold at a moment. Pure: the moment is an argument."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from halfdrop.contracts.errors import InvalidInput
from halfdrop.operator.policies import Freeze, Schedule

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LOOK_STEP_S = 60.0
"""A schedule's times are whole minutes, so none begins and ends between two looks."""


def check_time_zones(schedules: Iterable[Schedule]) -> None:
    """Raise InvalidInput for a zone that is not known here; the API cannot check it."""
    for schedule in schedules:
        try:
            _zone(schedule.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            field = f"spec.schedules[{schedule.name}].timeZone"
            raise InvalidInput(field, got=schedule.time_zone, allowed="an IANA zone such as Europe/Berlin") from error


def schedule_at(schedules: Iterable[Schedule], at: float) -> Schedule | None:
    """Return the first schedule that holds at the Unix second `at`."""
    return next((schedule for schedule in schedules if _holds(schedule, at)), None)


def scheduled_minimum(schedules: Sequence[Schedule], *, default: int, now: float, lead_s: float) -> int:
    """Return the largest minimum from now to `lead_s` ahead: what must be warm when a schedule begins boots before."""
    if not schedules:
        return default
    looks = [now + LOOK_STEP_S * step for step in range(int(lead_s // LOOK_STEP_S) + 1)] + [now + lead_s]
    found = (schedule_at(schedules, at) for at in looks)
    return max(default if held is None or held.min_replicas is None else held.min_replicas for held in found)


def freeze_at(freezes: Iterable[Freeze], now: float) -> Freeze | None:
    """Return the freeze that holds now; the stricter one if there are two."""
    held = [freeze for freeze in freezes if freeze.from_.timestamp() <= now < freeze.until.timestamp()]
    return min(held, key=lambda freeze: freeze.mode, default=None)  # Hold before RaiseOnly


def _holds(schedule: Schedule, at: float) -> bool:
    local = datetime.fromtimestamp(at, _zone(schedule.time_zone))
    time = f"{local:%H:%M}"
    today, yesterday = (DAYS[(local - timedelta(days=back)).weekday()] in schedule.days for back in (0, 1))
    if schedule.from_ < schedule.until:
        return today and schedule.from_ <= time < schedule.until
    return (today and time >= schedule.from_) or (yesterday and time < schedule.until)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
