"""Offline replay: days of demand served by our policy, by every rival at every knob, and by the oracle. Pure.

The decision core is the one that a live pool runs; here a virtual clock drives it. Forecasts are made minute by
minute from what had come by then.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.expected_cost import wanted_capacity
from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.forecast import SeriesForecaster
from halfdrop.forecaster.oracle import find_oracle
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PRICES, SMOOTH_MINUTES, PlannedPolicy
from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, Timeline, simulate
from halfdrop.forecaster.rivals_predictive import AwsPredictive, CraneEhpa, DemandMeter, DynamoPlanner, PredictiveHpa
from halfdrop.forecaster.rivals_reactive import HpaUtilisation, KedaQueue, KnativeKpa
from halfdrop.forecaster.scaling import Policy
from halfdrop.forecaster.shadow_pools import BLOCK_MINUTES, ShadowPools
from halfdrop.forecaster.workload import FloatArray, draw_jobs

REACTIVE: dict[str, Callable[[float], Policy]] = {"HPA": HpaUtilisation, "KEDA": KedaQueue, "Knative": KnativeKpa}
PREDICTIVE: dict[str, Callable[[float, DemandMeter], Policy]] = {
    "PHPA": PredictiveHpa,
    "Crane": CraneEhpa,
    "AWS-like": AwsPredictive,
    "Dynamo-like": DynamoPlanner,
}
RIVALS = (*REACTIVE, *PREDICTIVE)
KNOBS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15)
"""Target utilisations. Above 1 only a margin of the rival's own, as Crane's, can be in time."""

START_MARGIN = 1.3
"""GPUs that are ready at the first tick, over the demand of the hour before: the same for everybody."""

SHORTEST_WINDOW_MINUTES = 60
SHADOW_MINUTES = 7 * DAY_MINUTES
"""How much of the history shadows are run over before a replay."""

SHADOW_WARM_MINUTES = DAY_MINUTES
"""A forecaster's first day says nothing about its later ones."""

JOBS_SEED = 20261127


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One policy's outcome over the window."""

    policy: str
    knob: float | None
    late_share: float
    gpu_hours: float
    oracle_ratio: float
    is_whole: bool = True


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody's outcome: ours first, then the rivals, then the oracle."""

    days: float
    jobs: int
    work_hours: float
    served: tuple[Served, ...]


def replay_demand(
    gpus: FloatArray,
    *,
    start_minute: int,
    window_minutes: int,
    policy: PlanPolicy,
    rules: PoolRules,
    late_budget: float = 0.01,
    mean_service_s: float = 20.0,
    knobs: Sequence[float] = KNOBS,
) -> Replay:
    """Serve the last `window_minutes` of a demand series (mean GPUs per minute); what is before it is the history."""
    policy.check()
    if not SHORTEST_WINDOW_MINUTES <= window_minutes <= len(gpus):
        raise InvalidInput("window", got=f"{window_minutes} min", allowed=f"60 to the {len(gpus)} minutes of history")
    history, window = gpus[:-window_minutes], gpus[-window_minutes:]
    begin = start_minute + len(history)
    workload = draw_jobs(window, seed=JOBS_SEED, mean_service_s=mean_service_s, start_minute=begin)
    if not len(workload.arrivals_s):
        raise InvalidInput("history", got="a window without any work", allowed="some demand to serve")
    timeline = Timeline(workload)
    oracle = find_oracle(timeline, rules=rules, late_budget=late_budget)
    replicas = first_replicas(history if len(history) else window[:SHORTEST_WINDOW_MINUTES])
    planned = plan_replay(
        history, window, start_minute=start_minute, service_s=mean_service_s, rules=rules, policy=policy
    )
    ours = simulate(timeline, planned, rules=rules, replicas=replicas)
    served = [_row("halfdrop", None, ours, oracle)]
    for name in RIVALS:
        for knob in knobs:
            rival = make_rival(name, knob, history, window_minutes)
            outcome = simulate(timeline, rival, rules=rules, replicas=replicas, give_up_share=10 * late_budget)
            served.append(_row(name, knob, outcome, oracle))
    served.append(_row("oracle", None, oracle, oracle))
    return Replay(days=window_minutes / DAY_MINUTES, jobs=ours.jobs, work_hours=ours.work_hours, served=tuple(served))


def plan_replay(
    history: FloatArray,
    window: FloatArray,
    *,
    start_minute: int,
    service_s: float,
    rules: PoolRules,
    policy: PlanPolicy,
) -> PlannedPolicy:
    """Return our policy for a window, as it would have been had it run through the history before it.

    Every block of the window is planned at the price that shadows found in the blocks before, never in itself.
    """
    forecaster = SeriesForecaster(
        start_minute=start_minute, horizons=PLAN_HORIZONS_MINUTES, smooth_minutes=SMOOTH_MINUTES
    )
    shadows = ShadowPools(horizons=PLAN_HORIZONS_MINUTES, rules=rules, policy=policy, service_s=service_s)
    known_from = max(0, min(SHADOW_WARM_MINUTES, len(history) - BLOCK_MINUTES), len(history) - SHADOW_MINUTES)
    before = forecaster.extend(history).quantiles[known_from:]
    for begin, end in _blocks(len(before)):
        shadows.learn(
            history[known_from + begin : known_from + end],
            wanted_capacity(before[begin:end], service_s=service_s, prices=PRICES),
        )
    wanted = wanted_capacity(forecaster.extend(window).quantiles, service_s=service_s, prices=PRICES)
    log_prices = []
    for begin, end in _blocks(len(window)):
        log_prices.append(shadows.log_price())
        shadows.learn(window[begin:end], wanted[begin:end])
    return PlannedPolicy(
        wanted,
        PLAN_HORIZONS_MINUTES,
        policy=policy,
        rules=rules,
        log_prices=np.array(log_prices),
        minutes_per_price=BLOCK_MINUTES,
        is_corrected=policy.is_margin_steered,
    )


def _blocks(minutes: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + BLOCK_MINUTES, minutes)) for begin in range(0, minutes, BLOCK_MINUTES)]


def make_rival(name: str, knob: float, history: FloatArray, window_minutes: int) -> Policy:
    """Return one of RIVALS with its knob set; the forecasting ones know the history."""
    if name in REACTIVE:
        return REACTIVE[name](knob)
    return PREDICTIVE[name](knob, DemandMeter(history, window_minutes))


def first_replicas(history: FloatArray) -> int:
    """Return the GPUs that are ready when a replay begins."""
    recent = history[-SHORTEST_WINDOW_MINUTES:]
    known = recent[~np.isnan(recent)]
    return 2 + math.ceil(START_MARGIN * float(known.mean())) if len(known) else 2


def _row(name: str, knob: float | None, outcome: Outcome, oracle: Outcome) -> Served:
    return Served(
        policy=name,
        knob=knob,
        late_share=outcome.late_share,
        gpu_hours=outcome.gpu_hours,
        oracle_ratio=outcome.gpu_hours / oracle.gpu_hours,
        is_whole=outcome.is_whole,
    )
