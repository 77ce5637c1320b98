"""What an edge says of an order's place and time, from pools that it hears and orders that it saw."""

import itertools
from typing import Any

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import JobClass, JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.pools import STATE_KEPT_S, Lane, Pace, WorkerState, encode_state
from halfdrop.edge.estimates import Estimates
from halfdrop.edge.pools import STATE_MAX_BYTES, WORKERS_MAX, Pools

SPEC = PatternSpec(prompt="red dots", model_digest="d" * 64)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def order(
    number: int, *, state: JobState = JobState.QUEUED, job_class: JobClass = "standard", **members: Any
) -> JobStatus:
    return JobStatus(
        id=f"{number:026}", origin="test", state=state, job_class=job_class, spec=SPEC, size_px=1024,
        pattern_key="ab" * 16, created_at=1_000.0, **{"work": 1.0, **members},
    )  # fmt: skip


def worker(**members: Any) -> WorkerState:
    return WorkerState(**{"region": "local", "worker": "w1", "at": 1.0, "units_per_s": 1.0, "busy": 1, **members})


def heard(*states: WorkerState, clock: Clock | None = None) -> Pools:
    pools = Pools(clock or Clock())
    for state in states:
        pools.take(encode_state(state))
    return pools


def test_a_worker_that_is_not_heard_is_gone() -> None:
    clock = Clock()
    pools = heard(worker(), clock=clock)
    clock.now += STATE_KEPT_S
    assert pools.regions() == ["local"]
    clock.now += 0.1
    assert pools.regions() == []


def test_garbage_is_ignored_and_the_number_of_workers_is_bounded() -> None:
    pools = heard(worker())
    for data in (b"", b"\xff\x00", b'{"type":"worker.v1"}', b"[" * 10_000, b" " * (STATE_MAX_BYTES + 1)):
        pools.take(data)
    assert pools.refused == 5
    assert len(pools.workers()) == 1
    for number in range(WORKERS_MAX + 10):
        pools.take(encode_state(worker(worker=f"many-{number}")))
    assert len(pools.workers()) == WORKERS_MAX


def test_a_regions_load_is_of_the_workers_that_take_the_class() -> None:
    bulk_only = worker(worker="w2", slots=3, busy=2, classes=("bulk",), units_per_s=4.0)
    pools = heard(bulk_only, worker(slots=1))
    everything, standard = pools.load("local"), pools.load("local", "standard")
    assert (everything.slots, everything.busy, everything.pace) == (4, 3, Pace(unit_s=(3 * 0.25 + 1 * 1.0) / 4))
    assert (standard.slots, standard.busy, standard.pace) == (1, 1, Pace(unit_s=1.0))


def test_the_rests_of_running_jobs_grow_shorter_while_nothing_is_heard() -> None:
    clock = Clock()
    pools = heard(worker(slots=2, busy=2, rests_s=(0.5, 4.0), pace=Pace(job_s=2.0, unit_s=3.0)), clock=clock)
    clock.now += 1.5
    load = pools.load("local")
    assert (load.rests_s, load.pace) == ((0.0, 2.5), Pace(job_s=2.0, unit_s=3.0))


def test_an_order_waits_for_the_slot_that_falls_free_first_when_its_turn_comes() -> None:
    lanes = (Lane(job_class="standard", tenant="local", jobs=4, work=4.0, running=2, lag=0.0),)
    told = worker(slots=2, busy=2, lanes=lanes, rests_s=(1.0, 6.0), pace=Pace(job_s=2.0, unit_s=1.0))
    estimates = Estimates(heard(told), home="local")
    for number in range(2):
        estimates.note(order(number))
    # The first takes the slot that falls free after 1 s, and the second that slot again: three seconds later.
    assert [estimates.estimate(order(number)).starts_in_s for number in range(2)] == pytest.approx([1.0, 4.0])


def test_newcomers_make_those_wait_longer_who_wait_behind_their_own() -> None:
    def starts(newcomers: float) -> list[float | None]:
        lanes = (Lane(job_class="standard", tenant="local", jobs=4, work=4.0, running=2, lag=0.0),)
        told = worker(slots=2, busy=2, lanes=lanes, rests_s=(1.0, 6.0), newcomers=newcomers)
        estimates = Estimates(heard(told), home="local", unfinished=[order(number) for number in range(2)])
        return [estimates.estimate(order(number)).starts_in_s for number in range(2)]

    assert starts(0.0) == pytest.approx([1.0, 2.0])
    assert starts(1.0) == pytest.approx([1.0, 3.0])  # half of the slots
    assert starts(1e9) == pytest.approx([1.0, 6.0])  # bounded, and by then the other slot is free


def test_an_order_waits_for_those_before_it_in_its_lane_and_for_the_others_shares() -> None:
    lanes = (
        Lane(job_class="standard", tenant="local", jobs=3, work=3.0),
        Lane(job_class="standard", tenant="other", jobs=4, work=4.0),
    )
    estimates = Estimates(heard(worker(lanes=lanes)), home="local")
    for number in range(3):
        estimates.note(order(number))
    places = [estimates.estimate(order(number)) for number in range(3)]
    # One of the seven runs, half of each tenant's, they guess; the next slot is free in half a second.
    waits = [each.starts_in_s for each in places]
    assert waits == pytest.approx([0.5, 3.0, 5.0])
    assert [each.queue_position for each in places] == [0, 2, 4]
    assert [each.ends_in_s for each in places] == pytest.approx([1.5, 4.0, 6.0])
    assert [each.why for each in places] == ["next", "behind 2 orders", "behind 4 orders"]


