"""What if: one pool's last days served again on other terms, beside the terms that it has. Pure.

Demand, jobs and boots are the same for everybody (replay.py's seeds). Spot GPUs are taken away at random, from a seed:
in that interval the pool has so many fewer, youngest boots first, and its policy orders anew; the jobs in hand are
finished, as hub workers do within the notice that a spot instance gets.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.expected_cost import wanted_capacity
from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.forecast import SeriesForecaster
from halfdrop.forecaster.oracle import find_oracle
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PRICES, SMOOTH_MINUTES, PlannedPolicy
from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, Timeline, simulate
from halfdrop.forecaster.replay import JOBS_SEED, first_replicas
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, Policy, ScalingDecision
from halfdrop.forecaster.shadow_pools import BLOCK_MINUTES, ShadowPools
from halfdrop.forecaster.workload import DAY_S, MINUTE_S, FloatArray, IntArray, draw_jobs

SHADOW_MINUTES = 2 * DAY_MINUTES
"""Before the window, in which the price of late work is found: less than replay.py takes, because somebody waits."""

JOBS_MAX = 3_000_000
"""In one replay: a few hundred MB, and some ten seconds for each policy."""

LATE_BUDGET = 0.01
SPOT_SEED = 11
TELL_EVERY_S = 0.2
POINTS = 480

Float32Array: TypeAlias = NDArray[np.float32]
Tell = Callable[[str, float], None]
"""Is told what is being done, and how much of all is done, 0 to 1. May raise, which ends the replay."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one replay is about: how the pool boots, what it is paid for, and what its owner wants."""

    policy: PlanPolicy
    boot_min_s: int
    boot_max_s: int
    price_per_hour: float
    spot_share: float = 0.0
    spot_price_factor: float = 1.0
    spot_interruptions_per_day: float = 0.0

    @property
    def mixed_price(self) -> float:
        """Of a GPU-hour, spot and on demand together."""
        return self.price_per_hour * (1 - self.spot_share * (1 - self.spot_price_factor))

    def rules(self) -> PoolRules:
        return PoolRules(
            boot_min_s=self.boot_min_s,
            boot_max_s=self.boot_max_s,
            replicas_min=self.policy.replicas_min,
            replicas_max=self.policy.replicas_max,
        )


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay. `gpus`: mean GPUs a minute, of which the last `window_minutes` are served; NaN: a gap."""

    gpus: FloatArray
    start_minute: int
    window_minutes: int
    mean_service_s: float
    present: Terms
    scenario: Terms | None
    """None: only the present terms, beside hindsight."""

    learnt: Float32Array | None = None
    """What `learn` returned for the same minutes, to spare learning it again."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one policy over the window."""

    late_share: float
    late_jobs: int
    gpu_hours: float
    cost: float
    boots: int
    oracle_ratio: float
    """GPU-hours over those of the oracle on the same terms."""

    capacity: tuple[float, ...]
    """GPUs paid for, POINTS means over the window."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Present and scenario, between what reaction alone would do and what hindsight could."""

    days: float
    jobs: int
    work_hours: float
    start_s: float
    step_s: float
    demand: tuple[float, ...]
    present: Row
    scenario: Row | None
    reactive: Row
    """The scenario's terms without any forecast."""

    oracle: Row
    """The scenario's terms with every arrival known beforehand; within 1 % late jobs."""


def replay_question(question: Question, tell: Tell) -> Answer:
    """Serve the window by everybody. Raises InvalidInput where there is nothing to serve, or far too much."""
    window = question.gpus[-question.window_minutes :]
    history = question.gpus[: -question.window_minutes]
    jobs = float(np.nansum(window)) * MINUTE_S / question.mean_service_s
    if not 1 <= jobs <= JOBS_MAX:
        allowed = f"1 to {JOBS_MAX} jobs in the window; choose {'fewer' if jobs > 1 else 'other'} days"
        raise InvalidInput("days", got=f"{jobs:.0f} jobs", allowed=allowed)
    forecasts = (learn(question, tell) if question.learnt is None else question.learnt).astype(np.float64)
    tell("drawing the jobs", 0.4)
    begin = question.start_minute + len(history)
    timeline = Timeline(draw_jobs(window, seed=JOBS_SEED, mean_service_s=question.mean_service_s, start_minute=begin))
    replicas = first_replicas(history if len(history) else window)
    asked = question.scenario or question.present

    wanted = wanted_capacity(forecasts, service_s=question.mean_service_s, prices=PRICES)
    nothing = np.zeros((len(window), len(PLAN_HORIZONS_MINUTES), len(PRICES)), dtype=np.int64)

    def serve(name: str, terms: Terms, made: IntArray, begin_share: float) -> Outcome:
        planned = _plan(question, made, terms, lambda share: tell(name, begin_share + 0.08 * share))
        policy: Policy = _Watched(planned, name, tell, begin_share, timeline.workload.length_s)
        if terms.spot_share > 0:
            policy = _Spot(policy, terms)
        return simulate(timeline, policy, rules=terms.rules(), replicas=max(replicas, terms.policy.replicas_min))

    present = serve("the present policy", question.present, wanted, 0.42)
    scenario = serve("the scenario", question.scenario, wanted, 0.57) if question.scenario else None
    reactive = serve("reaction alone", asked, nothing, 0.72)
    tell("hindsight", 0.87)
    oracle = find_oracle(timeline, rules=asked.rules(), late_budget=LATE_BUDGET)
    return Answer(
        days=len(window) / DAY_MINUTES,
        jobs=oracle.jobs,
        work_hours=oracle.work_hours,
        start_s=float(begin * MINUTE_S),
        step_s=len(window) * MINUTE_S / POINTS,
        demand=_means(window),
        present=_row(present, question.present, oracle),
        scenario=_row(scenario, asked, oracle) if scenario else None,
        reactive=_row(reactive, asked, oracle),
        oracle=_row(oracle, asked, oracle),
    )


