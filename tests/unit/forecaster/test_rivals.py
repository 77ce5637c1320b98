"""The emulated autoscalers do what their documentation says, on its own examples."""

import numpy as np

from halfdrop.forecaster.rivals_predictive import (
    AwsPredictive,
    CraneEhpa,
    DemandMeter,
    DynamoPlanner,
    PredictiveHpa,
)
from halfdrop.forecaster.rivals_reactive import HpaBehaviour, HpaUtilisation, KedaQueue, KnativeKpa, hpa_wish
from halfdrop.forecaster.scaling import Observation


def see(now_s: int = 15, **known: float) -> Observation:
    base: dict[str, float] = {
        "ready": 10,
        "booting": 0,
        "busy": 5,
        "queued": 0,
        "mean_busy": 5.0,
        "mean_concurrency": 5.0,
        "arrived": 3,
        "offered_gpu_s": 75.0,
    }
    return Observation(now_s=now_s, **(base | known))  # type: ignore[arg-type]


def test_hpa_doubles_at_twice_the_target_and_halves_at_half() -> None:
    assert hpa_wish(usage=8.0, ready=8, unready=0, target=0.5) == 16
    assert hpa_wish(usage=2.0, ready=8, unready=0, target=0.5) == 4


def test_hpa_leaves_ten_percent_alone() -> None:
    assert hpa_wish(usage=5.4, ready=10, unready=0, target=0.5) == 10
    assert hpa_wish(usage=5.6, ready=10, unready=0, target=0.5) == 12


def test_pods_that_are_not_ready_damp_the_way_up() -> None:
    assert hpa_wish(usage=10.0, ready=10, unready=10, target=0.5) == 20
    assert hpa_wish(usage=10.0, ready=10, unready=5, target=0.5) == 20


def test_hpa_grows_by_the_larger_of_double_and_four() -> None:
    assert HpaBehaviour().limit(100, 10) == 20
    assert HpaBehaviour().limit(100, 1) == 5


def test_hpa_waits_five_minutes_before_it_shrinks() -> None:
    behaviour = HpaBehaviour()
    assert behaviour.limit(20, 20) == 20
    assert [behaviour.limit(5, 20) for _ in range(19)] == [20] * 19
    assert behaviour.limit(5, 20) == 5


def test_keda_divides_the_lag_by_its_threshold() -> None:
    assert KedaQueue(0.5).decide(see(queued=2, busy=5)).replicas == 14
    assert HpaUtilisation(0.5).decide(see()).replicas == 10


def test_knative_panics_at_twice_the_ready_replicas_and_gives_nothing_back_for_a_minute() -> None:
    kpa = KnativeKpa(0.7)
    assert kpa.decide(see(15, mean_concurrency=7.0)).replicas == 10
    rush = kpa.decide(see(30, mean_concurrency=28.0))
    assert (rush.replicas, rush.reason) == (40, "panic")
    assert [kpa.decide(see(now, mean_concurrency=1.0)).replicas for now in (45, 60, 75, 90)] == [40] * 4
    assert kpa.decide(see(105, mean_concurrency=1.0)).reason == "stable"


def test_knative_halves_at_most() -> None:
    assert KnativeKpa(0.7).decide(see(ready=40, mean_concurrency=1.0)).replicas == 20


def daily_history(days: int) -> np.ndarray:
    minute = np.arange(days * 1_440)
    return np.where(minute % 1_440 >= 720, 20.0, 4.0)


def test_predictive_hpa_knows_the_step_at_noon_from_the_days_before() -> None:
    history = np.concatenate([daily_history(4), np.full(719, 4.0)])
    policy = PredictiveHpa(0.5, DemandMeter(history, 10))
    for now in (15, 30, 45, 60):
        decision = policy.decide(see(now, ready=8, mean_busy=4.0, offered_gpu_s=60.0))
    assert decision.reason == "predicted"
    assert decision.replicas > 8


def test_crane_takes_the_largest_of_the_next_hour_in_past_days_with_its_margin() -> None:
    history = np.concatenate([daily_history(3), np.full(659, 4.0)])
    policy = CraneEhpa(0.5, DemandMeter(history, 10))
    times = range(15, 181, 15)
    wanted = [policy.decide(see(now, ready=46, mean_busy=4.0, offered_gpu_s=60.0)).replicas for now in times]
    assert policy._predict() == 46, "20 GPUs, 15 % more, at half load"
    assert wanted[-1] == 46


def test_aws_launches_five_minutes_before_the_hour() -> None:
    history = np.concatenate([daily_history(7), np.full(714, 4.0)])
    policy = AwsPredictive(0.5, DemandMeter(history, 10))
    decisions = [policy.decide(see(now, ready=8, mean_busy=4.0, offered_gpu_s=60.0)) for now in range(15, 61, 15)]
    assert [decision.replicas for decision in decisions] == [8, 8, 8, 40]
    assert decisions[-1].reason == "forecast"


def test_dynamo_follows_the_rate_every_three_minutes() -> None:
    policy = DynamoPlanner(0.5, DemandMeter(np.full(150, 10.0), 10))
    assert policy.decide(see(15, offered_gpu_s=150.0)).replicas == 20
    decisions = [policy.decide(see(now, offered_gpu_s=300.0)).replicas for now in range(30, 181, 15)]
    assert decisions[:-1] == [20] * 10
    assert decisions[-1] > 36
