"""Every metric of the operator, named in one place and read from its tally when Prometheus asks.

Pools are not told apart here: each says of itself in its status, which `kubectl get gpupools` shows.
"""

from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from msgspec import Struct
from prometheus_client.core import Metric

from halfdrop.operator.boots import BootTimes
from halfdrop.operator.deciding import ScalingDecision
from halfdrop.runtime.durations import BOUNDS_S, QUEUE_BOUNDS_S, Durations
from halfdrop.runtime.exposition import Family

BUILD = Family(name="halfdrop_operator_build_info", kind="gauge", meaning="1; who this is", labels=("version",))
RECONCILES = Family(
    name="halfdrop_operator_reconciles_total",
    kind="counter",
    meaning="looks at a pool by how they ended: complete, conflict (others kept changing the target), error",
    labels=("outcome",),
)
DURATION = Family(
    name="halfdrop_operator_reconcile_duration_seconds",
    kind="histogram",
    meaning="one look at one pool, from reading its target to writing its status",
)
CONFLICTS = Family(
    name="halfdrop_operator_conflicts_total",
    kind="counter",
    meaning="times that somebody else changed a target first; the pool was looked at again",
)
CHANGES = Family(
    name="halfdrop_operator_floor_changes_total",
    kind="counter",
    meaning="floors changed: raised, lowered, given_back",
    labels=("outcome",),
)
DECISIONS = Family(
    name="halfdrop_operator_decisions_total",
    kind="counter",
    meaning="decisions by their reason: Plan, Minimum, ReactiveFloor, Maximum, Budget, Ramp, Hysteresis, Cooldown, "
    "Freeze, NoObservation, PlanMissing, PlanStale, PlanAbsurd",
    labels=("code",),
)
POOLS = Family(
    name="halfdrop_operator_pools",
    kind="gauge",
    meaning="pools by what is done for them: Followed (a plan), PlanMissing, PlanStale, PlanAbsurd (the fallback), "
    "NoObservation, Alone (no policy, or a paused one)",
    labels=("state",),
)
REPLICAS = Family(
    name="halfdrop_operator_replicas",
    kind="gauge",
    meaning="over all pools: planned, floor (what targets are asked for), ready",
    labels=("state",),
)
BOOTS = Family(
    name="halfdrop_operator_boot_duration_seconds",
    kind="histogram",
    meaning="from a pod's making to its being ready",
)

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))

ALONE = "Alone"


class PoolTally(Struct, frozen=True, kw_only=True):
    """What holds for one pool now."""

    state: str
    counts: tuple[int, int, int] = (0, 0, 0)
    """Planned, floor, ready."""


class Tally:
    """What the operator did since its start; counted on the event loop."""

    def __init__(self) -> None:
        self.reconciles: Counter[tuple[str]] = Counter({(name,): 0 for name in ("complete", "conflict", "error")})
        self.durations = Durations(BOUNDS_S)
        self.conflicts = 0
        self.changed: Counter[tuple[str]] = Counter({(name,): 0 for name in ("raised", "lowered", "given_back")})
        self.decisions: Counter[tuple[str]] = Counter()
        self.boots = Durations(QUEUE_BOUNDS_S)
        self._pools: dict[tuple[str, str], PoolTally] = {}

    def reconciled(self, outcome: str, seconds: float) -> None:
        """Count one look at a pool."""
        self.reconciles[outcome,] += 1
        self.durations.add(seconds)

    def decided(
        self, pool: tuple[str, str], decision: ScalingDecision, *, floor: int | None, ready: int | None
    ) -> None:
        """Count a decision, and keep what holds for the pool now."""
        self.decisions[decision.reason,] += 1
        state = decision.reason if decision.reason == "NoObservation" else decision.plan_reason
        self._pools[pool] = PoolTally(state=state, counts=(decision.replicas or 0, floor or 0, ready or 0))

    def left_alone(self, pool: tuple[str, str]) -> None:
        """Note that nothing is done for the pool."""
        self._pools[pool] = PoolTally(state=ALONE)

    def forget(self, pool: tuple[str, str]) -> None:
        """Drop a pool that is gone."""
        self._pools.pop(pool, None)

    def booted(self, boot: BootTimes, *, known: BootTimes) -> None:
        """Count the boots that are new in `boot`."""
        fresh = min(boot.samples - known.samples, len(boot.recent_seconds))
        for seconds in boot.recent_seconds[len(boot.recent_seconds) - fresh :]:
            self.boots.add(float(seconds))

    def pools(self) -> list[PoolTally]:
        """Return what holds for each pool, whatever the loop adds meanwhile."""
        return list(self._pools.values())


def read_metrics(tally: Tally) -> Iterator[Metric]:
    """Yield every family with its present values; runs in a thread beside the loop."""
    pools = tally.pools()
    planned, floor, ready = (sum(pool.counts[column] for pool in pools) for column in range(3))
    yield BUILD.by([((version("halfdrop"),), 1)])
    yield RECONCILES.by(list(tally.reconciles.items()))
    yield DURATION.of(tally.durations)
    yield CONFLICTS.of(tally.conflicts)
    yield CHANGES.by(list(tally.changed.items()))
    yield DECISIONS.by(list(tally.decisions.items()))
    yield POOLS.by(((state,), count) for state, count in Counter(pool.state for pool in pools).items())
    yield REPLICAS.by([(("planned",), planned), (("floor",), floor), (("ready",), ready)])
    yield BOOTS.of(tally.boots)
