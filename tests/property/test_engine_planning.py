"""Rounds of the engine, whatever comes: nobody is starved, groups are never mixed, a batch is never too large."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from halfdrop.hub.engine.limits import Limits
from halfdrop.hub.engine.planning import Candidate, Group, Plan, Rules, Turn, delay_max, plan_round

GROUPS = [Group(model=model, shape=(4, side, side), dtype="float32") for model in "abc" for side in (8, 16)]

jobs = st.builds(
    Candidate,
    number=st.just(0),
    group=st.sampled_from(GROUPS),
    job_class=st.sampled_from(["realtime", "standard", "bulk"]),
    rows=st.integers(1, 2),
    age=st.integers(0, 200),
)
queues = st.lists(jobs, min_size=1, max_size=20).map(
    lambda found: [
        Candidate(number=number, group=each.group, job_class=each.job_class, rows=each.rows, age=each.age)
        for number, each in enumerate(found)
    ]
)
rules = st.builds(Rules, stay=st.integers(1, 6), patience=st.integers(1, 12), ageing=st.integers(1, 64))


def take_rounds(queue: Sequence[Candidate], rounds: int, rules: Rules, rows_max: int) -> list[Plan]:
    """Rounds over jobs that never end: the hardest case for whoever waits."""
    turn, plans = Turn(), []
    for past in range(rounds):
        aged = [
            Candidate(number=c.number, group=c.group, job_class=c.job_class, rows=c.rows, age=c.age + past)
            for c in queue
        ]
        plan, turn = plan_round(aged, turn, lambda _: rows_max, rules)
        assert plan is not None
        plans.append(plan)
    return plans


@given(queue=queues, rules=rules, rows_max=st.integers(1, 8))
def test_a_round_holds_jobs_of_one_group_no_more_than_fit_and_the_most_urgent_first(
    queue: list[Candidate], rules: Rules, rows_max: int
) -> None:
    by_number = {candidate.number: candidate for candidate in queue}
    for plan in take_rounds(queue, 12, rules, rows_max):
        taken = [by_number[number] for number in plan.numbers]
        assert {candidate.group for candidate in taken} == {plan.group}
        assert len(set(plan.numbers)) == len(plan.numbers) > 0
        assert plan.rows == sum(candidate.rows for candidate in taken)
        assert plan.rows <= rows_max or len(taken) == 1
        left = [c for c in queue if c.group == plan.group and c.number not in plan.numbers]
        if left:  # room was used: not even the next one would have fitted
            assert plan.rows + max(c.rows for c in left) > rows_max


@settings(max_examples=60)
@given(queue=queues, rules=rules, rows_max=st.integers(1, 8))
def test_no_group_is_passed_over_longer_than_is_promised(queue: list[Candidate], rules: Rules, rows_max: int) -> None:
    groups = {candidate.group for candidate in queue}
    bound = delay_max(len(groups), rules)
    waited = dict.fromkeys(groups, 0)
    for plan in take_rounds(queue, 3 * bound + 5, rules, rows_max):
        for group in groups:
            waited[group] = 0 if group == plan.group else waited[group] + 1
            assert waited[group] <= bound


@settings(max_examples=60)
@given(queue=queues, rules=rules, rows_max=st.integers(1, 4), steps=st.integers(1, 5), stream=st.integers(0, 3))
def test_every_job_ends_though_better_ones_keep_coming(
    queue: list[Candidate], rules: Rules, rows_max: int, steps: int, stream: int
) -> None:
    left = {candidate.number: steps for candidate in queue}
    alive = {candidate.number: (candidate, 0) for candidate in queue}
    arrivals, turn, firsts = len(queue), Turn(), set(left)
    rows_max = max(rows_max, 2 * stream + 1)  # what comes must fit, or any queue grows without end
    for now in range(4_000):
        if not firsts & alive.keys():
            return
        for _ in range(stream if now % steps == 0 else 0):
            alive[arrivals] = (Candidate(number=arrivals, group=GROUPS[0], job_class="realtime"), now)
            left[arrivals] = steps
            arrivals += 1
        waiting = [
            Candidate(number=n, group=c.group, job_class=c.job_class, rows=c.rows, age=now - came)
            for n, (c, came) in alive.items()
        ]
        plan, turn = plan_round(waiting, turn, lambda _: rows_max, rules)
        assert plan is not None
        for number in plan.numbers:
            left[number] -= 1
            if left[number] == 0:
                del alive[number]
    raise AssertionError(f"{len(firsts & alive.keys())} jobs never ended")


@given(queue=queues, rules=rules)
def test_a_real_time_job_is_in_the_next_round_unless_a_group_is_overdue(queue: list[Candidate], rules: Rules) -> None:
    fresh = [Candidate(number=c.number, group=c.group, job_class=c.job_class, rows=c.rows) for c in queue]
    _, turn = plan_round(fresh, Turn(), lambda _: 8, rules)
    newcomer = Candidate(number=99, group=GROUPS[-1], job_class="realtime")
    plan, _ = plan_round([*fresh, newcomer], turn, lambda _: 8, rules)
    assert plan is not None
    classes = {c.number: c.job_class for c in (*fresh, newcomer)}
    assert plan.reason == "overdue" or classes[plan.numbers[0]] == "realtime"


@given(capacity=st.integers(1, 64), rows_max=st.integers(1, 64))
def test_the_limit_comes_to_what_fits_with_few_failed_calls(capacity: int, rows_max: int) -> None:
    limits, failed = Limits(rows_max), 0
    for _ in range(40):
        rows = limits.allowed(GROUPS[0])
        if rows <= capacity:
            limits.fitted(GROUPS[0], rows)
        else:
            failed += 1
            limits.overflowed(GROUPS[0], rows)
    assert limits.allowed(GROUPS[0]) == min(capacity, rows_max)
    assert failed <= 7
    assert limits.allowed(GROUPS[1]) == rows_max  # another shape's
