"""Afterwards: what the last days cost, beside what they would have cost with every arrival known beforehand."""

import asyncio

import numpy as np
import structlog

from halfdrop.contracts.errors import HalfdropError, Overloaded
from halfdrop.forecaster.replay import LEARN_MINUTES
from halfdrop.forecaster.service.planner import Hindsight, Planner, Pool, measure_service
from halfdrop.forecaster.service.policies import replay_terms
from halfdrop.forecaster.service.replays import Replays, Run
from halfdrop.forecaster.service.series import LATE, REQUESTS
from halfdrop.forecaster.what_if import Question
from halfdrop.forecaster.workload import MINUTE_S

log = structlog.get_logger()

WINDOW_MINUTES = 7 * 1440
WINDOW_MIN_MINUTES = 360
LOOK_EVERY_S = 5.0
AGAIN_AFTER_MINUTES = 360
NEVER = -(10**9)
TOLD_SHARE_MIN = 0.9
"""Of the window's minutes, those whose capacity must be known before it is compared."""


def make_question(planner: Planner, pool: Pool, *, window_minutes: int) -> Question:
    """Return the pool's last minutes, with as much before them as is learnt from, on its present terms."""
    # On the hour, so that who asks again a minute later asks for the same days.
    table, end = planner.table, planner.table.end // 60 * 60
    begin = max(table.first, end - window_minutes - LEARN_MINUTES)
    window = min(window_minutes, end - begin)
    seen = table.read(pool.terms.choice, end - window, end)
    return Question(
        gpus=table.gpus(pool.terms.choice, begin, end),
        start_minute=begin,
        window_minutes=window,
        mean_service_s=measure_service(seen, pool.terms.mean_service_s),
        present=replay_terms(pool.terms, boot_p95_s=pool.boot_p95_s if pool.are_boots_measured else None),
        scenario=None,
    )


async def look_back(planner: Planner, replays: Replays) -> None:
    """Compare each pool's week with hindsight, whenever nobody else wants a replay, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        pool = _next_pool(planner)
        if pool is None or not replays.is_idle:
            continue
        try:
            question = make_question(planner, pool, window_minutes=WINDOW_MINUTES)
            run = replays.ask(pool.terms.key, question, about={}, is_in_background=True)
        except Overloaded:
            continue
        pool.looked_back_at = planner.table.end
        await replays.wait(run)
        if run.state == "canceled":
            pool.looked_back_at = NEVER
            continue
        pool.hindsight = _compare(planner, pool, run)
        planner.tell()


def _next_pool(planner: Planner) -> Pool | None:
    """Return a pool whose week has not been looked back on of late. What is learnt goes first."""
    end = planner.table.end
    if planner.forecasting.learnt_share() < 1:
        return None
    for pool in planner.pools.values():
        if end - planner.table.first >= WINDOW_MIN_MINUTES and end - pool.looked_back_at >= AGAIN_AFTER_MINUTES:
            return pool
    return None


def _compare(planner: Planner, pool: Pool, run: Run) -> Hindsight:
    if run.answer is None:
        log.warning("hindsight_failed", pool=pool.terms.key, error=run.detail)
        return Hindsight(detail=run.detail or run.state)
    answer = run.answer
    start = int(answer.start_s) // MINUTE_S
    end = start + round(answer.days * 1440)
    seen = planner.table.read(pool.terms.choice, start, end)
    told = planner.table.read_pools((pool.terms.region,), start, end)[:, 0]
    is_told = ~np.isnan(told)
    is_whole = not pool.terms.classes and not pool.terms.models and is_told.mean() >= TOLD_SHARE_MIN
    hours = float(np.nanmean(told)) * (end - start) / 60 if is_whole else None
    jobs, late = (float(np.nansum(seen[:, column])) for column in (REQUESTS, LATE))
    return Hindsight(
        days=answer.days,
        oracle_gpu_hours=answer.oracle.gpu_hours,
        actual_gpu_hours=hours,
        actual_late_share=late / jobs if jobs and not np.isnan(seen[:, LATE]).all() else None,
        planned_gpu_hours=answer.present.gpu_hours,
        planned_late_share=answer.present.late_share,
        until=float(end * MINUTE_S),
    )


async def quietly(planner: Planner, replays: Replays) -> None:
    """`look_back`, gone on with after errors: it is for people to look at, and nothing depends on it."""
    while True:
        try:
            await look_back(planner, replays)
        except HalfdropError as error:
            log.warning("hindsight_failed", error=str(error))
