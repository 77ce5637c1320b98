"""Boot times are counted once each, and money by the calendar month, over all pools of a policy."""

from datetime import UTC, datetime

import pytest

from halfdrop.operator.boots import KEPT, BootTimes, PodBoot, learn_boots
from halfdrop.operator.observing import read_boot
from halfdrop.operator.policies import Budget
from halfdrop.operator.spending import PoolCost, Spend, add_spend, budget_left

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC).timestamp()


def boot(ready_at: float, seconds: float, restarts: int = 0) -> PodBoot:
    return PodBoot(created_at=ready_at - seconds, ready_at=ready_at, restarts=restarts)


def test_quantiles_are_boots_that_were_measured() -> None:
    known = learn_boots(BootTimes(), [boot(1000.0 + n, float(n)) for n in range(1, 21)])
    assert (known.samples, known.p50_seconds, known.p95_seconds, known.until) == (20, 10, 19, 1020.0)


def test_each_boot_is_counted_once_also_after_a_restart_of_the_operator() -> None:
    pods = [boot(1000.0, 100.0), boot(1100.0, 300.0)]
    known = learn_boots(BootTimes(), pods)
    assert learn_boots(known, pods) is known
    again = learn_boots(known, [*pods, boot(1200.0, 200.0)])
    assert (again.samples, again.recent_seconds) == (3, (100, 300, 200))


def test_what_is_no_boot_teaches_nothing() -> None:
    assert learn_boots(BootTimes(), [boot(9000.0, 3601.0), boot(9000.0, 50.0, restarts=1)]) == BootTimes()


def test_old_boots_are_forgotten() -> None:
    known = learn_boots(BootTimes(), [boot(1000.0 + n, 500.0) for n in range(KEPT)])
    known = learn_boots(known, [boot(3000.0 + n, 60.0) for n in range(KEPT)])
    assert (known.samples, known.p95_seconds, len(known.recent_seconds)) == (2 * KEPT, 60, KEPT)


def test_a_pod_is_read_only_once_it_is_ready() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-30T12:05:00Z"}
    pod = {"metadata": {"creationTimestamp": "2026-11-30T12:00:00Z"}, "status": {"conditions": [ready]}}
    assert read_boot(pod) == PodBoot(created_at=NOON, ready_at=NOON + 300)
    assert read_boot({**pod, "status": {"conditions": [{**ready, "status": "False"}]}}) is None
    assert read_boot({**pod, "status": None}) is None


def test_money_is_replicas_times_hours_and_begins_anew_each_month() -> None:
    spend = add_spend(Spend(), replicas=4, cost_per_replica_hour=2.0, now=NOON)
    assert spend == Spend(month="2026-11", amount=0.0, at=NOON)
    spend = add_spend(spend, replicas=4, cost_per_replica_hour=2.0, now=NOON + 1800)
    assert (spend.month, spend.amount) == ("2026-11", 4.0)
    # twelve and a half hours on it is half past midnight of the first: half an hour counts for December
    spend = add_spend(spend, replicas=4, cost_per_replica_hour=2.0, now=NOON + 45_000)
    assert (spend.month, spend.amount) == ("2026-12", pytest.approx(4.0))


def test_a_clock_that_was_put_back_earns_nothing() -> None:
    spend = Spend(month="2026-11", amount=3.0, at=NOON)
    assert add_spend(spend, replicas=9, cost_per_replica_hour=1.0, now=NOON - 60) == spend


def test_a_budget_is_for_all_pools_of_the_policy() -> None:
    own, other = PoolCost(per_hour=5.0, this_month=40.0), PoolCost(per_hour=7.0, this_month=30.0)
    left = budget_left(Budget(per_hour=20.0, per_month=100.0), own=own, others=[other])
    assert (left.per_hour, left.per_month) == (13.0, 30.0)
    assert budget_left(Budget(), own=own, others=[other]).per_hour is None
