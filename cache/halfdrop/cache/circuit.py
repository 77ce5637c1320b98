"""A circuit: after a failure, leave the failing thing alone for a while, then let one caller try."""

from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that never go back, such as time.monotonic."""

BACK_OFF_S = 0.5
BACK_OFF_MAX_S = 8.0
"""The pause doubles up to this: an outage costs one slow answer each 8 s, and its end is noticed within them."""


class Circuit:
    """Closed: everyone may call. Open: nobody until a pause is over, then one caller, until one succeeds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._retry_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """True from a failure until the next success."""
        return self._failures > 0

    def admit(self) -> bool:
        """True if the caller may go on, and must then call `succeed` or `fail`."""
        if self._failures == 0:
            return True
        now_s = self._clock()
        if now_s < self._retry_at_s:
            return False
        # This caller tries for all. Count it as failed until it succeeds, so that the others wait for it.
        self._open(now_s)
        return True

    def succeed(self) -> None:
        self._failures = 0

    def fail(self) -> None:
        # Calls that were under way when the circuit opened fail together: that is one failure.
        if self._failures == 0:
            self._open(self._clock())

    def fail_again(self) -> None:
        """A call out of turn failed: the pause begins anew, and nobody needs to try meanwhile."""
        self._open(self._clock())

    def hurry(self) -> None:
        """Something says that the outage is over: let the next caller try."""
        self._retry_at_s = self._clock()

    def _open(self, now_s: float) -> None:
        self._retry_at_s = now_s + min(BACK_OFF_S * 2.0**self._failures, BACK_OFF_MAX_S)
        self._failures = min(self._failures + 1, 32)
