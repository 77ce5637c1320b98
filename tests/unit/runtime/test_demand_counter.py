"""Counting demand: minutes, zeros, the last partial minute, bounds, and a clock that jumps."""

import asyncio
from collections import defaultdict

import pytest

from halfdrop.contracts.demand import SERIES_MAX, DemandReport, SeriesName, decode_report
from halfdrop.contracts.errors import Unavailable
from halfdrop.runtime import demand
from halfdrop.runtime.demand import DemandCounter

SERIES = SeriesName("eu", "standard", "house", "finish")
BLANK = {"requests": 0, "gpu_s_offered": 0.0}


class Clock:
    def __init__(self, now: float = 60_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Stream:
    """Takes reports while it is up."""

    def __init__(self) -> None:
        self.reports: list[DemandReport] = []
        self.is_up = True

    async def send(self, report: DemandReport, data: bytes) -> None:
        if not self.is_up:
            raise Unavailable("away")
        assert decode_report(data) == report
        self.reports.append(report)

    def totals(self) -> dict[int, int]:
        found: dict[int, int] = defaultdict(int)
        for report in self.reports:
            found[report.minute] += sum(row.requests or 0 for row in report.rows)
        return dict(found)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> Stream:
    return Stream()


def make(clock: Clock, **options: object) -> DemandCounter:
    return DemandCounter("edge-1", blank=BLANK, clock=clock, **options)  # type: ignore[arg-type]


def send(counter: DemandCounter, stream: Stream) -> None:
    asyncio.run(counter.send_all(stream.send))


def test_each_minute_is_told_once_and_a_series_that_is_known_is_told_with_zeros(clock: Clock, stream: Stream) -> None:
    counter = make(clock)
    counter.add(SERIES, requests=1, gpu_s_offered=2.0)
    counter.add(SERIES, requests=1, gpu_s_offered=3.0)
    for _ in range(2):
        clock.now += 60
        counter.close(is_over=False)
        counter.close(is_over=False)
    send(counter, stream)
    assert [(report.minute, report.number) for report in stream.reports] == [(1000, 1), (1001, 2)]
    assert [(row.requests, row.gpu_s_offered) for report in stream.reports for row in report.rows] == [
        (2, 5.0),
        (0, 0.0),
    ]
    assert stream.reports[0].rows[0].gpu_s_served is None, "an edge does not know what is served"


def test_the_usual_series_are_told_of_from_the_start(clock: Clock, stream: Stream) -> None:
    counter = make(clock, usual=lambda: [SERIES])
    clock.now += 60
    counter.close(is_over=False)
    send(counter, stream)
    assert stream.totals() == {1000: 0}


def test_a_minute_that_is_cut_by_a_restart_adds_up(clock: Clock, stream: Stream) -> None:
    for _ in range(2):
        counter = make(clock)
        counter.add(SERIES, requests=3)
        counter.close(is_over=True)
        send(counter, stream)
    assert stream.totals() == {1000: 6}
    assert len({report.id for report in stream.reports}) == 2


def test_reports_that_nobody_took_are_sent_in_order_once_somebody_does(clock: Clock, stream: Stream) -> None:
    counter = make(clock)
    stream.is_up = False
    for _ in range(3):
        counter.add(SERIES, requests=1)
        clock.now += 60
        counter.close(is_over=False)
        with pytest.raises(Unavailable):
            send(counter, stream)
    stream.is_up = True
    send(counter, stream)
    assert [report.number for report in stream.reports] == [1, 2, 3]
    assert counter.waiting == 0


def test_what_is_kept_is_bounded_and_the_oldest_goes(
    clock: Clock, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "KEPT_MAX_BYTES", 500)
    counter = make(clock)
    for _ in range(100):
        counter.add(SERIES, requests=1)
        clock.now += 60
        counter.close(is_over=False)
    send(counter, stream)
    assert stream.reports[-1].number == 100
    assert counter.lost + len(stream.reports) == 100
    assert 2 <= len(stream.reports) <= 10


def test_more_series_than_may_be_told_of_go_under_one_name_and_no_work_is_lost(clock: Clock, stream: Stream) -> None:
    counter = make(clock)
    for number in range(SERIES_MAX + 50):
        counter.add(SERIES._replace(model=f"m{number}"), requests=1)
    counter.close(is_over=True)
    send(counter, stream)
    rows = stream.reports[0].rows
    assert len(rows) == SERIES_MAX + 1
    assert {row.model: row.requests for row in rows}["other"] == 50


def test_a_series_without_news_for_long_is_no_longer_told_of(clock: Clock, stream: Stream) -> None:
    counter = make(clock)
    counter.add(SERIES, requests=1)
    clock.now += 60 * (demand.KNOWN_MINUTES + 1)
    counter.close(is_over=False)
    assert counter.known() == [SERIES]
    clock.now += 60
    counter.close(is_over=False)
    assert counter.known() == []


def test_a_clock_that_jumps_back_loses_nothing(clock: Clock, stream: Stream) -> None:
    counter = make(clock)
    counter.add(SERIES, requests=1)
    clock.now -= 600
    counter.add(SERIES, requests=5)
    clock.now += 600
    counter.add(SERIES, requests=7)
    counter.close(is_over=True)
    send(counter, stream)
    assert stream.totals() == {1000: 8, 990: 5}


def test_what_still_goes_on_is_counted_in_each_minute(clock: Clock, stream: Stream) -> None:
    counter = make(clock, settle=lambda count: count(SERIES, {"requests": 2}))
    for _ in range(2):
        clock.now += 60
        counter.close(is_over=False)
    send(counter, stream)
    assert stream.totals() == {1000: 2, 1001: 2}


async def test_when_cancelled_the_last_partial_minute_is_told(clock: Clock, stream: Stream) -> None:
    counter = make(clock)
    telling = asyncio.create_task(counter.run_until_cancelled(stream.send))
    await asyncio.sleep(0)
    counter.add(SERIES, requests=4)
    telling.cancel()
    await asyncio.wait([telling])
    assert stream.totals() == {1000: 4}
