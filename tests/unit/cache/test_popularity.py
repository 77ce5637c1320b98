"""Counts of what is asked for: bounded, fading, and right about what is popular."""

import random

from halfdrop.cache.popularity import Popularity


def test_what_comes_again_is_found_among_any_number_of_keys_that_come_once() -> None:
    popularity, dice = Popularity(keys_max=256), random.Random(1)
    favourites = [f"favourite {number}" for number in range(16)]
    for number in range(50_000):
        popularity.note(f"once {number}")
        if number % 4 == 0:
            popularity.note(dice.choice(favourites))
        assert len(popularity) <= 256
    assert sorted(popularity.top(16, least=1.5)) == sorted(favourites)


def test_keys_that_are_all_popular_make_room_for_new_ones() -> None:
    popularity = Popularity(keys_max=8)
    for number in range(8):
        for _ in range(1000):
            popularity.note(f"old {number}")
    popularity.note("new")
    assert len(popularity) <= 8
    assert popularity.top(8, least=1.0) == {"new": 1.0}, "equal counts fade together"


def test_counts_fade_until_they_are_forgotten() -> None:
    popularity = Popularity()
    for _ in range(8):
        popularity.note("key")
    popularity.note("once")
    popularity.fade(0.75)
    assert popularity.top(2, least=0.5) == {"key": 6.0, "once": 0.75}
    popularity.fade(0.6)
    assert popularity.top(2, least=0.0) == {"key": 3.5999999999999996}
    for _ in range(10):
        popularity.fade(0.6)
    assert len(popularity) == 0


def test_the_top_is_ordered_and_has_a_least_weight() -> None:
    popularity = Popularity()
    for times, key in ((3, "c"), (1, "a"), (2, "b")):
        for _ in range(times):
            popularity.note(key)
    assert list(popularity.top(5, least=1.5)) == ["c", "b"]
    assert list(popularity.top(1, least=0.0)) == ["c"]