def learn(question: Question, tell: Tell) -> Float32Array:
    """Return the forecasts made at each minute, before the window too: [minutes, horizons, QUANTILES]."""
    forecaster = SeriesForecaster(
        start_minute=question.start_minute, horizons=PLAN_HORIZONS_MINUTES, smooth_minutes=SMOOTH_MINUTES
    )
    made = []
    for begin in range(0, len(question.gpus), DAY_MINUTES):
        tell("learning the days before", 0.4 * begin / len(question.gpus))
        made.append(forecaster.extend(question.gpus[begin : begin + DAY_MINUTES]).quantiles)
    return np.concatenate(made).astype(np.float32)


def _plan(question: Question, wanted: IntArray, terms: Terms, tell: Callable[[float], None]) -> PlannedPolicy:
    """Return our policy on these terms, as replay.py makes it: each block at the price that those before it taught.

    wanted: [minutes, horizons, PRICES], of the window, or of all minutes, those before the window then teach as well.
    """
    shadows = ShadowPools(
        horizons=PLAN_HORIZONS_MINUTES, rules=terms.rules(), policy=terms.policy, service_s=question.mean_service_s
    )
    window = len(wanted) - question.window_minutes
    demand = question.gpus[-len(wanted) :]
    blocks_before = min(SHADOW_MINUTES, window) // BLOCK_MINUTES
    begins = range(window - blocks_before * BLOCK_MINUTES, len(wanted), BLOCK_MINUTES)
    is_planning = bool(wanted.any())
    log_prices = []
    for place, begin in enumerate(begins):
        block = slice(begin, begin + BLOCK_MINUTES)
        if begin >= window:
            log_prices.append(shadows.log_price())
        if is_planning:
            shadows.learn(demand[block], wanted[block])
        tell(place / len(begins))
    return PlannedPolicy(
        wanted[window:],
        PLAN_HORIZONS_MINUTES,
        policy=terms.policy,
        rules=terms.rules(),
        log_prices=np.array(log_prices),
        minutes_per_price=BLOCK_MINUTES,
        is_corrected=terms.policy.is_margin_steered,
    )


class _Watched:
    """Tells how far a replay has come."""

    def __init__(self, policy: Policy, name: str, tell: Tell, begin_share: float, length_s: int) -> None:
        self._policy, self._name, self._tell = policy, name, tell
        self._begin_share, self._length_s = begin_share, length_s
        self._told_s = 0.0

    def decide(self, seen: Observation) -> ScalingDecision:
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            self._tell(self._name, self._begin_share + 0.08 + 0.07 * seen.now_s / self._length_s)
        return self._policy.decide(seen)


class _Spot:
    """Takes spot GPUs away."""

    def __init__(self, policy: Policy, terms: Terms) -> None:
        self._policy = policy
        self._rate = terms.spot_share * terms.spot_interruptions_per_day * DECISION_INTERVAL_S / DAY_S
        self._dice = np.random.default_rng(SPOT_SEED)

    def decide(self, seen: Observation) -> ScalingDecision:
        decision = self._policy.decide(seen)
        taken = int(self._dice.poisson(self._rate * seen.ready)) if seen.ready else 0
        if not taken:
            return decision
        return ScalingDecision(replicas=max(0, seen.ready + seen.booting - taken), reason=f"{taken} taken away")


def _row(outcome: Outcome, terms: Terms, oracle: Outcome) -> Row:
    return Row(
        late_share=outcome.late_share,
        late_jobs=outcome.late_jobs,
        gpu_hours=outcome.gpu_hours,
        cost=outcome.gpu_hours * terms.mixed_price,
        boots=outcome.boots,
        oracle_ratio=outcome.gpu_hours / oracle.gpu_hours if oracle.gpu_hours else 0.0,
        capacity=_means(outcome.replicas),
    )


def _means(values: FloatArray | IntArray) -> tuple[float, ...]:
    parts = np.array_split(np.asarray(values, dtype=np.float64), POINTS)
    known = [part[~np.isnan(part)] for part in parts]
    return tuple(round(float(part.mean()), 2) if len(part) else 0.0 for part in known)
