"""The closed form of a wait, against its meaning: a pool that takes jobs by virtual time, one after the other."""

import heapq
import math
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import DEFAULT_WEIGHTS, Lane, Pace
from halfdrop.edge.estimating import Calibration, Course, Place, PoolLoad, expect_rest, expect_wait

CLASSES: tuple[JobClass, ...] = ("realtime", "standard", "bulk")
MINE = Place(job_class="standard", tenant="mine")

lanes = st.lists(
    st.builds(
        Lane,
        job_class=st.sampled_from(CLASSES),
        tenant=st.sampled_from([f"t{number}" for number in range(8)]),
        jobs=st.integers(1, 12),
        work=st.floats(0.1, 200.0),
    ),
    max_size=8,
    unique_by=lambda lane: (lane.job_class, lane.tenant),
)
loads = st.builds(
    PoolLoad,
    slots=st.integers(1, 6),
    busy=st.integers(0, 6),
    pace=st.builds(Pace, job_s=st.floats(0.0, 5.0), unit_s=st.floats(0.02, 10.0)),
    weights=st.just(DEFAULT_WEIGHTS),
    lanes=lanes.map(tuple),
    other_work=st.floats(0.0, 50.0),
    rests_s=st.lists(st.floats(0.0, 60.0), max_size=6).map(tuple),
    newcomers=st.floats(0.0, 10.0),
)
aheads = st.tuples(st.integers(0, 20), st.floats(0.1, 10.0)).map(lambda each: (each[0], each[0] * each[1]))


def at(jobs_ahead: float, work_ahead: float, job_class: JobClass = "standard") -> Place:
    return Place(job_class=job_class, tenant="mine", jobs_ahead=jobs_ahead, work_ahead=work_ahead)


def start_of(load: PoolLoad, place: Place) -> float:
    wait = expect_wait(load, place)
    assert wait is not None
    return wait.starts_in_s


@given(loads, aheads)
def test_a_wait_is_finite_and_never_negative_and_more_ahead_of_it_does_not_shorten_it_by_more_than_a_job(
    load: PoolLoad, ahead: tuple[int, float]
) -> None:
    """Jobs are dealt out as if all were alike: one more that is smaller than the others makes all of them smaller."""
    near, far = start_of(load, at(*ahead)), start_of(load, at(ahead[0] + 1, ahead[1] + 1.0))
    assert load.pace is not None
    largest = max([1.0, ahead[1] / max(1, ahead[0]), load.other_work, *(lane.work for lane in load.lanes)])
    assert 0 <= near <= far + load.pace.seconds(largest) + 1e-6 < math.inf


@given(loads, aheads)
def test_a_pool_that_is_twice_as_quick_has_half_the_wait(load: PoolLoad, ahead: tuple[int, float]) -> None:
    assert load.pace is not None
    rests_s = tuple(rest_s / 2 for rest_s in load.rests_s)
    quick = replace(load, pace=Pace(job_s=load.pace.job_s / 2, unit_s=load.pace.unit_s / 2), rests_s=rests_s)
    assert math.isclose(start_of(quick, at(*ahead)) * 2, start_of(load, at(*ahead)), rel_tol=1e-9, abs_tol=1e-9)


@given(loads, aheads)
def test_a_heavier_class_never_waits_longer(load: PoolLoad, ahead: tuple[int, float]) -> None:
    others = tuple(lane for lane in load.lanes if lane.job_class == "bulk")
    load = PoolLoad(slots=load.slots, busy=load.slots, pace=load.pace, weights=DEFAULT_WEIGHTS, lanes=others)
    assert start_of(load, at(*ahead, "realtime")) <= start_of(load, at(*ahead, "standard")) + 1e-9


