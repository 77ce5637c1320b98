"""Offline replay: days of demand served by our policy, by every rival at every knob, and by the oracle. Pure.

The decision core is the one that a live pool runs; here a virtual clock drives it. Forecasts are made minute by
minute from what had come by then.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.forecast import SeriesForecaster
from halfdrop.forecaster.oracle import find_oracle
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import SMOOTH_MINUTES, PlannedPolicy, horizons_until, wanted_table
from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, Timeline, simulate
from halfdrop.forecaster.rivals_predictive import AwsPredictive, CraneEhpa, DemandMeter, DynamoPlanner, PredictiveHpa
from halfdrop.forecaster.rivals_reactive import HpaUtilisation, KedaQueue, KnativeKpa
from halfdrop.forecaster.scaling import Policy
from halfdrop.forecaster.shadow_pools import BLOCK_MINUTES, PriceBook
from halfdrop.forecaster.workload import FloatArray, IntArray, as_kept, draw_jobs

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
LEARN_MINUTES = 15 * DAY_MINUTES
"""How much before its window our policy learns from: two weeks and a day to warm up."""

SHADOW_MINUTES = 7 * DAY_MINUTES
"""How much of the history shadows are run over before a replay."""

SHADOW_WARM_MINUTES = DAY_MINUTES
"""A forecaster's first day says nothing about its later ones."""

JOBS_SEED = 20261127


Tell = Callable[[str, float], None]
"""Is told what is being done, and how much of it is done, 0 to 1. May raise, which ends the replay."""


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """What was forecast at each minute, and what is cheapest at each price: any policy may be replayed on it."""

    known_from: int
    """Place in the history at which it begins; it goes on to the end of the window."""

    horizons: tuple[int, ...]
    service_s: float
    quantiles: FloatArray
    """[minutes, horizons, QUANTILES] of three-minute demand, in mean GPUs."""

    wanted: IntArray
    """[minutes, horizons, PRICES]"""


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
    gpus = as_kept(gpus)
    rules = msgspec.structs.replace(rules, replicas_min=policy.replicas_min, replicas_max=policy.replicas_max)
    history, window = gpus[:-window_minutes], gpus[-window_minutes:]
    begin = start_minute + len(history)
    timeline = draw_timeline(window, start_minute=begin, service_s=mean_service_s)
    if not timeline.arrivals:
        raise InvalidInput("history", got="a window without any work", allowed="some demand to serve")
    oracle = find_oracle(timeline, rules=rules, late_budget=late_budget)
    replicas = max(policy.replicas_min, first_replicas(history if len(history) else window[:SHORTEST_WINDOW_MINUTES]))
    recent = history[-LEARN_MINUTES:]
    planned = plan_replay(
        recent, window, start_minute=begin - len(recent), service_s=mean_service_s, rules=rules, policy=policy
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


def draw_timeline(window: FloatArray, *, start_minute: int, service_s: float) -> Timeline:
    """Return the jobs of a window: the same for everybody, on the command line and on the page."""
    return Timeline(draw_jobs(window, seed=JOBS_SEED, mean_service_s=service_s, start_minute=start_minute))


def plan_replay(
    history: FloatArray,
    window: FloatArray,
    *,
    start_minute: int,
    service_s: float,
    rules: PoolRules,
    policy: PlanPolicy,
    learnt: Learnt | None = None,
) -> PlannedPolicy:
    """Return our policy for a window, as it would have been had it run through the history before it.

    Every block of the window is planned at the price that shadows found in the blocks before, never in itself.
    learnt: what `learn_plan` returned for the same minutes, at as many horizons as the boots need or more.
    """
    if learnt is None:
        learnt = learn_plan(
            history,
            window,
            start_minute=start_minute,
            service_s=service_s,
            horizons=horizons_until(rules.boot_quantile_s(0.95)),
        )
    wanted, log_prices = price_window(
        history[learnt.known_from :], window, learnt=learnt, rules=rules, policy=policy, service_s=service_s
    )
    return PlannedPolicy(wanted, policy=policy, rules=rules, log_prices=log_prices, is_corrected=policy.is_price_sought)


def price_window(
    before: FloatArray, window: FloatArray, *, learnt: Learnt, rules: PoolRules, policy: PlanPolicy, service_s: float
) -> tuple[IntArray, FloatArray]:
    """Return what is wanted at each price at each minute of the window, and the logarithm of the price that held then.

    before: the history from `learnt.known_from` on.
    """
    wanted = learnt.wanted
    if policy.quantile is not None:
        wanted = wanted_table(learnt.quantiles, policy=policy, service_s=service_s)
    book = PriceBook(policy=policy, rules=rules, service_s=service_s)
    book.extend(before, wanted[: len(before)])
    book.close_block()
    return wanted[len(before) :], book.extend(window, wanted[len(before) :])


def learn_plan(
    history: FloatArray,
    window: FloatArray,
    *,
    start_minute: int,
    service_s: float,
    horizons: tuple[int, ...],
    tell: Tell = lambda doing, done_share: None,
) -> Learnt:
    """Forecast each minute by what had come by then, and work out what that makes of each price."""
    forecaster = SeriesForecaster(start_minute=start_minute, horizons=horizons, smooth_minutes=SMOOTH_MINUTES)
    known_from = max(0, min(SHADOW_WARM_MINUTES, len(history) - BLOCK_MINUTES), len(history) - SHADOW_MINUTES)
    demand = np.concatenate([history, window])
    quantiles, wanted = [], []
    for begin in range(0, len(demand), DAY_MINUTES):
        tell("learning the days before", begin / len(demand))
        made = forecaster.extend(demand[begin : begin + DAY_MINUTES]).quantiles[max(0, known_from - begin) :]
        quantiles.append(made)
        wanted.append(wanted_table(made, policy=PlanPolicy(), service_s=service_s))
    return Learnt(
        known_from=known_from,
        horizons=horizons,
        service_s=service_s,
        quantiles=np.concatenate(quantiles),
        wanted=np.concatenate(wanted),
    )


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
