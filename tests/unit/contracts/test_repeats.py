from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.repeats import DROP_DENOMINATOR_MAX, UNITS_MAX, Repeat

drops = st.tuples(st.integers(0, 7), st.integers(1, DROP_DENOMINATOR_MAX)).filter(lambda p: p[0] < p[1])
repeats = st.one_of(
    st.builds(
        Repeat, layout=st.sampled_from(["straight", "half-drop", "brick", "mirror"]), units=st.integers(1, UNITS_MAX)
    ),
    st.builds(
        lambda drop, axis, units: Repeat(layout="drop", drop=f"{drop[0]}/{drop[1]}", axis=axis, units=units),
        drops,
        st.sampled_from(["columns", "rows"]),
        st.integers(1, UNITS_MAX),
    ),
)


@given(repeats)
def test_a_normal_form_is_its_own_normal_form(repeat: Repeat) -> None:
    normal = repeat.normalise()
    assert normal.normalise() == normal
    assert (normal.shift, normal.shifted_axis if normal.shift else "") == (
        repeat.shift,
        repeat.shifted_axis if repeat.shift else "",
    )


@given(repeats)
def test_the_shifts_close_within_the_tile(repeat: Repeat) -> None:
    normal = repeat.normalise()
    assert (normal.units * normal.shift).denominator == 1
    assert 1 <= normal.units <= UNITS_MAX
    assert normal.layout != "mirror" or normal.units % 2 == 0


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (Repeat(layout="drop", drop="1/2"), Repeat(layout="half-drop", drop="1/2")),
        (Repeat(layout="drop", drop="2/4", axis="rows"), Repeat(layout="brick", drop="1/2", axis="rows")),
        (Repeat(layout="drop", drop="0"), Repeat()),
        (Repeat(layout="half-drop", units=3), Repeat(layout="half-drop", drop="1/2", units=4)),
        (Repeat(layout="drop", drop="2/6", units=4), Repeat(layout="drop", drop="1/3", units=6)),
        (
            Repeat(layout="drop", drop="3/7", units=16),
            Repeat(layout="drop", drop="3/7", units=14),
        ),
        (Repeat(axis="rows"), Repeat()),
    ],
)
def test_names_of_one_lattice_share_one_normal_form(written: Repeat, normal: Repeat) -> None:
    assert written.normalise() == normal


@pytest.mark.parametrize("drop", ["", "1", "-1/3", "1/9", "a third", "1/0", "0.123456", "1" * 40])
def test_a_drop_that_cannot_be_laid_is_refused_by_name(drop: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Repeat(layout="drop", drop=drop).normalise()
    assert caught.value.field == "repeat.drop"


@pytest.mark.parametrize("units", [0, -1, UNITS_MAX + 1, 10**9])
def test_units_outside_the_limits_are_refused_by_name(units: int) -> None:
    with pytest.raises(InvalidInput, match=r"repeat\.units: got '-?\d+'; allowed: a whole number from 1 to 16"):
        Repeat(units=units).normalise()


def test_a_drop_that_contradicts_its_layout_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"repeat\.drop"):
        Repeat(layout="brick", drop="1/3").normalise()
    assert Repeat(layout="brick", drop="1/2").normalise().shift == Fraction(1, 2)
