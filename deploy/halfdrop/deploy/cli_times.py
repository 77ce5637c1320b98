"""Times as people write them on the command line."""

import re
from datetime import UTC, datetime

from halfdrop.contracts.errors import InvalidInput

_BACK = re.compile(r"([+-])(\d+(?:\.\d+)?)([mhdw])")
_UNITS_S = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
TIMES = "ISO 8601 in UTC (2026-11-27T08:00), Unix seconds, now, or from now: -7d, +90m, -2w"


def read_time(option: str, text: str, *, now: float) -> float:
    """Return Unix seconds. Raises InvalidInput that names `option`."""
    if text == "now":
        return now
    if (back := _BACK.fullmatch(text)) is not None:
        sign = -1 if back[1] == "-" else 1
        return now + sign * float(back[2]) * _UNITS_S[back[3]]
    try:
        if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
            return float(text)
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(option, got=text, allowed=TIMES) from error


def show_time(at: float) -> str:
    """Return the time to the minute, UTC, in a form that `read_time` takes."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
