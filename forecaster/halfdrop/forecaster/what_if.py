"""What if: one pool's last days served again on other terms, beside the terms that it has. Pure.

Demand, jobs and boots are the same for everybody (replay.py's seeds). Spot GPUs are taken away at random, from a seed:
in that interval the pool has so many fewer, youngest boots first, and its policy orders anew; the jobs in hand are
finished, as hub workers do within the notice that a spot instance gets.
"""

import time

import msgspec
import numpy as np

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.oracle import find_oracle
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PlannedPolicy, horizons_until
from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, simulate
from halfdrop.forecaster.replay import (
    SHORTEST_WINDOW_MINUTES,
    Learnt,
    Tell,
    draw_timeline,
    first_replicas,
    learn_plan,
    plan_replay,
)
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, Policy, ScalingDecision
from halfdrop.forecaster.workload import DAY_S, MINUTE_S, FloatArray, IntArray

JOBS_MAX = 3_000_000
"""In one replay: a few hundred MB, and some ten seconds for each policy."""

LATE_BUDGET = 0.01
SPOT_SEED = 11
TELL_EVERY_S = 0.2
POINTS = 480


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

    learnt: Learnt | None = None
    """What `learn` returned for the same minutes, to spare learning it again."""

    @property
    def history(self) -> FloatArray:
        return self.gpus[: -self.window_minutes]

    @property
    def window(self) -> FloatArray:
        return self.gpus[-self.window_minutes :]

    @property
    def horizons(self) -> tuple[int, ...]:
        """How far ahead plans on these terms look."""
        asked = (self.present, self.scenario or self.present)
        return horizons_until(max(terms.rules().boot_quantile_s(0.95) for terms in asked))

    @property
    def usable(self) -> Learnt | None:
        """What was learnt, if it serves this question: for boots as long, and jobs of these seconds."""
        found = self.learnt
        if found is None or found.service_s != self.mean_service_s or len(found.horizons) < len(self.horizons):
            return None
        return found


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
    history, window = question.history, question.window
    jobs = float(np.nansum(window)) * MINUTE_S / question.mean_service_s
    if not 1 <= jobs <= JOBS_MAX:
        allowed = f"1 to {JOBS_MAX} jobs in the window; choose {'fewer' if jobs > 1 else 'other'} days"
        raise InvalidInput("days", got=f"{jobs:.0f} jobs", allowed=allowed)
    learnt = question.usable or learn(question, tell)
    tell("drawing the jobs", 0.4)
    begin = question.start_minute + len(history)
    timeline = draw_timeline(window, start_minute=begin, service_s=question.mean_service_s)
    replicas = first_replicas(history if len(history) else window[:SHORTEST_WINDOW_MINUTES])
    asked = question.scenario or question.present

    def serve(name: str, planned: Policy, terms: Terms, begin_share: float) -> Outcome:
        policy: Policy = _Watched(planned, name, tell, begin_share, timeline.workload.length_s)
        if terms.spot_share > 0:
            policy = _Spot(policy, terms)
        return simulate(timeline, policy, rules=terms.rules(), replicas=max(replicas, terms.policy.replicas_min))

    def plan(name: str, terms: Terms, begin_share: float) -> Outcome:
        tell(f"{name}: its shadow pools", begin_share)
        planned = plan_replay(
            history,
            window,
            start_minute=question.start_minute,
            service_s=question.mean_service_s,
            rules=terms.rules(),
            policy=terms.policy,
            learnt=learnt,
        )
        return serve(name, planned, terms, begin_share + 0.1)

    present = plan("the present policy", question.present, 0.42)
    scenario = plan("the scenario", question.scenario, 0.6) if question.scenario else None
    reaction = PlannedPolicy(learnt.wanted[:0], policy=asked.policy, rules=asked.rules(), log_prices=np.zeros(1))
    reactive = serve("reaction alone", reaction, asked, 0.78)
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


def learn(question: Question, tell: Tell) -> Learnt:
    """Return what was forecast at each minute of the question's days, and what it makes of each price."""
    return learn_plan(
        question.history,
        question.window,
        start_minute=question.start_minute,
        service_s=question.mean_service_s,
        horizons=question.horizons,
        tell=lambda doing, share: tell(doing, 0.4 * share),
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
            self._tell(self._name, self._begin_share + 0.08 * seen.now_s / self._length_s)
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