def test_an_order_that_starts_or_is_canceled_moves_the_others_up() -> None:
    estimates = Estimates(heard(), home="local", unfinished=[order(number) for number in range(4)])
    assert estimates.estimate(order(3)).queue_position == 3
    estimates.note(order(0, state=JobState.PROCESSING, attempt=1, started_at=1_000.0))
    estimates.note(order(1, state=JobState.CANCELED))
    found = estimates.estimate(order(3))
    assert (found.queue_position, found.starts_in_s, found.why) == (1, None, "no pool is heard")


def test_each_order_waits_for_the_work_of_all_before_it_wherever_it_stands() -> None:
    orders = [order(number, work=float(number)) for number in range(1, 10)]
    told = worker(lanes=(Lane(job_class="standard", tenant="local", jobs=9, work=41.0),))
    estimates = Estimates(heard(told), home="local", unfinished=orders)
    estimates.note(order(5, work=5.0, state=JobState.CANCELED))  # in the middle
    starts = [estimates.estimate(each).starts_in_s for each in orders if each.work != 5.0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]  # type: ignore[operator]
    assert gaps == pytest.approx([1, 2, 3, 4, 6, 7, 8])


def test_busy_slots_are_taken_from_the_lanes_that_say_so() -> None:
    lanes = (
        Lane(job_class="standard", tenant="local", jobs=6, work=6.0, running=0),
        Lane(job_class="standard", tenant="other", jobs=4, work=4.0, running=4),
    )
    estimates = Estimates(heard(worker(slots=4, busy=4, lanes=lanes)), home="local", unfinished=[order(1)])
    assert estimates.estimate(order(1)).queue_position == 5  # all of its lane but itself: none of them runs


def test_why_there_is_no_estimate_is_said() -> None:
    def why(pools: Pools, **options: Any) -> str:
        return Estimates(pools, home="local").estimate(order(1), **options).why

    assert why(heard(), hub_away=True) == "the hub is away"
    assert why(heard(worker(classes=("bulk",)))) == "no worker of region local takes standard orders"
    assert why(heard(worker(units_per_s=0.0))) == "region local has not measured its rate yet"
    assert why(heard(worker(is_draining=True))) == "region local is draining; orders that it has are finished"


def test_orders_that_no_hub_has_yet_are_expected_at_home_unless_it_drains() -> None:
    def region(*states: WorkerState) -> str | None:
        return Estimates(heard(*states), home="eu").estimate(order(1)).region

    assert region(worker(region="eu"), worker(region="us")) == "eu"
    assert region(worker(region="eu", is_draining=True), worker(region="us")) == "us"
    assert region(worker(region="us")) == "us"
    assert Estimates(heard(worker(region="us")), home="eu").estimate(order(1, region="us")).region == "us"


def test_waits_that_are_always_twice_as_long_are_predicted_so_in_the_end() -> None:
    clock = Clock()
    lanes = (Lane(job_class="standard", tenant="other", jobs=9, work=9.0),)
    estimates = Estimates(heard(worker(lanes=lanes)), home="local", clock=clock)
    first = estimates.estimate(order(0)).starts_in_s
    assert first is not None
    for number in range(1, 12):
        estimates.note(order(number))
        clock.now += 2 * first
        started = order(number, state=JobState.PROCESSING, attempt=1, started_at=clock.now)
        estimates.note(started)
        estimates.note(msgspec.structs.replace(started, step=1))  # a later status of the same start teaches nothing
    assert estimates.estimate(order(99)).starts_in_s == pytest.approx(2 * first)


def test_news_of_a_start_that_come_late_teach_nothing() -> None:
    clock = Clock()
    lanes = (Lane(job_class="standard", tenant="other", jobs=9, work=9.0),)
    estimates = Estimates(heard(worker(lanes=lanes)), home="local", clock=clock)
    for number in range(20):
        estimates.note(order(number))
        clock.now += 3_600
        estimates.note(order(number, state=JobState.PROCESSING, attempt=1, started_at=clock.now - 3_500))
    assert estimates.waits.factors() == {}


def test_the_length_of_jobs_is_learnt_and_counts_in_the_time_to_the_end() -> None:
    clock = Clock()
    estimates = Estimates(heard(worker(busy=0)), home="local", clock=clock)
    for number in range(10):
        estimates.note(order(number))
        started = order(number, state=JobState.PROCESSING, attempt=1, started_at=clock.now)
        estimates.note(started)
        clock.now += 3.0
        estimates.note(msgspec.structs.replace(started, state=JobState.COMPLETED, completed_at=clock.now))
    assert estimates.estimate(order(99)).ends_in_s == pytest.approx(3.0)
    running = order(100, state=JobState.PROCESSING, attempt=1, started_at=clock.now - 1.0, steps=4)
    assert estimates.estimate(running).ends_in_s == pytest.approx(2.0)


def test_what_no_pool_can_do_is_refused_with_what_is_allowed() -> None:
    pools = heard(worker(size_max_px=4096, models=("abc",)), worker(worker="w2", size_max_px=8192))
    pools.check_runnable(size_px=8192, model_digest="new", has_plates=True)
    with pytest.raises(InvalidInput, match=r"input\.size_px: got '8193'; allowed: up to 8192 px"):
        pools.check_runnable(size_px=8193, model_digest="abc", has_plates=True)
    pools.check_runnable(size_px=64, model_digest="abc", has_plates=False)
    with pytest.raises(InvalidInput, match=r"input\.model: got 'new'; allowed: a model that a pool has now: abc"):
        pools.check_runnable(size_px=64, model_digest="new", has_plates=False)


def test_with_no_pool_heard_or_one_that_does_not_say_its_size_orders_are_taken() -> None:
    heard().check_runnable(size_px=10**6, model_digest="x", has_plates=False)
    heard(worker(size_max_px=0)).check_runnable(size_px=10**6, model_digest="x", has_plates=True)
