"""Which models stay: by what they cost to have back; nobody waits for ever, nothing is switched needlessly."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from halfdrop.hub.engine.keeping import Choice, GreedyDual, Held, Wanted, choose_models, least_worth


def wanted(digest: str, size: int, *, rank: int = 1, since: int = 1, waited_s: float = 0.0) -> Wanted:
    return Wanted(digest=digest, size_bytes=size, rank=rank, since=since, waited_s=waited_s)


def held(digest: str, size: int, priority: float = 1.0, *, begun: int = 0, waiting: int = 0) -> Held:
    return Held(digest=digest, size_bytes=size, priority=priority, begun=begun, waiting=waiting)


def test_what_fits_is_loaded_and_nobody_goes_for_it() -> None:
    assert choose_models([wanted("a", 4)], [held("b", 5)], 10) == Choice(load="a", reason="fits")
    assert choose_models([], [held("b", 5)], 10) == Choice()


def test_idle_models_go_those_worth_least_first() -> None:
    models = [held("dear", 4, 9.0), held("cheap", 4, 1.0), held("used", 2, 0.1, begun=1)]
    choice = choose_models([wanted("a", 4)], models, 10)
    assert choice == Choice(load="a", evict=("cheap",), reason="idle made room")


def test_a_model_that_others_want_goes_only_for_one_that_ran_out_of_patience() -> None:
    models = [held("wanted", 6, waiting=3), held("working", 4, begun=1)]
    early = choose_models([wanted("a", 6)], models, 10, patience_s=30)
    assert early == Choice(reason="busy")
    late = choose_models([wanted("a", 6, waited_s=30)], models, 10, patience_s=30)
    assert late == Choice(load="a", evict=("wanted",), reason="waited")
    large = choose_models([wanted("a", 9, waited_s=31)], models, 10, patience_s=30)
    assert large == Choice(drain=frozenset({"wanted", "working"}), reason="draining")
    ended = choose_models([wanted("a", 9, waited_s=32)], [held("wanted", 6, waiting=3)], 10, patience_s=30)
    assert ended.load == "a"


def test_while_the_first_waits_for_room_what_fits_is_loaded() -> None:
    models = [held("working", 8, begun=2)]
    first, small = wanted("first", 6, rank=0), wanted("small", 2, rank=2)
    assert choose_models([first, small], models, 10).load == "small"
    late = wanted("first", 6, rank=0, waited_s=99)
    assert choose_models([late, small], models, 10).load is None  # it would take the room that is being made


def test_real_time_comes_before_bulk_and_the_longest_wait_before_both() -> None:
    ours = [wanted("bulk", 5, rank=2, since=1), wanted("now", 5, rank=0, since=9)]
    assert choose_models(ours, [], 5).load == "now"
    ours = [wanted("bulk", 5, rank=2, since=1, waited_s=60), wanted("now", 5, rank=0, since=9)]
    assert choose_models(ours, [], 5).load == "bulk"


def test_out_of_memory_lets_go_of_whatever_nobody_holds() -> None:
    assert least_worth([held("b", 1, 2.0), held("a", 1, 1.0), held("c", 1, 0.5, begun=1)]) == ("a", "b")


models = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(0, 2), st.floats(0, 9)), max_size=6).map(
    lambda found: [held(f"h{n}", s, p, begun=b, waiting=w) for n, (s, b, w, p) in enumerate(found)]
)
queue = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2), st.floats(0, 60)), max_size=5).map(
    lambda found: [wanted(f"w{n}", s, rank=r, since=n, waited_s=w) for n, (s, r, w) in enumerate(found)]
)


@given(wants=queue, models=models, budget=st.integers(12, 40))
def test_a_choice_keeps_within_the_budget_and_takes_nothing_that_is_held(
    wants: list[Wanted], models: list[Held], budget: int
) -> None:
    choice = choose_models(wants, models, budget)
    by_digest = {model.digest: model for model in models}
    assert all(by_digest[digest].begun == 0 for digest in choice.evict)
    if choice.load is None:
        assert not choice.evict
        return
    left = sum(model.size_bytes for model in models if model.digest not in choice.evict)
    size = next(each.size_bytes for each in wants if each.digest == choice.load)
    assert left + size <= budget
    late = [each for each in wants if each.waited_s >= 30]
    if late and choice.reason in ("waited", "idle made room"):
        assert choice.load == max(late, key=lambda each: (each.waited_s, -each.rank, -each.since)).digest
    if not choice.drain and wants:
        idle = sum(m.size_bytes for m in models if not m.begun)
        if sum(m.size_bytes for m in models) - idle + max(each.size_bytes for each in wants) <= budget and late:
            assert choice.load  # whoever is late never waits beside models that stand still


def load_seconds(requests: list[str], costs: dict[str, tuple[float, int]], budget: int, *, is_lru: bool) -> float:
    """Replay requests, one after the other, over a cache of models; return the seconds spent on loading."""
    dual, held_bytes, spent_s, recent = GreedyDual(), {}, 0.0, Counter[str]()
    for now, digest in enumerate(requests):
        dual.used(digest)
        recent[digest] = now
        if digest in held_bytes:
            continue
        cost_s, size = costs[digest]
        spent_s += cost_s
        while sum(held_bytes.values()) + size > budget:
            victim = min(held_bytes, key=recent.__getitem__ if is_lru else dual.priority)
            del held_bytes[victim]
            dual.evicted(victim)
        held_bytes[digest] = size
        dual.loaded(digest, cost_s=cost_s, size_bytes=size)
    return spent_s


def test_worth_by_cost_and_popularity_loads_less_than_the_most_recent_ones() -> None:
    """Production's shape: few models have most of the requests, and large ones take about 23 s to load."""
    chance = random.Random(5)
    names = [f"m{n}" for n in range(40)]
    costs = {name: (chance.lognormvariate(3.1, 0.4), chance.choice((4, 7, 13))) for name in names}
    weights = [1 / (place + 1) for place in range(len(names))]
    requests = chance.choices(names, weights, k=4_000)
    ours = load_seconds(requests, costs, 60, is_lru=False)
    assert ours < 0.9 * load_seconds(requests, costs, 60, is_lru=True)


def test_what_was_popular_long_ago_ages() -> None:
    costs = dict.fromkeys("abcd", (10.0, 5))
    requests = ["a", "b"] * 50 + ["c", "d"] * 150
    spent = load_seconds(requests, costs, 10, is_lru=False)
    assert spent < 10 * 140  # a and b gave way after about as many uses as they had had
