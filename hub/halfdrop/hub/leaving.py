"""Whether a stopping worker should finish a job or hand it back: its grace against the time that the job still needs.

The time is reckoned from what was measured: the job's own sampling steps, and what finishing took this worker for each
megapixel lately. Asked again every LOOK_S, because a job can turn out slower than it looked. The reckoning is pure.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from statistics import median

import structlog

log = structlog.get_logger()

LOOK_S = 0.1

SAVING_SHARE, SAVING_MAX_S = 0.1, 2.0
"""Of the grace, so much is kept for saving the job's progress and telling of it."""

MEGAPIXEL = 2**20
FINISHING_S_PER_MEGAPIXEL = 0.1
"""Before anything was measured: what two slow cores take, with room."""

WEIGHT = 0.3
"""Of the newest job in the running mean of finishing."""

STEPS_MEASURED = 8
TELLING_SHARE = 0.25
"""Of finishing, from which on its own progress tells how long the rest takes."""


def usable_grace_s(grace_s: float) -> float:
    """Return how much of the grace a job may use."""
    return max(0.0, grace_s - min(SAVING_MAX_S, SAVING_SHARE * grace_s))


def time_left_s(*, steps_left: int, step_s: float | None, finishing_left_s: float) -> float | None:
    """Return the seconds that a job still needs; None while it is not known how long a step takes."""
    if steps_left == 0:
        return finishing_left_s
    return None if step_s is None else steps_left * step_s + finishing_left_s


def finishing_left_s(*, expected_s: float, elapsed_s: float, done: float) -> float:
    """Return what is left of finishing after `elapsed_s`, of which `done` (0 to 1) is done.

    Never less than either view says: that of earlier jobs, and that of this one's own progress. The first steps are no
    measure: one of them may have waited for the refiner to be loaded.
    """
    by_progress_s = elapsed_s * (1 - done) / done if done >= TELLING_SHARE else 0.0
    return max(0.0, expected_s - elapsed_s, by_progress_s)


class FinishingPace:
    """How fast this worker finishes, over its last jobs."""

    def __init__(self) -> None:
        self._s_per_megapixel = FINISHING_S_PER_MEGAPIXEL
        self._jobs = 0

    def note(self, size_px: int, elapsed_s: float) -> None:
        """Learn from a job that was finished, but for the first: it may have waited for the refiner to be loaded."""
        self._jobs += 1
        if self._jobs == 1:
            return
        measured = elapsed_s / _megapixels(size_px)
        weight = WEIGHT if self._jobs > 2 else 1.0
        self._s_per_megapixel += weight * (measured - self._s_per_megapixel)

    def finishing_s(self, size_px: int) -> float:
        """Return how long the files of such a job will take, about."""
        return self._s_per_megapixel * _megapixels(size_px)


def _megapixels(size_px: int) -> float:
    """Count small files as a megapixel: their pixels are not what they cost, and they say nothing of large ones."""
    return max(1.0, size_px * size_px / MEGAPIXEL)


class JobPace:
    """How fast one job goes. Its signs come from any thread, one after the other."""

    def __init__(self, pace: FinishingPace, size_px: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._began_s = clock()
        self._pace = pace
        self._size_px = size_px
        self._clock = clock
        self._steps_left: int | None = None
        self._last_step: float | None = None
        self._steps_s: deque[float] = deque(maxlen=STEPS_MEASURED)
        self._finishing_since: float | None = None
        self.done: Callable[[], float] = lambda: 0.0
        """Tells how much of finishing is done, 0 to 1."""

    def sample(self, steps_left: int) -> None:
        """So many steps of sampling are to come."""
        self._steps_left, self._last_step = steps_left, None

    def step(self) -> None:
        """A step of sampling is done. The first one is no measure: it waited for the sampler, and for the model."""
        now = self._clock()
        if self._last_step is not None:
            self._steps_s.append(now - self._last_step)
        self._last_step = now
        self._steps_left = max(0, (self._steps_left or 0) - 1)

    def finish(self, done: Callable[[], float]) -> None:
        """Sampling is over; `done` tells how much of the files is made."""
        self._steps_left, self._finishing_since, self.done = 0, self._clock(), done

    def finished(self) -> None:
        """All files are made and stored: a measure for the next jobs."""
        if self._finishing_since is not None:
            self._pace.note(self._size_px, self._clock() - self._finishing_since)

    def left_s(self) -> float | None:
        """Return the seconds that the job still needs, None while nothing is known."""
        if self._steps_left is None:
            return None
        expected_s = self._pace.finishing_s(self._size_px)
        if self._finishing_since is not None:
            elapsed_s = self._clock() - self._finishing_since
            expected_s = finishing_left_s(expected_s=expected_s, elapsed_s=elapsed_s, done=self.done())
        step_s = median(self._steps_s) if self._steps_s else None
        return time_left_s(steps_left=self._steps_left, step_s=step_s, finishing_left_s=expected_s)

    def rest_s(self, whole_s: float | None) -> float | None:
        """Return the same where it is known, else what is left of `whole_s`, which jobs like this one take."""
        left_s = self.left_s()
        if left_s is not None or whole_s is None:
            return left_s
        return max(0.0, whole_s - (self._clock() - self._began_s))


async def leave_in_time(stop: asyncio.Event, grace_s: float, left_s: Callable[[], float | None]) -> None:
    """Return when the job should be handed back: once it is plain that it cannot end within the grace, or at its end.

    Until `stop` is set, wait for ever.
    """
    await stop.wait()
    ends_at = time.monotonic() + usable_grace_s(grace_s)
    while (rest_s := ends_at - time.monotonic()) > 0:
        needed_s = left_s()
        if needed_s is not None and needed_s > rest_s:
            log.info("job_left_unfinished", needed_s=round(needed_s, 2), rest_s=round(rest_s, 2))
            return
        await asyncio.sleep(min(LOOK_S, rest_s))
