"""Which policy a pool obeys, and what of its status survives being damaged."""

from typing import Any

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.operator.governing import governing_policy, read_policy
from halfdrop.operator.records import PoolRecord, read_record
from halfdrop.operator.reporting import update_conditions

GPU = {"tier": "gpu", "zone": "a"}


def policy(name: str, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Any:
    body = {"metadata": {"name": name, "creationTimestamp": created}, "spec": {"maxReplicas": 5, **spec}}
    return read_policy(body)


def test_a_pool_is_named_or_selected_by_all_of_the_labels() -> None:
    named, selecting = policy("n", pools=["h100"]), policy("s", poolSelector={"matchLabels": {"tier": "gpu"}})
    other = policy("o", poolSelector={"matchLabels": {"tier": "gpu", "zone": "b"}})
    assert governing_policy([other, named], name="h100", labels={}) == named
    assert governing_policy([other, selecting], name="x", labels=GPU) == selecting
    assert governing_policy([other], name="x", labels=GPU) is None


def test_of_several_policies_the_oldest_governs_and_one_that_is_deleted_does_not() -> None:
    old, young = policy("z", "2026-01-01T00:00:00Z", pools=["p"]), policy("a", "2026-02-01T00:00:00Z", pools=["p"])
    assert governing_policy([young, old], name="p", labels={}) == old
    leaving = read_policy(
        {"metadata": {"name": "z", "deletionTimestamp": "now"}, "spec": {"pools": ["p"], "maxReplicas": 5}}
    )
    assert governing_policy([leaving, young], name="p", labels={}) == young


def test_a_zone_that_is_none_and_a_foreign_spec_are_refused_in_words() -> None:
    schedule = {"name": "a", "timeZone": "Mars/Olympus", "from": "08:00", "until": "09:00", "minReplicas": 1}
    with pytest.raises(InvalidInput, match=r"spec.schedules\[a\].timeZone: got 'Mars/Olympus'"):
        policy("p", schedules=[schedule])
    with pytest.raises(InvalidInput, match="apply the CRDs of this release"):
        policy("p", maxReplicas="many")


def test_a_damaged_status_is_begun_anew_where_it_is_damaged() -> None:
    status = {
        "decision": {"replicas": "many"},
        "boot": {"samples": 3, "p95Seconds": 300, "p50Seconds": 200, "recentSeconds": [200, 300, 200]},
        "spend": {"month": "2026-11", "amount": 4.5, "at": 10},
        "conditions": [{"type": "Applied"}, None],
    }
    record = read_record({"status": status})
    assert record.memory == PoolRecord().memory
    assert (record.boot.p95_seconds, record.spend.amount, record.conditions) == (300, 4.5, {})


def test_conditions_keep_the_time_of_their_last_turn_and_tell_of_turns_only() -> None:
    first, news = update_conditions({}, [("Applied", "True", "FloorHeld", "held")], generation=1, now=0.0)
    assert news == []
    second, news = update_conditions(first, [("Applied", "True", "FloorHeld", "still")], generation=2, now=60.0)
    assert second["Applied"].last_transition_time == "1970-01-01T00:00:00Z"
    assert (second["Applied"].message, second["Applied"].observed_generation, news) == ("still", 2, [])
    third, news = update_conditions(second, [("Applied", "False", "Forbidden", "no right")], generation=2, now=120.0)
    assert third["Applied"].last_transition_time == "1970-01-01T00:02:00Z"
    assert [(notice.type, notice.reason) for notice in news] == [("Warning", "Forbidden")]
    _, news = update_conditions(third, [("Applied", "False", "TargetTaken", "taken")], generation=2, now=130.0)
    assert [notice.reason for notice in news] == ["TargetTaken"]
