"""What lateness costs is found by trying: pools that exist only here serve the past days at one price each. Pure.

A late job's price decides how wide the margin is, and no formula knows the price at which just the promised share
comes late: it depends on bursts, on how good the forecasts are and on how long a boot takes. So a handful of shadow
pools, each at its own price, are run over every block of demand once it is past, with the plan that the forecasts of
that time gave. The price for the next block is the one whose shadow would have kept the promise over the last days.
"""

import numpy as np

from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PRICES, PlannedPolicy
from halfdrop.forecaster.queue_simulator import PoolRules, Timeline, simulate
from halfdrop.forecaster.workload import FloatArray, IntArray, draw_jobs

BLOCK_MINUTES = 360
HALF_LIFE_BLOCKS = 20
"""Five days: a burst of last week still counts, the season of last month does not."""

PRIOR_BLOCKS = 4
JOBS_SEED = 20261127
SHARE_MIN = 1e-6


class ShadowPools:
    """One pool for each of PRICES."""

    def __init__(self, *, horizons: tuple[int, ...], rules: PoolRules, policy: PlanPolicy, service_s: float) -> None:
        self._horizons, self._rules, self._policy, self._service_s = horizons, rules, policy, service_s
        self._replicas: list[int] = []
        self._late = np.zeros(len(PRICES))
        self._jobs = 0.0
        self._blocks = 0
        self._evidence = 0.0

    def learn(self, demand: FloatArray, wanted: IntArray) -> None:
        """Serve one block, of up to BLOCK_MINUTES, at every price.

        demand: mean GPUs per minute, NaN for a gap. wanted: [minutes, horizons, PRICES], what was planned at each.
        """
        workload = draw_jobs(demand, seed=JOBS_SEED + self._blocks, mean_service_s=self._service_s)
        timeline = Timeline(workload)
        if not self._replicas:
            # Each begins with what it plans: no pool is late only because it did not exist before.
            self._replicas = [max(self._policy.replicas_min, int(most)) for most in wanted[0].max(axis=0)]
        fade = 0.5 ** (1 / HALF_LIFE_BLOCKS)
        self._blocks += 1
        self._evidence = fade * self._evidence + 1.0
        self._jobs = fade * self._jobs + len(workload.arrivals_s)
        for place, price in enumerate(PRICES):
            pool = PlannedPolicy(
                wanted, self._horizons, policy=self._policy, rules=self._rules, log_prices=np.array([np.log(price)])
            )
            served = simulate(timeline, pool, rules=self._rules, replicas=self._replicas[place])
            self._late[place] = fade * self._late[place] + served.late_jobs
            self._replicas[place] = max(self._policy.replicas_min, int(served.replicas[-1]))

    def log_price(self) -> float:
        """Return the logarithm of the price at which `late_share_target` would have come late.

        The costs of the policy say what it is while little is known, and count as much as PRIOR_BLOCKS later.
        """
        prior = float(np.log(self._policy.late_cost / self._policy.idle_cost))
        if self._jobs < 1:
            return prior
        # A higher price never makes more jobs late but by chance.
        shares = np.maximum.accumulate((self._late / self._jobs)[::-1])[::-1]
        scores = -np.log(np.maximum(shares, SHARE_MIN))
        found = float(np.interp(-np.log(self._policy.late_share_target), scores, np.log(PRICES)))
        return (self._evidence * found + PRIOR_BLOCKS * prior) / (self._evidence + PRIOR_BLOCKS)
