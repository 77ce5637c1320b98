"""When an event is tried again, and when an endpoint is left alone. Pure: time and chance are handed in."""

import math
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

MINUTE_S, HOUR_S = 60.0, 3_600.0

RETRY_DELAYS_S: tuple[float, ...] = (
    *(5.0, 5 * MINUTE_S, 30 * MINUTE_S),
    *(2 * HOUR_S, 5 * HOUR_S, 10 * HOUR_S, 14 * HOUR_S, 20 * HOUR_S, 24 * HOUR_S),
)
"""After the first, second, … failure, as Standard Webhooks proposes: ten attempts in three days."""

JITTER = 0.2
"""A delay is longer by up to this share, so that what failed together does not come again together."""

RETRY_AFTER_MAX_S = 24 * HOUR_S
"""A receiver may ask for more time, up to this."""

FAILURES_TO_OPEN = 5
OPEN_MIN_S, OPEN_MAX_S = 30.0, 30 * MINUTE_S
"""How long an endpoint is left alone: doubled each time that a probe fails."""


def next_due(
    failures: int,
    *,
    now: float,
    chance: float,
    retry_after_s: float = 0.0,
    delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> float | None:
    """Return when to try again after the `failures`-th failure, None when it was the last. chance: 0 to 1."""
    if failures > len(delays_s):
        return None
    delay_s = delays_s[failures - 1] * (1 + JITTER * chance)
    return now + max(delay_s, min(retry_after_s, RETRY_AFTER_MAX_S))


def read_retry_after(text: str, now: float) -> float:
    """Return the seconds that a Retry-After field asks for, as a number or a date; 0 for anything else."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        asked_s = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return asked_s if math.isfinite(asked_s) and asked_s > 0 else 0.0


class Breaker:
    """Leaves an endpoint alone that fails again and again, and tries it with one event at a time until it is well.

    Closed until FAILURES_TO_OPEN in a row, then open for a while; when that is over one probe goes out (half-open).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open_s = OPEN_MIN_S
        self._is_probing = False
        self.failures = 0
        """In a row."""

        self.opens_at = 0.0
        """Unix seconds at which the next probe may go out; 0 while it is closed."""

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        if not self.opens_at:
            return "closed"
        return "half-open" if self._is_probing or self._clock() >= self.opens_at else "open"

    @property
    def ready_at(self) -> float:
        """Unix seconds before which nothing may be sent; infinite while a probe is under way."""
        return math.inf if self._is_probing else self.opens_at

    def begin(self) -> None:
        """An attempt goes out."""
        self._is_probing = bool(self.opens_at)

    def give_up(self) -> None:
        """The attempt said nothing about the endpoint: it never got there."""
        self._is_probing = False

    def succeed(self) -> None:
        """The endpoint answered as it should."""
        self.failures, self.opens_at, self._open_s, self._is_probing = 0, 0.0, OPEN_MIN_S, False

    def fail(self) -> None:
        """The endpoint did not."""
        self.failures += 1
        if self._is_probing:
            self._open_s = min(self._open_s * 2, OPEN_MAX_S)
        # Attempts that were under way when it opened change nothing.
        if self._is_probing or (self.failures >= FAILURES_TO_OPEN and not self.opens_at):
            self.opens_at = self._clock() + self._open_s
        self._is_probing = False