def take_in_turn(waiting: Mapping[tuple[JobClass, str], list[float]], load: PoolLoad) -> float:
    """Return when the last job of ("standard", "mine") starts, if a busy pool takes jobs by virtual time.

    Jobs that run at the beginning end one after the other, evenly.
    """
    assert load.pace is not None
    mean_s = load.pace.seconds(1.0)
    slots = [mean_s * (number + 1) / (load.slots + 1) for number in range(load.slots)]
    class_at, lane_at = dict.fromkeys(CLASSES, 0.0), dict.fromkeys(waiting, 0.0)
    left = {name: list(jobs) for name, jobs in waiting.items()}
    while True:
        now = heapq.heappop(slots)
        job_class = min((name for name, _ in (key for key, jobs in left.items() if jobs)), key=class_at.__getitem__)
        lane = min((key for key, jobs in left.items() if jobs and key[0] == job_class), key=lane_at.__getitem__)
        work = left[lane].pop(0)
        if lane == ("standard", "mine") and not left[lane]:
            return now
        class_at[job_class] += work / load.weights[job_class]
        lane_at[lane] += work
        heapq.heappush(slots, now + load.pace.seconds(work))


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(CLASSES), st.sampled_from(["a", "b", "c", "d"])), st.integers(1, 30), max_size=8
    ),
    st.integers(0, 30),
    st.integers(1, 4),
)
def test_jobs_taken_in_turn_start_when_the_closed_form_says(
    others: dict[tuple[JobClass, str], int], ahead: int, slots: int
) -> None:
    """All jobs alike: what is left of the difference is less than one job of each lane, and of a round of classes."""
    waiting = {**{lane: [1.0] * jobs for lane, jobs in others.items()}, ("standard", "mine"): [1.0] * (ahead + 1)}
    told = [
        Lane(job_class=job_class, tenant=tenant, jobs=jobs, work=float(jobs))
        for (job_class, tenant), jobs in others.items()
    ]
    # Nothing of the lanes is running, so that nothing of them has to be guessed.
    load = PoolLoad(slots=slots, busy=0, pace=Pace(unit_s=1.0), weights=DEFAULT_WEIGHTS, lanes=tuple(told))
    real_s, said_s = take_in_turn(waiting, load), start_of(load, at(ahead, float(ahead)))
    rounds = sum(DEFAULT_WEIGHTS.values())
    assert abs(said_s - real_s) <= (len(others) + rounds + slots) / slots


@given(st.lists(st.floats(0.1, 100.0), min_size=30, max_size=80), st.floats(1.2, 5.0))
def test_a_calibration_finds_a_steady_factor_whatever_the_odd_ones(waits: list[float], factor: float) -> None:
    calibration = Calibration()
    for number, _ in enumerate(waits):
        calibration.learn(MINE, 10.0, 10.0 * factor if number % 4 else 10_000.0)
    assert math.isclose(calibration.correct(MINE, 10.0), 10.0 * factor, rel_tol=1e-6)
    assert calibration.correct(at(3, 3.0), 10.0) == 10.0  # another kind of order: nothing is known of it


@given(st.floats(0, 1e6), st.integers(0, 200), st.integers(0, 200), st.none() | st.floats(0, 1e6))
def test_the_rest_of_a_running_job_is_never_negative_and_nothing_once_all_is_done(
    elapsed_s: float, step: int, steps: int, expected_s: float | None
) -> None:
    rest = expect_rest(Course(elapsed_s, step, steps, expected_s))
    assert rest is None or 0 <= rest < math.inf
    if steps and step >= steps:
        assert rest == 0


@given(st.floats(1, 100), st.integers(2, 200))
def test_the_rest_shrinks_smoothly_for_a_job_that_runs_at_the_pools_rate(whole_s: float, steps: int) -> None:
    rests = [expect_rest(Course(whole_s * step / steps, step, steps, whole_s)) for step in range(steps + 1)]
    assert all(math.isclose(rest or 0.0, whole_s * (1 - step / steps), abs_tol=1e-6) for step, rest in enumerate(rests))


@given(st.lists(st.integers(1, 20), max_size=6), st.integers(0, 20), st.integers(1, 4))
def test_lanes_that_tell_their_lag_are_counted_to_the_job(others: list[int], ahead: int, slots: int) -> None:
    lanes: dict[tuple[JobClass, str], list[float]] = {
        ("standard", f"t{number}"): [1.0] * jobs for number, jobs in enumerate(others)
    }
    told = tuple(
        Lane(job_class=job_class, tenant=tenant, jobs=len(jobs), work=float(len(jobs)), running=0, lag=0.0)
        for (job_class, tenant), jobs in lanes.items()
    )
    load = PoolLoad(slots=slots, busy=0, pace=Pace(unit_s=1.0), weights=DEFAULT_WEIGHTS, lanes=told)
    real_s = take_in_turn({**lanes, ("standard", "mine"): [1.0] * (ahead + 1)}, load)
    assert abs(start_of(load, at(ahead, float(ahead))) - real_s) <= 1.0
    wait = expect_wait(load, at(ahead, float(ahead)))
    assert wait is not None
    assert wait.jobs_ahead == ahead + sum(min(jobs, ahead + 1) for jobs in others)
