"""Plans for the operator: the newest of each pool in the bucket PLANS of its region's hub."""

import asyncio
import time
from collections import Counter

import numpy as np
import structlog
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from halfdrop.contracts.errors import HalfdropError
from halfdrop.contracts.plans import (
    PLANS_BUCKET,
    CapacityFor,
    DemandPlan,
    DemandSeries,
    encode_plan,
    find_absurdity,
    plan_key,
)
from halfdrop.contracts.subjects import hub_domain
from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES
from halfdrop.forecaster.service.planner import Planner, Pool
from halfdrop.forecaster.workload import MINUTE_S, FloatArray
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.streams import ensure_bucket

log = structlog.get_logger()

STEPS = 60
"""Minutes that are published: longer than any boot."""

RECONNECT_S = 5.0


def make_plan(pool: Pool, quantiles: FloatArray, horizons: tuple[int, ...], *, minute: int) -> DemandPlan:
    """Return what the operator is told: quantiles of busy GPUs minute by minute, from the end of `minute` on.

    Between two horizons it is the straight line. Beside the quantiles stands the capacity that is cheapest at the price
    of lateness; a policy that states a quantile has that one. A forecast that was bad is not passed on: the floor of
    the newest minutes stands in its place, with the reason in `note`.
    """
    planned = pool.planned
    assert planned is not None
    ahead = np.arange(1, STEPS + 1)
    busy = np.column_stack([np.interp(ahead, horizons, quantiles[:, place]) for place in range(len(QUANTILES))])
    wanted = planned.wanted or (planned.reactive_floor,) * len(PLAN_HORIZONS_MINUTES)
    capacity = np.interp(ahead, PLAN_HORIZONS_MINUTES, wanted)
    if planned.fallback:
        floor = float(planned.reactive_floor)
        busy = np.maximum(busy, floor) if planned.wanted else np.full_like(busy, floor)
        capacity = np.maximum(capacity, floor)
    policy = pool.terms.policy
    return DemandPlan(
        region=pool.terms.region,
        pool=pool.terms.name,
        made_at=float((minute + 1) * MINUTE_S),
        starts_at=float((minute + 1) * MINUTE_S),
        quantiles=QUANTILES,
        series=(
            DemandSeries(
                busy=tuple(tuple(row) for row in np.round(busy, 4).tolist()),
                capacity=tuple(np.round(capacity, 4).tolist()),
            ),
        ),
        capacity_for=CapacityFor(
            late_share=policy.late_share_target if policy.is_price_sought else None,
            quantile=policy.quantile,
            price=planned.price,
        ),
        note=planned.fallback,
    )


class Publisher:
    """Publishes the plans of all pools. One `run` for each hub."""

    def __init__(self, planner: Planner, hubs: dict[str, str]) -> None:
        self._planner, self._hubs = planner, hubs
        self._home = next(iter(hubs))
        self._published: dict[str, int] = {}
        self.outcomes: Counter[str] = Counter(published=0, failed=0)

    async def run(self, region: str) -> None:
        """Keep the plans of one region's hub new until cancelled."""
        url = self._hubs[region]
        while True:
            try:
                async with open_broker(url, name="planner", domain=hub_domain(region)) as broker:
                    bucket = await ensure_bucket(broker.js, PLANS_BUCKET)
                    await self._publish_on_news(bucket, region)
            except (HalfdropError, NatsError, TimeoutError) as error:
                self.outcomes["failed"] += 1
                words = str(error) or type(error).__name__
                for pool in self._pools_of(region):
                    pool.published = f"Not published: {words}"
                log.warning("plans_unpublished", region=region, error=words)
            await asyncio.sleep(RECONNECT_S)

    async def _publish_on_news(self, bucket: KeyValue, region: str) -> None:
        revision = -1
        while True:
            for pool in self._pools_of(region):
                await self._publish(bucket, pool)
            revision = await self._planner.wait_for_news(revision, timeout_s=60.0)

    async def _publish(self, bucket: KeyValue, pool: Pool) -> None:
        """Publish a pool's plan if it is newer than what was published, and of the present."""
        node, planned = self._planner.forecasting.find(pool.terms.choice), pool.planned
        if node is None or node.newest is None or planned is None or planned.minute != self._planner.table.end - 1:
            return
        newest = node.newest
        if newest.end_minute != planned.minute + 1 or self._planner.is_stale:
            return
        if self._published.get(pool.terms.key, 0) >= planned.minute and not pool.is_replanned:
            return
        quantiles = self._planner.with_events(
            newest.quantiles, newest.horizons, choice=pool.terms.choice, minute=planned.minute
        )
        plan = make_plan(pool, quantiles, newest.horizons, minute=planned.minute)
        if absurdity := find_absurdity(plan, now=time.time()):
            pool.published = f"Not published: {absurdity}"
            return
        await bucket.put(plan_key(plan.region, plan.pool), encode_plan(plan))
        self._published[pool.terms.key], pool.is_replanned = planned.minute, False
        self.outcomes["published"] += 1
        pool.published = f"Published as {plan_key(plan.region, plan.pool)}."

    def _pools_of(self, region: str) -> list[Pool]:
        """Return the pools whose plans lie on this hub: its region's, and at home those of regions without one."""
        return [
            pool
            for pool in self._planner.pools.values()
            if pool.terms.region == region or (region == self._home and pool.terms.region not in self._hubs)
        ]
