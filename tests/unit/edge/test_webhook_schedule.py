"""Which event goes out next: an order's in order, a slow server alone, the well ones at once. The clock is a hand's."""

import random

import pytest

from halfdrop.contracts.jobs import WebhookEvent
from halfdrop.edge.webhooks.addresses import Endpoint
from halfdrop.edge.webhooks.schedule import (
    IN_FLIGHT_MAX,
    QUIET_S,
    TENANT_IN_FLIGHT_MAX,
    TENANT_UNPROVEN_MAX,
    UNPROVEN_MAX,
    WINDOW_MAX,
    Entry,
    Schedule,
)
from halfdrop.edge.webhooks.timing import FAILURES_TO_OPEN, OPEN_MIN_S

NOW = 1_790_000_000.0


class Hand:
    """A clock that is set by hand."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def schedule(clock: Hand) -> Schedule:
    return Schedule(clock)


def event(
    order: str, kind: WebhookEvent = "completed", *, host: str = "a.com", tenant: str = "acme", number: int = 0
) -> Entry:
    name = kind if kind in ("start", "completed") else f"{kind}-{number}"
    return Entry(
        id=f"{order}.{name}", kind=kind, order_id=order, endpoint=Endpoint(tenant, "https", host, 443),
        url=f"https://{host}/", at=NOW + number, sequence=number,
    )  # fmt: skip


def take_all(schedule: Schedule) -> list[Entry]:
    found = []
    while (entry := schedule.take()) is not None:
        found.append(entry)
    return found


def prove(schedule: Schedule, clock: Hand, *, host: str = "a.com", tenant: str = "acme") -> None:
    """Have a server answer well often enough to earn its whole window."""
    for number in range(WINDOW_MAX):
        schedule.add(event(f"{tenant}-{host}-{number}", host=host, tenant=tenant))
        (entry,) = take_all(schedule)
        schedule.finish(entry, is_well=True)


def test_an_orders_events_go_out_one_after_the_other(schedule: Schedule, clock: Hand) -> None:
    prove(schedule, clock)
    schedule.add(event("one", "start"))
    schedule.add(event("one", "completed"))
    schedule.add(event("two", "start"))
    first = take_all(schedule)
    assert [entry.id for entry in first] == ["one.start", "two.start"]
    schedule.finish(first[0], is_well=True)
    assert [entry.id for entry in take_all(schedule)] == ["one.completed"]


def test_newer_logs_take_the_place_of_older_and_keep_half_a_second_apart(schedule: Schedule, clock: Hand) -> None:
    schedule.add(event("one", "logs", number=1))
    (first,) = take_all(schedule)
    assert schedule.add(event("one", "logs", number=2)) == []
    superseded = schedule.add(event("one", "logs", number=3))
    assert [entry.id for entry in superseded] == ["one.logs-2"]
    schedule.finish(first, is_well=True)
    assert take_all(schedule) == []
    assert schedule.next_look_at() == pytest.approx(NOW + QUIET_S)
    clock.now += QUIET_S
    assert [entry.id for entry in take_all(schedule)] == ["one.logs-3"]


def test_the_end_supersedes_what_it_says_itself(schedule: Schedule, clock: Hand) -> None:
    schedule.add(event("one", "start"))
    schedule.add(event("one", "logs", number=1))
    superseded = schedule.add(event("one", "completed"))
    assert [entry.id for entry in superseded] == ["one.logs-1"]
    (start,) = take_all(schedule)  # never tried: sent first
    start.attempts = 1
    assert schedule.postpone(start, due_at=NOW + 5, is_well=False) is False  # failed: the end does not wait for it
    assert [entry.id for entry in take_all(schedule)] == ["one.completed"]
    assert len(schedule) == 1


def test_a_start_that_waits_for_its_second_try_is_superseded(schedule: Schedule, clock: Hand) -> None:
    schedule.add(event("one", "start"))
    (start,) = take_all(schedule)
    start.attempts = 1
    assert schedule.postpone(start, due_at=NOW + 300, is_well=False)
    assert take_all(schedule) == []
    assert schedule.add(event("one", "completed")) == [start]
    assert [entry.id for entry in take_all(schedule)] == ["one.completed"]


def test_events_come_back_in_order_whatever_order_the_store_has_them_in(schedule: Schedule, clock: Hand) -> None:
    for entry in (event("one", "completed"), event("one", "start")):
        schedule.add(entry)
    assert [entry.id for entry in take_all(schedule)] == ["one.start"]


def test_an_unknown_server_gets_one_attempt_and_earns_more(schedule: Schedule, clock: Hand) -> None:
    for number in range(100):
        schedule.add(event(f"o{number}"))
    for wanted in (1, 2, 3):
        under_way = take_all(schedule)
        assert len(under_way) == wanted
        for entry in under_way[:1]:
            schedule.finish(entry, is_well=True)
        for entry in under_way[1:]:
            schedule.finish(entry, is_well=None)
    prove_left = take_all(schedule)
    schedule.finish(prove_left[0], is_well=False)
    assert take_all(schedule) == []  # back at one, and others are still under way


def test_servers_that_hang_leave_slots_for_those_that_are_well(schedule: Schedule, clock: Hand) -> None:
    prove(schedule, clock, host="well.com", tenant="acme")
    prove(schedule, clock, host="well.com", tenant="bolt")
    for tenant in ("acme", *(f"t{number}" for number in range(9))):
        for number in range(60):
            schedule.add(event(f"{tenant}{number}", host=f"h{number}.com", tenant=tenant))
    hanging = take_all(schedule)
    assert len(hanging) == UNPROVEN_MAX < IN_FLIGHT_MAX
    by_tenant = [entry.endpoint.tenant for entry in hanging]
    assert max(map(by_tenant.count, by_tenant)) <= TENANT_UNPROVEN_MAX < TENANT_IN_FLIGHT_MAX
    for tenant in ("acme", "bolt"):
        schedule.add(event(f"good-{tenant}", host="well.com", tenant=tenant))
    assert {entry.order_id for entry in take_all(schedule)} == {"good-acme", "good-bolt"}
    for entry in hanging:
        schedule.postpone(entry, due_at=NOW + 300, is_well=False)
    assert len(take_all(schedule)) == UNPROVEN_MAX  # those that found no slot


def test_servers_take_turns(schedule: Schedule, clock: Hand) -> None:
    for host in ("a.com", "b.com"):
        prove(schedule, clock, host=host)
    for number in range(20):
        schedule.add(event(f"a{number}", host="a.com"))
    schedule.add(event("b", host="b.com"))
    assert "b" in [entry.order_id for entry in take_all(schedule)][:3]


def test_what_waits_behind_a_breaker_waits_until_a_probe_has_succeeded(schedule: Schedule, clock: Hand) -> None:
    for number in range(20):
        schedule.add(event(f"o{number}"))
    for _ in range(FAILURES_TO_OPEN):
        (entry,) = take_all(schedule)
        schedule.postpone(entry, due_at=NOW + 10_000, is_well=False)
    assert take_all(schedule) == []
    assert schedule.next_look_at() == NOW + OPEN_MIN_S
    clock.now += OPEN_MIN_S
    (probe,) = take_all(schedule)
    schedule.finish(probe, is_well=True)
    assert len(take_all(schedule)) == 2


def test_whatever_happens_every_event_goes_out_once_and_the_counts_come_to_nothing() -> None:
    """Random courses from printed seeds: nothing is forgotten, nothing sent twice, no slot is lost."""
    for seed in range(30):
        chance, clock = random.Random(seed), Hand()
        schedule = Schedule(clock)
        left, done, under_way = set[str](), set[str](), list[Entry]()
        for number in range(300):
            entry = event(
                f"o{chance.randrange(40)}", chance.choice(("start", "logs", "output", "completed")),
                host=f"h{chance.randrange(4)}.com", tenant=chance.choice("ab"), number=number,
            )  # fmt: skip
            entry.id = f"{entry.id}-{number}"
            left.add(entry.id)
            left -= {other.id for other in schedule.add(entry)}
            clock.now += chance.random()
            under_way += take_all(schedule)
            while under_way and chance.random() < 0.6:
                _end(schedule, under_way.pop(chance.randrange(len(under_way))), chance, left, done)
        while len(schedule):
            under_way += take_all(schedule)
            if under_way:
                _end(schedule, under_way.pop(), chance, left, done)
            else:
                look_at = schedule.next_look_at()
                assert look_at is not None, f"seed {seed}: {len(schedule)} events are forgotten"
                clock.now = max(clock.now, look_at)
        assert done == left, seed
        assert (schedule.in_flight, schedule._unproven, len(schedule._lanes)) == (0, 0, 0), seed
        assert not schedule._by_tenant, seed
        assert not schedule._unproven_by_tenant, seed
        assert not schedule._waiting_by_tenant, seed


def _end(schedule: Schedule, entry: Entry, chance: random.Random, left: set[str], done: set[str]) -> None:
    assert entry.id not in done
    if chance.random() < 0.6:
        schedule.finish(entry, is_well=chance.choice((True, True, None)))
        done.add(entry.id)
        return
    entry.attempts += 1
    if not schedule.postpone(
        entry, due_at=schedule._clock() + chance.random() * 9, is_well=chance.choice((False, None))
    ):
        left.discard(entry.id)
