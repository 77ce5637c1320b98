"""What if: the same days on other terms. The arithmetic is the replay's; here are the terms and the comparison."""

import msgspec
import numpy as np
import pytest
import yaml

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.service.policies import Wishes, make_yaml, replay_terms
from halfdrop.forecaster.service.pools import PoolTerms
from halfdrop.forecaster.what_if import POINTS, Question, Terms, learn, replay_question
from halfdrop.operator.policies import CapacityPolicySpec

TERMS = Terms(policy=PlanPolicy(), boot_min_s=240, boot_max_s=480, price_per_hour=2.0)


def make_question(scenario: Terms | None, *, gpus: float = 6.0) -> Question:
    minutes = np.arange(1440)
    dice = np.random.default_rng(4)
    demand = gpus * (1 + 0.6 * np.sin(2 * np.pi * minutes / 360)) + dice.normal(0, 0.4, len(minutes))
    return Question(
        gpus=np.maximum(demand, 0),
        start_minute=29_000_000,
        window_minutes=720,
        mean_service_s=20.0,
        present=TERMS,
        scenario=scenario,
    )


def test_shorter_boots_and_spot_cost_less_and_everybody_serves_the_same_jobs() -> None:
    told: list[tuple[str, float]] = []
    scenario = msgspec.structs.replace(
        TERMS, boot_min_s=30, boot_max_s=60, spot_share=0.5, spot_price_factor=0.4, spot_interruptions_per_day=2.0
    )
    answer = replay_question(make_question(scenario), lambda doing, share: told.append((doing, share)))
    assert answer.scenario is not None
    assert answer.scenario.cost < answer.present.cost
    assert answer.present.cost == pytest.approx(2.0 * answer.present.gpu_hours)
    assert answer.scenario.cost == pytest.approx(2.0 * 0.7 * answer.scenario.gpu_hours)
    assert answer.oracle.oracle_ratio == 1.0
    assert answer.oracle.late_share <= 0.01
    assert answer.present.gpu_hours > answer.work_hours
    assert len(answer.demand) == len(answer.present.capacity) == POINTS
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert {"learning the days before", "the present policy", "the scenario", "hindsight"} <= {
        doing for doing, _ in told
    }


def test_what_was_learnt_before_gives_the_same_answer() -> None:
    question = make_question(None)
    kept = msgspec.structs.replace(question, learnt=learn(question, lambda *_: None))
    fresh = replay_question(question, lambda *_: None)
    assert replay_question(kept, lambda *_: None) == fresh
    assert fresh.scenario is None


def test_a_minimum_is_kept_and_paid() -> None:
    scenario = msgspec.structs.replace(TERMS, policy=PlanPolicy(replicas_min=30))
    answer = replay_question(make_question(scenario), lambda *_: None)
    assert answer.scenario is not None
    assert min(answer.scenario.capacity) >= 30
    assert answer.scenario.late_jobs == 0


@pytest.mark.parametrize("gpus", [0.0, 90_000.0])
def test_nothing_to_serve_and_far_too_much_are_refused(gpus: float) -> None:
    question = msgspec.structs.replace(make_question(None), gpus=np.full(1440, gpus))
    with pytest.raises(InvalidInput, match="jobs"):
        replay_question(question, lambda *_: None)


def test_a_replay_that_is_called_off_ends_at_once() -> None:
    def tell(doing: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_question(make_question(None), tell)


def test_wishes_change_what_they_say_and_nothing_else() -> None:
    terms = PoolTerms(region="eu", policy=PlanPolicy(hold_minutes=5))
    wished = Wishes(late_share_target=0.02, replicas_min=4, price_per_hour=3.5).on(terms)
    assert (wished.policy.late_share_target, wished.policy.replicas_min, wished.price_per_hour) == (0.02, 4, 3.5)
    assert (wished.policy.hold_minutes, wished.boot_max_s) == (5, terms.boot_max_s)
    with pytest.raises(InvalidInput, match="replicas_min"):
        Wishes(replicas_min=3_000).on(terms)
    with pytest.raises(InvalidInput, match="boot_max_s"):
        Wishes(boot_min_s=600).on(terms)


def test_measured_boots_move_the_bounds_and_keep_the_spread() -> None:
    terms = replay_terms(PoolTerms(region="eu"), boot_p95_s=234.0)
    assert (terms.boot_min_s, terms.boot_max_s) == (120, 240)
    assert terms.rules().boot_quantile_s(0.95) == pytest.approx(234.0)


def test_the_policy_is_one_that_the_operator_reads() -> None:
    terms = PoolTerms(
        region="eu-1",
        name="h100",
        classes=("realtime", "standard"),
        policy=PlanPolicy(late_share_target=0.004, replicas_min=2, replicas_max=40),
    )
    document = yaml.safe_load(make_yaml(terms, why="Replayed: 0.4 % late\ninstead of 1 %: # cheaper"))
    assert (document["kind"], document["metadata"]["name"]) == ("CapacityPolicy", "eu-1-h100")
    spec = msgspec.convert(document["spec"], CapacityPolicySpec)
    assert (spec.pools, spec.job_classes) == (("h100",), ("realtime", "standard"))
    assert (spec.min_replicas, spec.max_replicas, spec.objective.late_share) == (2, 40, 0.004)
    assert spec.scale_down.cooldown_seconds == terms.policy.hold_minutes * 60
    by_cost = make_yaml(PoolTerms(region="eu", policy=PlanPolicy(is_margin_steered=False)))
    objective = msgspec.convert(yaml.safe_load(by_cost)["spec"], CapacityPolicySpec).objective
    assert objective.costs is not None
    assert objective.costs.late_replica_minute == 19
