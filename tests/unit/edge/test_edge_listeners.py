"""Listeners get the newest status, always the last one, and never hold up a stop."""

import asyncio

import msgspec
import pytest

from halfdrop.contracts.errors import Overloaded
from halfdrop.contracts.jobs import JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.edge import listeners as module
from halfdrop.edge.listeners import Listeners

QUEUED = JobStatus(
    id="a", origin="test", state=JobState.QUEUED, spec=PatternSpec(prompt="dots", model_digest="d"),
    size_px=64, pattern_key="k", created_at=0.0,
)  # fmt: skip
RUNNING = msgspec.structs.replace(QUEUED, state=JobState.PROCESSING, step=1, steps=2)
DONE = msgspec.structs.replace(QUEUED, state=JobState.COMPLETED)


async def test_a_slow_reader_misses_steps_and_never_the_end() -> None:
    listeners = Listeners()
    with listeners.listen("a") as listener:
        for status in (QUEUED, RUNNING, DONE):
            listeners.tell(status)
        assert [status async for status in listener.statuses()] == [DONE]


async def test_news_of_other_orders_is_not_told() -> None:
    listeners = Listeners()
    with listeners.listen("b") as listener:
        listeners.tell(DONE)
        listener.tell(msgspec.structs.replace(DONE, id="b"))
        assert [status.id async for status in listener.statuses() if status] == ["b"]


async def test_closing_ends_every_stream_after_what_was_told() -> None:
    listeners = Listeners()
    with listeners.listen("a") as listener:
        listeners.tell(RUNNING)
        listeners.close()
        assert [status async for status in listener.statuses()] == [RUNNING]
    with pytest.raises(Overloaded), listeners.listen("a"):
        pass


async def test_a_quiet_order_is_noticed_now_and_then() -> None:
    listeners = Listeners()
    with listeners.listen("a") as listener:
        statuses = listener.statuses(idle_s=0.01)
        assert await anext(statuses) is None
        listener.tell(DONE)
        assert [status async for status in statuses if status] == [DONE]


async def test_too_many_listeners_are_refused_and_the_place_is_free_again_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LISTENERS_MAX", 1)
    listeners = Listeners()
    with listeners.listen("a"), pytest.raises(Overloaded), listeners.listen("a"):
        pass
    with listeners.listen("a") as listener:
        listeners.tell(DONE)
        async with asyncio.timeout(1):
            assert [status async for status in listener.statuses()] == [DONE]
