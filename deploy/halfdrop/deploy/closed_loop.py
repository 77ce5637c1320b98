"""Forecaster, operator and a pool on a virtual clock: what one publishes the other decides on, and jobs wait or do not.

The pieces are the real ones: `SeriesForecaster`'s quantiles, plans as bytes, `decide_replicas` with its memory, and the
queue simulator that the replay uses, in which boots take minutes and are paid. Only time and GPUs are not. The
forecaster may be `FAULTS`: stopped, lying, late. This stands in `deploy`, for forecaster and operator do not know each
other.
"""

import math

import msgspec
import numpy as np
from msgspec import Struct

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.plans import CapacityFor, DemandPlan, DemandSeries, decode_plan, encode_plan
from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PriceSteering, at_price
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.scaling import Observation as PoolSeen
from halfdrop.forecaster.scaling import ScalingDecision as Wanted
from halfdrop.forecaster.workload import MINUTE_S, FloatArray, IntArray
from halfdrop.operator.deciding import Observation, PoolFacts, decide_replicas
from halfdrop.operator.policies import CapacityPolicySpec, Fallback, Objective, Reactive, ScaleDown
from halfdrop.operator.stepping import DecisionMemory

EPOCH_S = 1_767_225_600.0
"""When the virtual clock begins, so that plans have times as in life."""

STEPS = 20
"""Minutes of a plan: more than a boot and a cooldown, which is what decisions read."""

CHECKED_PLANS_MAX = 50
"""Plans that go through their bytes; all of them would only say the same, slower."""


class Fault(Struct, frozen=True, kw_only=True):
    """How a forecaster errs: its numbers times `factor`, and out `late_s` after they were made, or not at all."""

    factor: float = 1.0
    late_s: int = 0
    stops_after_s: float = math.inf


FAULTS = {
    "right": Fault(),
    "stopped": Fault(stops_after_s=0),
    "stops_midway": Fault(stops_after_s=43_200),
    "times_0": Fault(factor=0.0),
    "times_100": Fault(factor=100.0),
    "late_2_min": Fault(late_s=120),
    "late_30_min": Fault(late_s=1_800),
}


class Counted(Struct, kw_only=True):
    """What the decisions of a run were like."""

    decisions: int = 0
    flaps: int = 0
    """Floors lowered within the cooldown of a raise: what had just been asked for was given up."""

    regrets: int = 0
    """Floors raised again within the cooldown of being lowered."""

    below_floor: int = 0
    """Decisions under what jobs in work and waiting ask for, within the maximum."""

    over_maximum: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)


def make_policy(maximum: int, *, cooldown_s: int = 60, hysteresis: float = 0.04) -> CapacityPolicySpec:
    """Return a CapacityPolicy that says what the replay's policy does: the same share of late jobs, and as patient.

    Both give back what nothing wanted for a minute; the operator looks a minute further ahead before it does.
    """
    return CapacityPolicySpec(
        min_replicas=1,
        max_replicas=maximum,
        objective=Objective(late_share=PlanPolicy().late_share_target),
        scale_down=ScaleDown(hysteresis=hysteresis, cooldown_seconds=cooldown_s),
        reactive=Reactive(jobs_per_slot=1.0),
        fallback=Fallback(stale_after_seconds=300),
    )


