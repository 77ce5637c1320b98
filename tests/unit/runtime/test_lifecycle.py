"""How a process ends its endless tasks."""

import asyncio
import contextlib

from halfdrop.runtime.lifecycle import end_tasks


async def test_a_task_that_loses_its_first_cancellation_is_ended_all_the_same() -> None:
    lost = asyncio.Event()

    async def loses_one() -> None:
        with contextlib.suppress(asyncio.CancelledError):  # as wait_for does when its answer has just come
            await asyncio.Event().wait()
        lost.set()
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(loses_one()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end_tasks(tasks, again_s=0.01)
    assert lost.is_set()
    assert all(task.cancelled() for task in tasks)


async def test_a_task_has_time_to_put_things_away() -> None:
    kept = []

    async def keeps_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            kept.append("the last report")

    task = asyncio.create_task(keeps_at_the_end())
    await asyncio.sleep(0)
    await end_tasks([task])
    assert kept == ["the last report"]


async def test_no_tasks_are_ended_at_once() -> None:
    await end_tasks([])
