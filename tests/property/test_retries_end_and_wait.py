"""Whatever happens to a job's deliveries: it ends, its waits are bounded, and its account never shrinks."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.tries import NO_TRIES, Tries
from halfdrop.hub.retries import (
    COSTS,
    HANDED_BACK_FREE_MAX,
    RETRY_AFTER_MAX_S,
    SILENT_COST,
    WAIT_MAX_S,
    Failure,
    charge,
    hand_back,
    spent_before,
    wait_bound_s,
    wait_s,
)

failures = st.sampled_from(Failure)
HANDED_BACK, SILENT = "handed back", "silent"
endings = st.lists(st.sampled_from([*Failure, HANDED_BACK, SILENT]), max_size=60)


def live(endings: list[Failure | str]) -> tuple[Tries, int]:
    """Return the account after deliveries with these endings, and the number of the next delivery."""
    tries = NO_TRIES
    for attempt, ending in enumerate(endings, 1):
        if isinstance(ending, Failure):
            tries = charge(tries, attempt, ending)
        elif ending == HANDED_BACK:
            tries = hand_back(tries, attempt)
    return tries, len(endings) + 1


@given(endings)
def test_a_job_has_spent_exactly_what_its_deliveries_cost_in_whatever_order(endings: list[Failure | str]) -> None:
    tries, attempt = live(endings)
    costs = {**COSTS, HANDED_BACK: 0.0, SILENT: SILENT_COST}
    assert spent_before(tries, attempt) == sum(costs[ending] for ending in endings)


@given(endings, failures)
def test_nothing_makes_an_account_smaller(endings: list[Failure | str], failure: Failure) -> None:
    tries, attempt = live(endings)
    before = spent_before(tries, attempt)
    assert charge(tries, attempt, failure).spent >= before
    assert hand_back(tries, attempt).spent >= before
    assert spent_before(tries, attempt + 1) > before


def test_even_hand_backs_come_to_an_end() -> None:
    tries, attempt = live([HANDED_BACK] * (HANDED_BACK_FREE_MAX + 7))
    assert spent_before(tries, attempt) == 7


@given(st.integers(0, 10), failures)
def test_a_delivery_number_that_starts_anew_gives_nothing_back(through: int, failure: Failure) -> None:
    """A consumer that was made anew counts from 1 again."""
    tries = Tries(through=through + 5, spent=3.0, handed_back=1)
    assert charge(tries, 1, failure) == Tries(through=through + 5, spent=3.0 + COSTS[failure], handed_back=1)


@given(failures, st.integers(0, 10_000), st.floats(-5, 1e9), st.integers())
def test_a_wait_is_at_least_what_was_asked_for_and_never_without_end(
    failure: Failure, count: int, asked_s: float, seed: int
) -> None:
    waited_s = wait_s(failure, failures=count, retry_after_s=asked_s, random=Random(seed))
    kept_s = min(max(asked_s, 0), RETRY_AFTER_MAX_S)
    assert kept_s <= waited_s <= kept_s + wait_bound_s(failure, count) <= kept_s + WAIT_MAX_S
    assert waited_s == wait_s(failure, failures=count, retry_after_s=asked_s, random=Random(seed))


@given(failures, st.integers(0, 30))
def test_bounds_grow_until_the_longest(failure: Failure, count: int) -> None:
    shorter, longer = wait_bound_s(failure, count), wait_bound_s(failure, count + 1)
    assert shorter < longer or shorter == longer == WAIT_MAX_S


@given(failures, st.integers(2, 6))
def test_jobs_that_failed_together_do_not_come_back_together(failure: Failure, count: int) -> None:
    random = Random(count)
    waits = [wait_s(failure, failures=count, retry_after_s=0, random=random) for _ in range(200)]
    bound_s = wait_bound_s(failure, count)
    assert min(waits) < bound_s / 10
    assert max(waits) > bound_s * 9 / 10
