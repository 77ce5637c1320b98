"""What lateness costs is found by trying: pools that exist only here serve the past days at one price each. Pure.

A late job's price decides how wide the margin is, and no formula knows the price at which just the promised share
comes late: it depends on bursts, on how good the forecasts are and on how long a boot takes. So a handful of shadow
pools, each at its own price, are run over every block of demand once it is past, with the plan that the forecasts of
that time gave. The price for the next block is the one whose shadow would have kept the promise over the last days.
"""

import math

import msgspec
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


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What late work costs, and where that comes from."""

    log_price: float
    """Logarithm of what a second of work costs that comes late, against a second of an idle GPU."""

    blocks: int = 0
    """Blocks of BLOCK_MINUTES that shadow pools have served to find it; 0: it is what the policy's costs say."""

    @property
    def times(self) -> float:
        return math.exp(self.log_price)


class PriceBook:
    """The price of one pool as its minutes come: shadows serve each block of them once it is whole.

    Where lateness has no say in the price (it is switched off, or a quantile is stated) no shadow serves anything.
    """

    def __init__(self, *, policy: PlanPolicy, rules: PoolRules, service_s: float) -> None:
        self.policy = policy
        self.price = Price(log_price=policy.log_price)
        self._shadows = ShadowPools(rules=rules, policy=policy, service_s=service_s)
        self._demand: list[FloatArray] = []
        self._wanted: list[IntArray] = []
        self._minutes = 0

    def renew(self, *, rules: PoolRules, service_s: float) -> None:
        """From the next block on, boots and jobs take other times."""
        self._shadows.rules, self._shadows.service_s = rules, service_s

    def extend(self, demand: FloatArray, wanted: IntArray) -> FloatArray:
        """Take in minutes, and return the logarithm of the price that each of them is planned at: [minutes].

        demand: mean GPUs per minute, NaN for a gap. wanted: [minutes, horizons, PRICES], what was planned at each.
        """
        log_prices = np.full(len(demand), self.price.log_price)
        if not self.policy.is_price_sought:
            return log_prices
        begin = 0
        while begin < len(demand):
            end = min(len(demand), begin + BLOCK_MINUTES - self._minutes)
            log_prices[begin:end] = self.price.log_price
            self._demand.append(demand[begin:end])
            self._wanted.append(wanted[begin:end])
            self._minutes += end - begin
            if self._minutes == BLOCK_MINUTES:
                self.close_block()
            begin = end
        return log_prices

    def close_block(self) -> None:
        """Have the minutes served that have come since the last block, however few they are."""
        if not self._minutes:
            return
        self._shadows.learn(np.concatenate(self._demand), np.concatenate(self._wanted))
        self._demand, self._wanted, self._minutes = [], [], 0
        self.price = Price(log_price=self._shadows.log_price(), blocks=self.price.blocks + 1)


class ShadowPools:
    """One pool for each of PRICES."""

    def __init__(self, *, rules: PoolRules, policy: PlanPolicy, service_s: float) -> None:
        self.rules, self.service_s = rules, service_s
        self._policy = policy
        self._replicas: list[int] = []
        self._late = np.zeros(len(PRICES))
        self._jobs = 0.0
        self._blocks = 0
        self._evidence = 0.0

    def learn(self, demand: FloatArray, wanted: IntArray) -> None:
        """Serve one block, of up to BLOCK_MINUTES, at every price.

        demand: mean GPUs per minute, NaN for a gap. wanted: [minutes, horizons, PRICES], what was planned at each.
        """
        workload = draw_jobs(demand, seed=JOBS_SEED + self._blocks, mean_service_s=self.service_s)
        timeline = Timeline(workload)
        if not self._replicas:
            # Each begins with what it plans: no pool is late only because it did not exist before.
            self._replicas = [max(self._policy.replicas_min, int(most)) for most in wanted[0].max(axis=0)]
        fade = 0.5 ** (1 / HALF_LIFE_BLOCKS)
        self._blocks += 1
        self._evidence = fade * self._evidence + 1.0
        self._jobs = fade * self._jobs + len(workload.arrivals_s)
        for place, price in enumerate(PRICES):
            pool = PlannedPolicy(wanted, policy=self._policy, rules=self.rules, log_prices=np.array([np.log(price)]))
            served = simulate(timeline, pool, rules=self.rules, replicas=self._replicas[place])
            self._late[place] = fade * self._late[place] + served.late_jobs
            self._replicas[place] = max(self._policy.replicas_min, int(served.replicas[-1]))

    def log_price(self) -> float:
        """Return the logarithm of the price at which `late_share_target` would have come late.

        The costs of the policy say what it is while little is known, and count as much as PRIOR_BLOCKS later.
        """
        prior = self._policy.log_price
        if self._jobs < 1:
            return prior
        # A higher price never makes more jobs late but by chance.
        shares = np.maximum.accumulate((self._late / self._jobs)[::-1])[::-1]
        scores = -np.log(np.maximum(shares, SHARE_MIN))
        found = float(np.interp(-np.log(self._policy.late_share_target), scores, np.log(PRICES)))
        return (self._evidence * found + PRIOR_BLOCKS * prior) / (self._evidence + PRIOR_BLOCKS)
