import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.hub.leaving import (
    MEGAPIXEL,
    TELLING_SHARE,
    FinishingPace,
    JobPace,
    finishing_left_s,
    leave_in_time,
    time_left_s,
    usable_grace_s,
)

seconds = st.floats(0, 1e4)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_job_needs_its_steps_at_their_measured_time_and_the_finishing_that_others_took() -> None:
    clock, pace = Clock(), FinishingPace()
    pace.note(1024, 30.0)  # the first is no measure: it may have waited for the refiner
    pace.note(1024, 2.0)
    job = JobPace(pace, 2048, clock)
    assert job.left_s() is None
    job.sample(8)
    assert job.left_s() is None
    for _ in range(3):
        clock.now += 0.5
        job.step()
    assert job.left_s() == pytest.approx(5 * 0.5 + 4 * 2.0)
    job.finish(lambda: 0.25)
    clock.now += 3.0
    assert job.left_s() == pytest.approx(9.0)
    clock.now += 6.0
    assert job.left_s() == pytest.approx(27.0)  # a quarter took nine seconds
    job.finished()
    assert pace.finishing_s(1024) == pytest.approx(2.0 + 0.3 * (9.0 / 4 - 2.0))


def test_the_first_step_is_no_measure_because_it_waits_for_the_model() -> None:
    clock = Clock()
    job = JobPace(FinishingPace(), 1024, clock)
    job.sample(4)
    clock.now = 60.0
    job.step()
    assert job.left_s() is None
    clock.now = 60.5
    job.step()
    assert job.left_s() == pytest.approx(2 * 0.5 + FinishingPace().finishing_s(1024))


def test_of_a_job_that_tells_nothing_yet_the_rest_is_what_jobs_like_it_take() -> None:
    clock = Clock()
    job = JobPace(FinishingPace(), 1024, clock)
    clock.now = 3.0
    assert job.rest_s(None) is None
    assert job.rest_s(10.0) == 7.0
    assert job.rest_s(2.0) == 0.0
    job.finish(lambda: 0.0)
    assert job.rest_s(10.0) == job.left_s()


@given(st.integers(0, 1000), st.none() | seconds, seconds)
def test_more_steps_never_take_less(steps: int, step_s: float | None, finishing_s: float) -> None:
    fewer = time_left_s(steps_left=steps, step_s=step_s, finishing_left_s=finishing_s)
    more = time_left_s(steps_left=steps + 1, step_s=step_s, finishing_left_s=finishing_s)
    assert (more is None) == (step_s is None)
    assert more is None or (fewer is not None and more >= fewer >= finishing_s)


@given(seconds, seconds, st.floats(0, TELLING_SHARE, exclude_max=True))
def test_the_first_steps_of_finishing_are_no_measure(expected_s: float, elapsed_s: float, done: float) -> None:
    left_s = finishing_left_s(expected_s=expected_s, elapsed_s=elapsed_s, done=done)
    assert left_s == max(0.0, expected_s - elapsed_s)


@given(seconds, seconds, st.floats(TELLING_SHARE, 1))
def test_finishing_needs_at_least_what_its_own_progress_says(expected_s: float, elapsed_s: float, done: float) -> None:
    left_s = finishing_left_s(expected_s=expected_s, elapsed_s=elapsed_s, done=done)
    assert left_s >= elapsed_s * (1 - done) / done
    assert left_s >= expected_s - elapsed_s
    assert finishing_left_s(expected_s=0.0, elapsed_s=elapsed_s, done=1.0) == 0.0


@given(st.floats(0, 600))
def test_some_of_the_grace_is_kept_for_saving(grace_s: float) -> None:
    assert 0.9 * grace_s - 1e-9 <= usable_grace_s(grace_s) <= grace_s
    assert grace_s < 20 or usable_grace_s(grace_s) == grace_s - 2


async def test_a_job_that_cannot_end_in_time_is_left_at_once_and_one_that_can_is_not() -> None:
    stop = asyncio.Event()
    stop.set()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await leave_in_time(stop, 20.0, lambda: 100.0)
    assert loop.time() - began_s < 0.5
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await leave_in_time(stop, 20.0, lambda: 10.0)
    await leave_in_time(stop, 0.3, lambda: None)  # nothing known: until the grace is over
    assert 0.25 < loop.time() - began_s < 2


def test_a_megapixel_is_the_unit_of_the_pace() -> None:
    pace = FinishingPace()
    pace.note(1024, 1.0)
    pace.note(4096, 8.0)
    assert pace.finishing_s(4096) == pytest.approx(8.0)
    assert pace.finishing_s(1024) == pytest.approx(0.5)
    pace.note(64, 0.5)  # small files count as a megapixel: another 0.3 of the way from half a second to half a second
    assert pace.finishing_s(256) == pace.finishing_s(1024) == pytest.approx(0.5)
    assert MEGAPIXEL == 1024 * 1024
