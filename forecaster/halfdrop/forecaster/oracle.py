"""The clairvoyant bound: what a pool costs that knows every arrival and every boot time beforehand.

Definition. Let r(t) be the GPUs at work if no job ever waited, averaged over one of SPANS, times a factor g, rounded
up. A GPU that is needed again after less than the time of a boot is kept; one that is needed later is given
back and booted again just in time, its boot paid. For a fixed r this is the cheapest schedule: the k-th GPU's needs
are intervals, and each gap between two of them costs the lesser of its length and a boot. g is the smallest on a fine
grid at which the simulated share of late jobs stays within the budget, and the span with the least cost is taken: a
minute's mean leaves to the queue what it can carry, and costs 3 to 7 % less than every interval's own. It is no proof
of a lower bound over all schedules (those that choose *which* jobs are late might save a little), and nobody without
foresight reaches it.
"""

import numpy as np

from halfdrop.forecaster.queue_simulator import Outcome, PoolRules, Timeline, simulate
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, ScalingDecision
from halfdrop.forecaster.workload import FloatArray, IntArray

FACTORS = np.arange(0.86, 1.31, 0.02)
SPANS = (1, 4, 12)
"""Decision intervals over which the need is averaged."""


class _Schedule:
    """Follows a schedule that was fixed beforehand, on GPUs that are ready at once."""

    def __init__(self, replicas: IntArray) -> None:
        self._replicas: list[int] = replicas.tolist()

    def decide(self, seen: Observation) -> ScalingDecision:
        index = min(seen.now_s // DECISION_INTERVAL_S, len(self._replicas) - 1)
        return ScalingDecision(replicas=self._replicas[index], reason="known beforehand")


def bridge_gaps(needed: IntArray, boot_intervals: int) -> tuple[IntArray, int]:
    """Return the cheapest cover of `needed`, and how many boots it takes.

    A gap of at most `boot_intervals` in the need of the k-th GPU is bridged, because a boot would cost as much.
    """
    cover = np.zeros(len(needed), dtype=np.int64)
    boots = 0
    for level in range(1, int(needed.max(initial=0)) + 1):
        is_on = needed >= level
        edges = np.flatnonzero(np.diff(np.concatenate([[False], is_on, [False]]).astype(np.int8)))
        begins, ends = edges[::2], edges[1::2]
        is_apart = begins[1:] - ends[:-1] > boot_intervals
        begins, ends = begins[np.concatenate([[True], is_apart])], ends[np.concatenate([is_apart, [True]])]
        boots += len(begins) - int(begins[0] == 0)
        change = np.zeros(len(needed) + 1, dtype=np.int64)
        change[begins] += 1
        change[ends] -= 1
        cover += np.cumsum(change)[:-1]
    return cover, boots


def find_oracle(timeline: Timeline, *, rules: PoolRules, late_budget: float) -> Outcome:
    """Return the cheapest clairvoyant schedule's outcome whose late share is within `late_budget`."""
    means = np.array(timeline.busy_sums, dtype=np.float64) / DECISION_INTERVAL_S
    found = [_cheapest(timeline, _averaged(means, span), rules, late_budget) for span in SPANS]
    in_time = [outcome for outcome in found if outcome.late_share <= late_budget]
    return min(in_time or found[:1], key=lambda outcome: outcome.gpu_hours)


def _averaged(means: FloatArray, span: int) -> FloatArray:
    """Return centred running means; at the edges, of what there is."""
    kernel = np.ones(min(span, len(means)))
    averaged: FloatArray = np.convolve(means, kernel, mode="same") / np.convolve(
        np.ones(len(means)), kernel, mode="same"
    )
    return averaged


def _cheapest(timeline: Timeline, means: FloatArray, rules: PoolRules, late_budget: float) -> Outcome:
    """Return the outcome of the smallest factor that is in time; of the largest there is, if none is."""
    boot_s = rules.boot_quantile_s(0.5)
    low, high = 0, len(FACTORS) - 1
    while low < high:
        middle = (low + high) // 2
        tried = _follow(timeline, means * FACTORS[middle], boot_s, rules, late_budget)
        if tried.is_whole and tried.late_share <= late_budget:
            high = middle
        else:
            low = middle + 1
    return _follow(timeline, means * FACTORS[high], boot_s, rules, 1.0)


def _follow(timeline: Timeline, wanted: FloatArray, boot_s: float, rules: PoolRules, give_up_share: float) -> Outcome:
    needed = np.maximum(np.ceil(wanted - 1e-9).astype(np.int64), rules.replicas_min)
    cover, boots = bridge_gaps(needed, int(boot_s // DECISION_INTERVAL_S))
    at_once = PoolRules(
        boot_min_s=0, boot_max_s=0, late_after_s=rules.late_after_s, replicas_min=0, replicas_max=rules.replicas_max
    )
    served = simulate(timeline, _Schedule(cover), rules=at_once, replicas=int(cover[0]), give_up_share=give_up_share)
    boot_hours = boots * boot_s / 3600
    return Outcome(
        jobs=served.jobs,
        late_jobs=served.late_jobs,
        gpu_hours=served.gpu_hours + boot_hours,
        work_hours=served.work_hours,
        boots=boots,
        boot_hours=boot_hours,
        replicas=cover,
        is_whole=served.is_whole,
    )
