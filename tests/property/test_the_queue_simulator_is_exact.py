"""The simulator's short cuts change nothing: the same figures as a plain walk over every second and every GPU."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from halfdrop.forecaster.oracle import bridge_gaps
from halfdrop.forecaster.queue_simulator import PoolRules, Timeline, simulate
from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, ScalingDecision
from halfdrop.forecaster.workload import Workload, make_workload

BOOT_S = 40


class Script:
    """Names numbers from a list, whatever it sees; keeps what it saw."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.seen: list[Observation] = []

    def decide(self, seen: Observation) -> ScalingDecision:
        self.seen.append(seen)
        return ScalingDecision(replicas=self.numbers[len(self.seen) % len(self.numbers)], reason="script")


def walk_plainly(workload: Workload, numbers: list[int], replicas: int) -> tuple[int, int, list[int]]:
    """Return GPU-seconds paid, late jobs, and the GPUs at work at the end of each interval; every boot takes BOOT_S."""
    gpus = [{"ready_at": 0, "begun": 0, "busy_until": 0, "is_leaving": False} for _ in range(replicas)]
    waiting: list[tuple[int, int]] = []
    jobs = list(zip(workload.arrivals_s.tolist(), workload.service_s.tolist(), strict=True))
    paid = late = 0
    busy_at_end = []
    for tick in range(workload.length_s):
        if tick and tick % DECISION_INTERVAL_S == 0:
            wanted = max(1, numbers[tick // DECISION_INTERVAL_S % len(numbers)])
            staying = [gpu for gpu in gpus if not gpu["is_leaving"]]
            booting = sorted((g for g in staying if g["ready_at"] > tick - 1), key=lambda g: g["begun"])
            for gpu in booting[::-1][: max(0, len(staying) - wanted)]:
                gpus.remove(gpu)
                staying.remove(gpu)
            by_end = sorted(staying, key=lambda g: g["busy_until"])
            for gpu in by_end[: max(0, len(staying) - wanted)]:
                gpu["is_leaving"] = True
            gpus += [
                {"ready_at": tick + BOOT_S, "begun": tick, "busy_until": 0, "is_leaving": False}
                for _ in range(wanted - len(staying))
            ]
        waiting += [job for job in jobs if job[0] == tick]
        gpus = [gpu for gpu in gpus if not (gpu["is_leaving"] and gpu["busy_until"] <= tick)]
        for gpu in gpus:
            if waiting and not gpu["is_leaving"] and gpu["ready_at"] <= tick and gpu["busy_until"] <= tick:
                came, takes = waiting.pop(0)
                gpu["busy_until"] = tick + takes
                late += tick - came > 10
        paid += len(gpus)
        if tick % DECISION_INTERVAL_S == DECISION_INTERVAL_S - 1:
            busy_at_end.append(sum(gpu["busy_until"] > tick for gpu in gpus))
    late += sum(workload.length_s - came > 10 for came, _ in waiting)
    return paid, late, busy_at_end


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 299), st.integers(1, 70)), max_size=60),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.integers(1, 6),
)
def test_a_replay_equals_a_plain_walk_over_every_second(
    jobs: list[tuple[int, int]], numbers: list[int], replicas: int
) -> None:
    workload = make_workload(
        np.array([job[0] for job in jobs], dtype=np.int64),
        np.array([job[1] for job in jobs], dtype=np.int64),
        length_s=300,
    )
    script = Script(numbers)
    outcome = simulate(
        Timeline(workload), script, rules=PoolRules(boot_min_s=BOOT_S, boot_max_s=BOOT_S), replicas=replicas
    )
    paid, late, busy = walk_plainly(workload, numbers, replicas)
    assert outcome.late_jobs == late
    assert [seen.busy for seen in script.seen] == busy
    assert round(outcome.gpu_hours * 3600) == paid


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=14), st.integers(1, 5))
def test_bridged_gaps_are_the_cheapest_cover(needed: list[int], boot: int) -> None:
    cover, boots = bridge_gaps(np.array(needed), boot)
    assert (cover >= needed).all()
    costs = []
    for bits in range(2 ** len(needed)):
        plan = [bits >> place & 1 for place in range(len(needed))]
        if all(have >= need for have, need in zip(plan, needed, strict=True)):
            begun = sum(now > before for before, now in zip([1, *plan], plan, strict=False))
            costs.append(sum(plan) + boot * begun)
    # A GPU that is there at first need not be booted, but need not be kept either where nothing wants it yet.
    assert cover.sum() + boot * boots <= min(costs) + boot
    assert cover.sum() + boot * boots >= min(costs)
