"""Where an order goes: home first, elsewhere when that is clearly better, back when home is clearly well again."""

import random
from collections.abc import Mapping

import msgspec
import pytest

from halfdrop.contracts.jobs import Job
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.pools import STATE_KEPT_S, Lane, WorkerState
from halfdrop.edge.region_choice import Heard, RegionChoice, RegionView, SpillRule, choose_region, expected_wait_s

NOW = 1_000.0
MODEL = "a" * 64
RULE = SpillRule(factor=2.0, wait_min_s=4.0)
ORDER = Job(
    id="0" * 26, origin="test", spec=PatternSpec(prompt="dots", model_digest=MODEL), size_px=1024, created_at=NOW
)


def worker(*, work: float = 0.0, jobs: int = 9, name: str = "w", **members: object) -> WorkerState:
    """A worker that does one unit a second, with one model, before `work` units in the class of ORDER."""
    lanes = (Lane(job_class="standard", tenant="t", jobs=jobs, work=work),) if work else ()
    known = {"region": "", "worker": name, "at": NOW, "units_per_s": 1.0, "models": (MODEL,), "lanes": lanes}
    return msgspec.convert({**known, **members}, WorkerState)


def region(name: str, *states: WorkerState, heard_at: float = NOW, is_up: bool = True, **members: object) -> RegionView:
    heard = tuple(Heard(at=heard_at, state=state) for state in states)
    return msgspec.convert({"name": name, "is_up": is_up, "heard": heard, **members}, RegionView)


def choose(*views: RegionView, order: Job = ORDER, previous: str = "") -> RegionChoice:
    return choose_region(order, views, home="eu", now=NOW, previous=previous, rule=RULE)


def after_waits(eu_s: float, us_s: float, previous: str = "") -> str | None:
    return choose(region("eu", worker(work=eu_s)), region("us", worker(work=us_s)), previous=previous).region


@pytest.mark.parametrize(
    ("eu_s", "us_s", "expected"),
    [
        (0, 0, "eu"),
        (50, 50, "eu"),
        (90, 50, "eu"),  # longer, not twice as long
        (110, 50, "us"),
        (3.9, 0, "eu"),  # twice nothing, not worth the way
        (4.1, 0, "us"),
    ],
)
def test_an_order_leaves_home_for_a_wait_that_is_longer_by_the_factor_and_the_minimum(
    eu_s: float, us_s: float, expected: str
) -> None:
    assert after_waits(eu_s, us_s) == expected


def test_it_comes_home_late_and_then_stays() -> None:
    assert after_waits(90, 50, previous="us") == "us"  # it would not have left for this
    assert after_waits(74, 50, previous="us") == "eu"
    assert after_waits(90, 50, previous="eu") == "eu"


def test_a_wait_that_swings_around_the_limit_sends_nothing_to_and_fro() -> None:
    chance = random.Random(5)
    previous, changes = "eu", 0
    for _ in range(500):
        chosen = after_waits(100 + chance.uniform(-12, 12), 50, previous)
        changes += chosen != previous
        previous = str(chosen)
    assert changes == 1


@pytest.mark.parametrize(
    "home",
    [
        region("eu", worker(), is_up=False),
        region("eu", worker(), is_draining=True),
        region("eu", worker(is_draining=True)),
        region("eu"),
        region("eu", worker(), heard_at=NOW - STATE_KEPT_S - 1),
        region("eu", worker(models=())),
        region("eu", worker(size_max_px=512)),
        region("eu", worker(classes=("bulk",))),
    ],
    ids=["away", "drained", "draining workers", "no worker", "silent workers", "model", "size", "class"],
)
def test_home_that_cannot_take_it_is_passed_over_whatever_the_wait(home: RegionView) -> None:
    busy = region("us", worker(work=1e6))
    assert choose(home, busy).region == "us"
    assert choose(home, region("us", is_up=False)).region != "us"


def test_with_nobody_else_it_stays_for_home_unless_home_is_drained() -> None:
    away = region("us", worker(), is_up=False)
    assert choose(region("eu", worker(), is_up=False), away).region == "eu"
    assert choose(region("eu"), away).region == "eu"
    assert choose(region("eu", worker(), is_draining=True), region("us")).region == "us"  # is there, though silent
    kept = choose(region("eu", worker(), is_draining=True), away)
    assert kept == RegionChoice(region=None, reason="eu takes no new orders, us is away")


def test_an_order_with_its_plates_needs_no_model_of_the_worker() -> None:
    plates = {"pattern_key": "k", "model_digest": MODEL, "fields": b"", "palette": (), "type": "plates.v1"}
    with_plates = msgspec.structs.replace(ORDER, plates=msgspec.convert(plates, type=Job.__annotations__["plates"]))
    home = region("eu", worker(models=()))
    assert choose(home, region("us", worker()), order=with_plates).region == "eu"


def test_who_did_not_measure_itself_is_neither_left_nor_preferred() -> None:
    unmeasured = worker(work=500, units_per_s=0.0)
    assert choose(region("eu", unmeasured), region("us", worker())).region == "eu"
    assert choose(region("eu", worker(work=500)), region("us", unmeasured)).region == "eu"


def test_what_was_sent_there_since_counts_as_waiting_there() -> None:
    home = region("eu", worker(work=20))
    assert choose(home, region("us", worker())).region == "us"
    assert choose(home, region("us", worker(), sent_jobs=9, sent_work=18.0)).region == "eu"


def test_a_region_stays_the_other_one_while_another_is_only_a_little_better() -> None:
    views = [region("eu", worker(work=500)), region("us", worker(work=60)), region("ap", worker(work=50))]
    assert choose(*views).region == "ap"
    assert choose(*views, previous="us").region == "us"
    views[1] = region("us", worker(work=120))
    assert choose(*views, previous="us").region == "ap"


@pytest.mark.parametrize(
    ("state", "expected_s"),
    [
        ({"work": 100.0}, 100.0),
        ({"work": 100.0, "units_per_s": 4.0}, 25.0),
        ({"work": 100.0, "slots": 4}, 25.0),
        ({"work": 100.0, "slots": 10}, 0.0),  # nine jobs, ten places
    ],
)
def test_the_wait_is_the_work_ahead_by_the_pools_speed(state: Mapping[str, float], expected_s: float) -> None:
    assert expected_wait_s(ORDER, region("eu", worker(**state)), NOW) == pytest.approx(expected_s)  # type: ignore[arg-type]


def test_work_of_classes_that_yield_delays_by_their_share_only() -> None:
    lanes = (
        Lane(job_class="bulk", tenant="t", jobs=1_000, work=10_000),
        Lane(job_class="standard", tenant="t", jobs=3, work=30),
    )
    wait_s = expected_wait_s(ORDER, region("eu", worker(lanes=lanes)), NOW)
    assert wait_s == pytest.approx(30 * (3 + 1) / 3)  # weights 3 and 1: bulk gets a quarter meanwhile