class OperatedPool:
    """The operator's decisions as a policy of the queue simulator. It is given each minute's forecast as a plan."""

    def __init__(
        self,
        quantiles: FloatArray,
        wanted: IntArray,
        log_prices: FloatArray,
        *,
        policy: CapacityPolicySpec,
        rules: PoolRules,
        fault: Fault,
    ) -> None:
        """quantiles: [minutes, PLAN_HORIZONS_MINUTES, QUANTILES], row m made when minute m had ended; wanted: what is
        cheapest at each price, [minutes, PLAN_HORIZONS_MINUTES, PRICES]; log_prices: that each minute is planned at."""
        self._quantiles, self._wanted, self._log_prices = quantiles, wanted, log_prices
        self._policy, self._fault = policy, fault
        self._pool = PoolFacts(
            name="pool", boot_p50_s=rules.boot_quantile_s(0.5), boot_p95_s=rules.boot_quantile_s(0.95)
        )
        self._late_share = PlanPolicy().late_share_target
        self._steering = PriceSteering(late_share_target=self._late_share)
        self._memory = DecisionMemory()
        self._plan: DemandPlan | None = None
        self._checked = 0
        self._last = (-math.inf, False)
        self.counted = Counted()

    def decide(self, seen: PoolSeen) -> Wanted:
        self._steering.note(seen.arrived, seen.late)
        if seen.now_s % MINUTE_S == 0:
            self._take_plan(seen.now_s)
        total = seen.ready + seen.booting
        jobs = max(seen.mean_concurrency, float(seen.busy + seen.queued) if seen.queued else 0.0)
        floor = self._memory.replicas if self._memory.replicas is not None else total
        observed = Observation(floor=floor, replicas=total, ready=seen.ready, jobs=jobs)
        now = EPOCH_S + seen.now_s
        decision = decide_replicas(
            policy=self._policy, pool=self._pool, observation=observed, plan=self._plan, memory=self._memory, now=now
        )
        self._memory = decision.memory
        assert decision.replicas is not None
        self._count(before=floor, after=decision.replicas, jobs=jobs, reason=decision.reason, now_s=seen.now_s)
        return Wanted(replicas=decision.replicas, reason=decision.reason)

    def _take_plan(self, now_s: int) -> None:
        """Take the newest plan that is out by now."""
        made_s = now_s - self._fault.late_s
        minute = made_s // MINUTE_S - 1
        if not 0 <= minute < len(self._wanted) or made_s > self._fault.stops_after_s:
            return  # what was published last stays in the bucket, and grows old
        plan = self._publish(minute, made_s)
        if self._checked < CHECKED_PLANS_MAX:
            self._checked += 1
            if (read := decode_plan(encode_plan(plan))) != plan:
                raise PermanentError("a plan is not what its bytes say", code="bad-plan")
            plan = read
        self._plan = plan

    def _publish(self, minute: int, made_s: int) -> DemandPlan:
        """Return the forecast as a plan, a step a minute, as the planner publishes it: between two horizons it lies
        between them."""
        log_price = float(self._log_prices[minute]) + self._steering.correction
        by_horizon = [replicas * self._fault.factor for replicas in at_price(self._wanted[minute], log_price)]
        medians = self._quantiles[minute, :, 0] * self._fault.factor
        steps = range(1, STEPS + 1)
        busy, capacity = (np.interp(steps, PLAN_HORIZONS_MINUTES, row).tolist() for row in (medians, by_horizon))
        return DemandPlan(
            region="local",
            pool="pool",
            made_at=EPOCH_S + made_s,
            starts_at=EPOCH_S + made_s,
            quantiles=QUANTILES[:1],
            series=(DemandSeries(busy=tuple((value,) for value in busy), capacity=tuple(capacity)),),
            capacity_for=CapacityFor(late_share=self._late_share, price=math.exp(log_price)),
        )

    def _count(self, *, before: int, after: int, jobs: float, reason: str, now_s: int) -> None:
        counted, policy = self.counted, self._policy
        counted.decisions += 1
        counted.reasons[reason] = counted.reasons.get(reason, 0) + 1
        counted.below_floor += after < min(policy.max_replicas, jobs - 1e-6)
        counted.over_maximum += after > policy.max_replicas
        if after == before:
            return
        changed_s, was_raised = self._last
        is_soon = now_s - changed_s < policy.scale_down.cooldown_seconds
        counted.flaps += is_soon and was_raised and after < before
        counted.regrets += is_soon and not was_raised and after > before
        self._last = now_s, after > before
