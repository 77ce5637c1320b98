"""The order of takings holds its promises for any arrivals, sizes and weights."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import DEFAULT_WEIGHTS
from halfdrop.hub.fair_order import AGED_EVERY, FairOrder, LaneName

CLASSES: tuple[JobClass, ...] = ("realtime", "standard", "bulk")
LANES = [LaneName(name, tenant) for name in CLASSES for tenant in ("ann", "bob", "cid")]

lanes = st.sampled_from(LANES)
works = st.floats(0.05, 64)
weights = st.fixed_dictionaries({name: st.floats(0.1, 100) for name in CLASSES})
arrivals = st.tuples(st.just("job"), lanes, works)
takings = st.tuples(st.just("take"), st.none(), st.none())
histories = st.lists(arrivals | takings, max_size=200)


class Pool:
    """Queues of jobs and an order over them, as a worker keeps both."""

    def __init__(self, shares: dict[JobClass, float], *, age_s: float = 1e9) -> None:
        self.order = FairOrder(shares, age_s=age_s)
        self.jobs: defaultdict[LaneName, deque[float]] = defaultdict(deque)
        self.now = 0.0

    def arrive(self, lane: LaneName, work: float) -> None:
        self.jobs[lane].append(work)
        self.order.set_ready(lane, self.now)

    def take(self, classes: tuple[JobClass, ...] = CLASSES) -> tuple[LaneName, float] | None:
        self.now += 1
        choice = self.order.choose(classes, self.now)
        if choice is None:
            return None
        work = self.jobs[choice.lane].popleft()
        self.order.take(choice.lane, work, self.now)
        if not self.jobs[choice.lane]:
            self.order.set_idle(choice.lane)
        return choice.lane, work

    def busy(self) -> set[LaneName]:
        return {lane for lane, jobs in self.jobs.items() if jobs}


@given(weights, histories, st.sets(st.sampled_from(CLASSES), min_size=1))
def test_there_is_a_next_job_exactly_while_there_is_a_job(
    shares: dict[JobClass, float], history: list[tuple[str, LaneName, float]], allowed: set[JobClass]
) -> None:
    pool = Pool(shares)
    classes = tuple(allowed)
    for what, lane, work in history:
        if what == "job":
            pool.arrive(lane, work)
            continue
        can = any(busy.job_class in allowed for busy in pool.busy())
        taken = pool.take(classes)
        assert (taken is not None) == can
        assert taken is None or taken[0].job_class in allowed


@given(weights, histories)
def test_two_classes_with_jobs_never_drift_apart_by_more_than_a_job_each(
    shares: dict[JobClass, float], history: list[tuple[str, LaneName, float]]
) -> None:
    _check_drift(
        Pool(shares),
        history,
        share=lambda lane: lane.job_class,
        weight=lambda name: shares[name],
        rivals=[(a, b) for a in CLASSES for b in CLASSES if a < b],
    )


@given(weights, histories)
def test_two_tenants_of_a_class_never_drift_apart_by_more_than_a_job_each(
    shares: dict[JobClass, float], history: list[tuple[str, LaneName, float]]
) -> None:
    rivals = [(a, b) for a in LANES for b in LANES if a.job_class == b.job_class and a.tenant < b.tenant]
    _check_drift(Pool(shares), history, share=lambda lane: lane, weight=lambda _: 1.0, rivals=rivals)


def _check_drift(
    pool: Pool,
    history: list[tuple[str, LaneName, float]],
    *,
    share: Callable[[LaneName], Hashable],
    weight: Callable[[Any], float],
    rivals: Sequence[tuple[Hashable, Hashable]],
) -> None:
    """From the moment at which both rivals have jobs to the one at which either has none, their work by weight stays
    together within one largest job of each."""
    largest = max((work for what, _, work in history if what == "job"), default=0)
    used: defaultdict[Hashable, float] = defaultdict(float)
    since: dict[tuple[Hashable, Hashable], float] = {}
    for what, lane, work in history:
        if what == "job":
            pool.arrive(lane, work)
        elif (taken := pool.take()) is not None:
            used[share(taken[0])] += taken[1] / weight(share(taken[0]))
        busy = {share(lane) for lane in pool.busy()}
        for pair in rivals:
            if not busy.issuperset(pair):
                since.pop(pair, None)
                continue
            ahead = used[pair[0]] - used[pair[1]]
            bound = largest / weight(pair[0]) + largest / weight(pair[1])
            assert abs(ahead - since.setdefault(pair, ahead)) <= bound * (1 + 1e-6)


@given(st.lists(works, min_size=1, max_size=40), st.floats(0.001, 1000))
def test_a_lane_that_was_idle_collects_no_credit(sizes: list[float], weight: float) -> None:
    pool = Pool({"realtime": weight, "standard": weight, "bulk": weight})
    busy, idle = LaneName("bulk", "ann"), LaneName("bulk", "bob")
    for work in sizes:
        pool.arrive(busy, work)
        pool.take()
    largest = max(sizes)
    for _ in range(20):
        pool.arrive(busy, largest)
        pool.arrive(idle, largest)
    served = [taken[0] for taken in (pool.take() for _ in range(12)) if taken is not None]
    assert 5 <= served.count(idle) <= 7


@given(st.dictionaries(st.sampled_from(CLASSES), st.floats(1e-3, 1e3), min_size=3), st.lists(works, min_size=9))
def test_no_lane_starves_whatever_its_weight(shares: dict[JobClass, float], sizes: list[float]) -> None:
    age_s = 20.0
    pool = Pool(shares, age_s=age_s)
    last: dict[LaneName, float] = dict.fromkeys(LANES, 0.0)
    bound = age_s + AGED_EVERY * len(LANES) + 1
    for number in range(400):
        for lane, work in zip(LANES, sizes, strict=False):
            while len(pool.jobs[lane]) < 2:
                pool.arrive(lane, work)
        taken = pool.take()
        assert taken is not None
        last[taken[0]] = pool.now
        assert number < bound or min(last.values()) >= pool.now - bound


def test_ageing_takes_an_eighth_of_the_pool_at_most() -> None:
    pool = Pool({"realtime": 1000.0, "standard": 1000.0, "bulk": 0.001}, age_s=0.5)
    for tenant in range(50):
        for _ in range(20):
            pool.arrive(LaneName("bulk", f"t{tenant}"), 1.0)
    for _ in range(1000):
        pool.arrive(LaneName("realtime", "ann"), 1.0)
    served = [taken[0].job_class for taken in (pool.take() for _ in range(800)) if taken is not None]
    assert served.count("bulk") == 101  # one by its share


def test_shares_follow_the_weights_and_change_with_them() -> None:
    pool = Pool(dict(DEFAULT_WEIGHTS))
    for lane in LANES:
        for number in range(500):
            pool.arrive(lane, 1.0 + number % 3)
    done: defaultdict[str, float] = defaultdict(float)
    for _ in range(600):
        lane, work = pool.take() or (LANES[0], 0.0)
        done[lane.job_class] += work
    assert [round(done[name] / sum(done.values()) * 12) for name in CLASSES] == [8, 3, 1]
    pool.order.set_weights({"realtime": 1.0, "standard": 1.0, "bulk": 1.0})
    done.clear()
    for _ in range(300):
        lane, work = pool.take() or (LANES[0], 0.0)
        done[lane.job_class] += work
    assert [round(done[name] / sum(done.values()) * 12) for name in CLASSES] == [4, 4, 4]


@given(weights, st.lists(st.tuples(lanes, works), min_size=1, max_size=60))
def test_what_is_given_back_costs_nothing(shares: dict[JobClass, float], jobs: list[tuple[LaneName, float]]) -> None:
    """A lane whose jobs are all given back is served as if it had none of them: it is next at once again."""
    pool = Pool(shares)
    rival, lane = LaneName("standard", "rival"), LaneName("standard", "canceled")
    for other, work in jobs:
        pool.arrive(other, work)
    for _ in range(5):
        pool.arrive(lane, 50.0)
        pool.arrive(rival, 0.05)
    while (taken := pool.take(("standard",))) is not None and taken[0] != lane:
        pass
    assert taken is not None
    pool.order.give_back(*taken)
    standard = [busy for busy in pool.busy() if busy.job_class == "standard"]
    next_ones = {(pool.take(("standard",)) or taken)[0] for _ in range(len(standard))}
    assert lane in next_ones
