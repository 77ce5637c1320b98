"""What is noted of a request, and how little of it is logged."""

from typing import Any

import pytest

from halfdrop.edge.observing import LINES_BURST, LINES_PER_S, LineBudget, Observer, read_cache_status


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make_scope(method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": "/secret", "headers": []}


async def nothing(_: Any) -> None:
    return


@pytest.mark.parametrize(
    ("value", "noted"),
    [
        (b"halfdrop; hit; detail=memory", ("hit", "exact")),
        (b"halfdrop; hit; detail=variant", ("hit", "variant")),
        (b"halfdrop; fwd=miss; stored", ("miss", "none")),
        (b"halfdrop; fwd=miss; stored; detail=near", ("miss", "near")),
    ],
)
def test_cache_status_is_read_as_we_write_it(value: bytes, noted: tuple[str, str]) -> None:
    assert read_cache_status(value) == noted


def test_lines_are_bounded_and_those_left_out_are_told() -> None:
    clock = Clock()
    budget = LineBudget(clock)
    taken = [budget.take() for _ in range(150)]
    assert sum(line is not None for line in taken) == LINES_BURST
    clock.now_s += 1.5 / LINES_PER_S
    assert budget.take() == 50
    assert budget.take() is None


async def test_a_request_that_fails_is_counted_once_and_is_no_longer_in_flight() -> None:
    observer = Observer()

    async def fail(*_: Any) -> None:
        assert observer.traffic.in_flight == 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await observer.observe(make_scope(), None, nothing, fail)
    assert observer.traffic.in_flight == 0
    assert observer.traffic.requests == {("unmatched", "GET", "500", "none"): 1}
    assert observer.traffic.problems == {("unmatched", "500"): 1}


async def test_what_strangers_send_makes_no_new_labels() -> None:
    observer = Observer()

    async def answer(scope: dict[str, Any], _: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    for method in ("BREW", "X" * 1000, "GET", "GET"):
        await observer.observe(make_scope(method), None, nothing, answer)
    assert {labels[:2] for labels in observer.traffic.requests} == {("unmatched", "_OTHER"), ("unmatched", "GET")}
