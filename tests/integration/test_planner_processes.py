"""What the planner runs in processes of their own: shards that die and are replaced, replays that give way and end."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from halfdrop.contracts.errors import Unavailable
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.service.replays import Replays
from halfdrop.forecaster.service.shards import NodeMinutes, Shard
from halfdrop.forecaster.what_if import Question, Terms

if TYPE_CHECKING:
    from tests.conftest import WaitUntil

MINUTES = NodeMinutes(
    node=1, start_minute=29_000_000, gpus=np.full(200, 5.0), horizons=(1, 9), judged_horizon=9, is_first=True
)


def make_question(days: int) -> Question:
    terms = Terms(policy=PlanPolicy(), boot_min_s=60, boot_max_s=120, price_per_hour=2.0)
    demand = 3 + np.sin(np.arange(days * 1440) / 200)
    return Question(
        gpus=demand, start_minute=29_000_000, window_minutes=720, mean_service_s=20.0, present=terms, scenario=terms
    )


async def test_a_shard_that_is_killed_is_replaced_and_begins_anew() -> None:
    shard = Shard("test")
    try:
        (before,) = await shard.extend([MINUTES])
        assert before.quantiles.shape == (2, 7)
        (process,) = shard._executor._processes.values()  # type: ignore[attr-defined]
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="was replaced"):
            await shard.extend([msgspec.structs.replace(MINUTES, is_first=False)])
        (after,) = await shard.extend([MINUTES])
        assert np.array_equal(after.quantiles, before.quantiles)
        assert shard.restarts == 1
    finally:
        shard.close()


async def test_a_replay_answers_and_what_nobody_asked_for_gives_way(wait_until: "WaitUntil") -> None:
    replays = Replays()
    working = asyncio.ensure_future(replays.run())
    try:
        unasked = replays.ask("eu.all", make_question(20), about={}, is_in_background=True)
        await wait_until(lambda: unasked.state == "running", timeout_s=30)
        asked = replays.ask("eu.all", make_question(1), about={"replicas_min": 1.0})
        async with asyncio.timeout(60):
            await replays.wait(asked)
        assert unasked.state == "canceled"
        assert (asked.state, asked.done_share) == ("done", 1.0), asked.detail
        assert asked.answer is not None
        assert asked.answer.scenario == asked.answer.present
        assert replays.cancel(asked.id).state == "done"
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_replay_that_cannot_be_says_why() -> None:
    replays = Replays()
    working = asyncio.ensure_future(replays.run())
    try:
        run = replays.ask("eu.all", msgspec.structs.replace(make_question(1), gpus=np.zeros(1440)), about={})
        async with asyncio.timeout(60):
            await replays.wait(run)
        assert run.state == "failed"
        assert "jobs in the window" in run.detail
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
