"""When what failed is tried again, when a server is left alone, and how long a secret signs."""

import time

from standardwebhooks.webhooks import Webhook as Verifier

from halfdrop.edge.webhooks.secrets import OVERLAP_S, SIGNING_MAX, SecretBook, WebhookSecret, choose_signing
from halfdrop.edge.webhooks.signatures import format_secret, sign_delivery
from halfdrop.edge.webhooks.timing import (
    FAILURES_TO_OPEN,
    JITTER,
    OPEN_MAX_S,
    OPEN_MIN_S,
    RETRY_AFTER_MAX_S,
    RETRY_DELAYS_S,
    Breaker,
    next_due,
    read_retry_after,
)
from halfdrop.runtime.objects import open_objects

NOW = 1_790_000_000.0


class Hand:
    """A clock that is set by hand."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def test_the_schedule_is_the_standards_and_only_ever_later_by_chance() -> None:
    hours = [0, 0, 0, 2, 5, 10, 14, 20, 24]
    assert [delay // 3600 for delay in RETRY_DELAYS_S] == hours
    assert RETRY_DELAYS_S[:3] == (5, 300, 1800)
    for number, delay_s in enumerate(RETRY_DELAYS_S, start=1):
        soonest, latest = (next_due(number, now=NOW, chance=chance) for chance in (0.0, 1.0))
        assert soonest == NOW + delay_s
        assert latest == NOW + delay_s * (1 + JITTER)
    assert next_due(len(RETRY_DELAYS_S) + 1, now=NOW, chance=0.5) is None


def test_a_receiver_may_ask_for_more_time_within_bounds() -> None:
    assert next_due(1, now=NOW, chance=0, retry_after_s=60) == NOW + 60
    assert next_due(2, now=NOW, chance=0, retry_after_s=60) == NOW + 300
    assert next_due(1, now=NOW, chance=0, retry_after_s=1e9) == NOW + RETRY_AFTER_MAX_S
    assert read_retry_after("120", NOW) == 120
    assert read_retry_after("Mon, 21 Sep 2026 14:14:20 GMT", NOW) == 60
    for wrong in ("", "-5", "soon", "1e9", "٣", "Mon, 21 Sep 2020 14:14:20 GMT", "Mon, 99 Sep 2026 14:14:20 GMT"):
        assert read_retry_after(wrong, NOW) == 0
    assert next_due(1, now=NOW, chance=0, retry_after_s=read_retry_after("9" * 5_000, NOW)) == NOW + RETRY_AFTER_MAX_S


def test_a_breaker_opens_probes_and_closes() -> None:
    clock = Hand()
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.state == "closed"
        assert breaker.ready_at <= clock.now
        breaker.begin()
        breaker.fail()
    assert (breaker.state, breaker.ready_at) == ("open", NOW + OPEN_MIN_S)
    clock.now += OPEN_MIN_S
    assert breaker.state == "half-open"
    breaker.begin()
    assert breaker.ready_at == float("inf")  # one probe at a time
    breaker.fail()
    assert breaker.ready_at == clock.now + 2 * OPEN_MIN_S
    for _ in range(20):
        clock.now = breaker.ready_at
        breaker.begin()
        breaker.fail()
    assert breaker.ready_at == clock.now + OPEN_MAX_S
    clock.now = breaker.ready_at
    breaker.begin()
    breaker.give_up()  # it said nothing of the server: the next one probes
    assert breaker.ready_at <= clock.now
    breaker.begin()
    breaker.succeed()
    assert (breaker.state, breaker.failures, breaker.ready_at) == ("closed", 0, 0)


def test_failures_under_way_when_it_opened_do_not_prolong_it() -> None:
    clock = Hand()
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN + 3):
        breaker.begin()
    for _ in range(FAILURES_TO_OPEN):
        breaker.fail()
    opened = breaker.ready_at
    clock.now += 10
    for _ in range(3):
        breaker.fail()
    assert breaker.ready_at == opened


def secret(name: str, made_at: float) -> WebhookSecret:
    return WebhookSecret(id=name, secret=name.encode() * 32, made_at=made_at)


def test_an_old_secret_signs_along_for_a_day() -> None:
    known = [secret("a", NOW - 10 * OVERLAP_S), secret("b", NOW)]
    assert [one.id for one in choose_signing(known, NOW + OVERLAP_S - 1)] == ["b", "a"]
    assert [one.id for one in choose_signing(known, NOW + OVERLAP_S)] == ["b"]
    many = [secret(chr(ord("a") + number), NOW + number) for number in range(9)]
    assert [one.id for one in choose_signing(many, NOW + 9)] == ["i", "h", "g", "f"][:SIGNING_MAX]


async def test_edges_of_a_region_agree_on_a_tenants_secrets_and_its_rotation() -> None:
    objects, clock = open_objects("memory://"), Hand()
    here, there = SecretBook(objects, clock), SecretBook(objects, clock)
    first = await here.signing("acme")
    assert await there.signing("acme") == first
    assert len(first[0].secret) == 32
    assert await here.signing("bolt") != first
    rotated = await here.rotate("acme", is_at_once=False)
    assert [one.id for one in rotated][1:] == [one.id for one in first]
    clock.now += 6
    assert await there.signing("acme") == rotated
    clock.now += OVERLAP_S
    assert await there.signing("acme") == rotated[:1]
    await there.rotate("acme", is_at_once=True)
    clock.now += 6
    assert len(await here.signing("acme")) == 1
    assert (await here.signing("acme"))[0] not in rotated
    assert "secret=" not in repr(rotated)


def test_each_signature_verifies_with_the_official_library() -> None:
    secrets = [b"a" * 32, b"b" * 32]
    headers = sign_delivery(secrets, webhook_id="x.start", now=time.time(), body=b'{"type":"a"}')
    assert headers["webhook-signature"].count("v1,") == 2
    for one in secrets:
        assert Verifier(format_secret(one)).verify(b'{"type":"a"}', headers) == {"type": "a"}
