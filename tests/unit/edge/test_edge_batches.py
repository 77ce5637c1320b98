"""Batches without servers: lines split and checked, ids, windows, rates, states."""

import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.jobs import JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.edge.batch_book import Batch
from halfdrop.edge.batch_intake import split_lines
from halfdrop.edge.batch_lines import LINE_MAX_BYTES
from halfdrop.edge.batch_state import (
    WINDOW_MIN,
    BatchState,
    LineCode,
    count_lines,
    decode_batch,
    encode_batch,
    next_window,
    rate_per_s,
)
from halfdrop.edge.names import BATCH_LINES_MAX, batch_order_id, is_order_id, line_of, new_batch_id
from halfdrop.edge.requests import BodyTooLarge

WINDOW_MAX = 256


async def chunks_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    size=st.integers(1, 50),
)
async def test_lines_are_the_same_however_they_arrive(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    seen = bytearray()
    split = [line async for line in split_lines(chunks_of(data, size), seen.extend, 10_000)]
    assert bytes(seen) == data
    expected: list[bytes] = data.split(b"\n")
    assert split == (expected if expected[-1] else expected[:-1])


async def test_a_line_that_is_too_long_loses_its_own_place_only() -> None:
    data = b"a\n" + b"x" * (3 * LINE_MAX_BYTES) + b"\nb\n" + b"y" * (LINE_MAX_BYTES + 1)
    for size in (100, 10_000, len(data)):
        found = [line async for line in split_lines(chunks_of(data, size), lambda _: None, len(data))]
        assert found == [b"a", None, b"b", None]
    with pytest.raises(BodyTooLarge):
        [line async for line in split_lines(chunks_of(data, 1_000), lambda _: None, len(data) - 1)]


@given(line=st.integers(1, BATCH_LINES_MAX))
def test_the_id_of_a_lines_order_says_the_line(line: int) -> None:
    batch_id = new_batch_id()
    order_id = batch_order_id(batch_id, line)
    assert is_order_id(order_id)
    assert order_id.startswith(batch_id)
    assert line_of(order_id) == line


@given(first=st.integers(1, BATCH_LINES_MAX), second=st.integers(1, BATCH_LINES_MAX))
def test_orders_of_a_batch_sort_by_line(first: int, second: int) -> None:
    batch_id = new_batch_id()
    assert (batch_order_id(batch_id, first) < batch_order_id(batch_id, second)) == (first < second)


@given(
    waits=st.lists(st.floats(0, 100), max_size=400),
    unfinished=st.integers(0, 300),
)
def test_a_window_stays_in_its_bounds(waits: list[float], unfinished: int) -> None:
    window: float = WINDOW_MIN
    for waited_s in waits:
        window = next_window(window, waited_s, unfinished=unfinished, window_max=WINDOW_MAX)
        assert WINDOW_MIN <= window <= WINDOW_MAX


def test_a_window_grows_while_workers_are_idle_and_it_is_used_and_shrinks_while_orders_wait() -> None:
    window: float = WINDOW_MIN
    for _ in range(1_000):
        window = next_window(window, 0.1, unfinished=int(window), window_max=WINDOW_MAX)
    assert window == WINDOW_MAX
    assert next_window(16, 0.1, unfinished=2, window_max=WINDOW_MAX) == 16
    assert next_window(16, 2.0, unfinished=16, window_max=WINDOW_MAX) == 16
    for _ in range(100):
        window = next_window(window, 10.0, unfinished=int(window), window_max=WINDOW_MAX)
    assert window == WINDOW_MIN


def test_a_rate_falls_while_nothing_ends() -> None:
    assert rate_per_s([1.0], 2.0) is None
    assert rate_per_s([1.0, 2.0, 3.0], 3.0) == 1.0
    assert rate_per_s([1.0, 2.0, 3.0], 5.0) == 0.5


def test_counts_add_up_and_what_was_never_placed_is_canceled_in_the_end() -> None:
    states = b"..xwwqpcfk"
    counts = count_lines(states, is_over=False)
    assert counts.total == 8
    assert (counts.waiting, counts.canceled) == (2, 1)
    assert counts.refused + counts.waiting + counts.queued + counts.processing + counts.final == counts.total
    over = count_lines(states, is_over=True)
    assert (over.waiting, over.canceled) == (0, 3)


def make_batch(states: bytes) -> Batch:
    state = BatchState(id=new_batch_id(), tenant="acme", created_at=1.0, states=states, input_bytes=100)
    return Batch(decode_batch(encode_batch(state)))


def status_of(batch: Batch, line: int, state: JobState) -> JobStatus:
    spec = PatternSpec(prompt="dots", model_digest="0" * 64)
    return JobStatus(
        id=batch_order_id(batch.state.id, line), tenant="acme", origin="test", state=state, spec=spec, size_px=64,
        pattern_key="0" * 32, created_at=1.0, started_at=2.0 if state is not JobState.QUEUED else None,
    )  # fmt: skip


def test_a_batch_follows_the_news_of_its_orders() -> None:
    batch = make_batch(b"xww")
    batch.placed_s[2] = time.monotonic()
    batch.note(status_of(batch, 2, JobState.QUEUED), WINDOW_MAX)
    assert (bytes(batch.states), batch.unfinished, batch.state.started_at) == (b"xqw", {2}, None)
    batch.note(status_of(batch, 2, JobState.PROCESSING), WINDOW_MAX)
    assert (bytes(batch.states), batch.unfinished, batch.state.started_at) == (b"xpw", {2}, 2.0)
    batch.note(status_of(batch, 2, JobState.COMPLETED), WINDOW_MAX)
    assert (bytes(batch.states), batch.unfinished) == (b"xcw", set())
    ends = len(batch.ends)
    batch.note(status_of(batch, 2, JobState.COMPLETED), WINDOW_MAX)
    assert len(batch.ends) == ends, "the same news twice counted twice"
    batch.note(status_of(batch, 9, JobState.COMPLETED), WINDOW_MAX)
    assert bytes(batch.states) == b"xcw"


def test_a_restart_knows_which_lines_were_unfinished() -> None:
    assert make_batch(b"xwqpcfk").unfinished == {3, 4}
    assert ord("q") == LineCode.QUEUED
