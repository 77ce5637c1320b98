"""Deliveries over a real NATS and real receivers, without an edge around them: so retries need not take three days.

Long because every kind of bad receiver is tried beside the same healthy one.
"""

import asyncio
import contextlib
import ipaddress
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks.webhooks import Webhook as Verifier

from halfdrop.contracts.errors import NotFound, Overloaded, Unavailable
from halfdrop.contracts.jobs import JobError, JobState, JobStatus, Webhook, WebhookEvent
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.names import new_order_id
from halfdrop.edge.predictions import Prediction, make_prediction
from halfdrop.edge.webhooks import deliveries as module
from halfdrop.edge.webhooks.addresses import AddressPolicy, check_address
from halfdrop.edge.webhooks.dead import DeadDeliveries
from halfdrop.edge.webhooks.deliveries import Deliveries
from halfdrop.edge.webhooks.disabled import open_disabled
from halfdrop.edge.webhooks.events import events_of
from halfdrop.edge.webhooks.secrets import SecretBook, WebhookSecret
from halfdrop.edge.webhooks.sender import Sender
from halfdrop.edge.webhooks.signatures import format_secret
from halfdrop.edge.webhooks.store import WAITING_STREAM, open_streams
from halfdrop.edge.webhooks.timing import FAILURES_TO_OPEN
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import Received, Receiver, StartReceiver

SPEC = PatternSpec(prompt="navy stripes", num_inference_steps=2, model_digest="ab" * 32)
LOCAL = AddressPolicy(is_loopback_allowed=True)
EVERYTHING: tuple[WebhookEvent, ...] = ("start", "output", "logs", "completed")

QUICK = (0.05,) * 9
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def refuse(status: str, *fields: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", *fields, "Content-Length: 0", "", ""))
    return head.encode()


def describe(status: JobStatus) -> Prediction:
    return make_prediction(
        status, model="house", base_url="http://edge.test", queue_position=None, now=status.created_at
    )


def placed(url: str, *, tenant: str = "local", events: tuple[WebhookEvent, ...] = EVERYTHING) -> JobStatus:
    now = time.time()
    return JobStatus(
        id=new_order_id(), tenant=tenant, origin="test", state=JobState.QUEUED, spec=SPEC, size_px=256,
        pattern_key="ab" * 16, created_at=now, webhook=Webhook(url=url, events=events),
    )  # fmt: skip


def begun(status: JobStatus, *log: str) -> JobStatus:
    return msgspec.structs.replace(
        status, state=JobState.PROCESSING, attempt=1, started_at=status.created_at, log=log, step=len(log), steps=9
    )


def ended(status: JobStatus, state: JobState = JobState.COMPLETED) -> JobStatus:
    error = JobError(code="x", detail="broken") if state is JobState.FAILED else None
    return msgspec.structs.replace(status, state=state, completed_at=status.created_at + 1, error=error)


class Machine:
    """Deliveries that can be stopped like a killed process and started again over the same store."""

    def __init__(self, broker: Broker, objects: ObjectStore) -> None:
        self._broker = broker
        self.objects = objects

    @asynccontextmanager
    async def run(
        self,
        *,
        policy: AddressPolicy = LOCAL,
        delays_s: tuple[float, ...] = QUICK,
        resolve: Callable[..., Awaitable[Any]] | None = None,
        secrets: SecretBook | None = None,
    ) -> AsyncIterator[Deliveries]:
        waiting, dead = await open_streams(self._broker.js)
        deliveries = Deliveries(
            waiting=waiting,
            dead=DeadDeliveries(dead),
            disabled=await open_disabled(self._broker.js),
            secrets=secrets or SecretBook(self.objects),
            sender=Sender(policy, resolve=resolve),
            policy=policy,
            describe=describe,
            delays_s=delays_s,
        )
        await deliveries.load()
        running = asyncio.ensure_future(deliveries.run())
        try:
            yield deliveries
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.fixture
async def broker(edge_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(edge_nats.url, name="webhooks", domain="edge-test") as broker:
        yield broker


@pytest.fixture
def machine(broker: Broker, objects_url: str) -> Machine:
    return Machine(broker, open_objects(objects_url))


async def tell(deliveries: Deliveries, *course: JobStatus) -> None:
    """Tell what happens to one order, as the order book does."""
    old = None
    for status in course:
        await deliveries.record(old, status)
        old = status


def names(receiver: "Receiver") -> list[str]:
    return [webhook_id.partition(".")[2].partition("-")[0] for webhook_id in receiver.ids]


async def test_an_order_is_told_in_order_and_every_signature_verifies(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver()
    async with machine.run() as deliveries:
        order = placed(receiver.url)
        await tell(deliveries, order, begun(order), begun(order, "master 0.2 s"))
        await wait_until(lambda: names(receiver) == ["start", "logs"])
        await tell(deliveries, begun(order, "master 0.2 s"), ended(begun(order, "master 0.2 s")))
        await wait_until(lambda: names(receiver) == ["start", "logs", "completed"])
        secret = format_secret((await deliveries.secrets.signing("local"))[0].secret)
        for one in receiver.received:
            body = Verifier(secret).verify(one.body, one.headers)
            assert body["type"].startswith("prediction.")
            assert body["data"]["id"] == order.id
        assert receiver.received[0].path == "/hook?token=s3cret"
        last = receiver.received[-1].json
        assert last["data"]["status"] == "succeeded"
        assert last["data"]["logs"] == "master 0.2 s\n"
        await wait_until(lambda: len(deliveries.schedule) == 0)
    async with machine.run() as deliveries:
        assert len(deliveries.schedule) == 0
        assert deliveries.counts.delivered == 0


async def test_a_status_that_comes_again_is_told_once(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver()
    order = placed(receiver.url)
    async with machine.run() as deliveries:
        await tell(deliveries, order, begun(order), ended(begun(order)))
        await wait_until(lambda: len(receiver.ids) == 2)
        await deliveries.record(begun(order), ended(begun(order)))
    async with machine.run() as deliveries:
        await deliveries.record(begun(order), ended(begun(order)))
        await asyncio.sleep(0.3)
    assert names(receiver) == ["start", "completed"]


async def test_what_fails_is_tried_again_under_its_id_and_what_waits_survives_a_restart(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver(refuse("500 Oh"))
    order = placed(receiver.url, events=("completed",))
    async with machine.run(delays_s=(0.05, 600.0)) as deliveries:
        await tell(deliveries, order, ended(order, JobState.FAILED))
        await wait_until(lambda: len(receiver.ids) == 2)
        await wait_until(lambda: deliveries.counts.failed[("status-5xx",)] == 2)
        await wait_until(lambda: deliveries.schedule.in_flight == 0)
    receiver.answer = OK
    async with machine.run(delays_s=(0.05, 600.0)) as deliveries:
        await asyncio.sleep(0.3)
        assert len(receiver.ids) == 2  # its third attempt is due in ten minutes, and the restart knows
        entry = deliveries.schedule._entries[receiver.ids[0]]
        assert entry.attempts == 2
        assert 500 < entry.due_at - time.time() < 800
    assert set(receiver.ids) == {f"{order.id}.completed"}


async def test_after_the_last_attempt_it_is_dead_with_its_cause_and_can_be_replayed_or_dropped(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver(refuse("404 Not Found"))
    order = placed(receiver.url, tenant="acme", events=("completed",))
    async with machine.run(delays_s=(0.01, 0.01)) as deliveries:
        await tell(deliveries, order, ended(order))
        await wait_until(lambda: deliveries.dead.count() == 1)
        assert len(receiver.ids) == 3
        (dead,) = await deliveries.dead.newest("acme", before=None, limit=9)
        assert (dead.id, dead.attempts) == (f"{order.id}.completed", 3)
        assert dead.failure is not None
        assert (dead.failure.code, dead.failure.detail) == ("status-4xx", "answered 404")
        assert await deliveries.dead.newest("local", before=None, limit=9) == []
        with pytest.raises(NotFound):
            await deliveries.replay("local", dead.id)
    receiver.answer = OK
    async with machine.run() as deliveries:
        assert deliveries.dead.count() == 1
        await deliveries.replay("acme", dead.id)
        await wait_until(lambda: deliveries.counts.delivered == 1)
        assert deliveries.dead.count() == 0
        assert len(set(receiver.ids)) == 1
        with pytest.raises(NotFound):
            await deliveries.dead.find("acme", dead.id)


async def test_gone_disables_the_address_until_it_is_enabled(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver(refuse("410 Gone"))
    first, second, third = (placed(receiver.url, events=("completed",)) for _ in range(3))
    async with machine.run() as deliveries:
        await tell(deliveries, first, ended(first))
        await wait_until(lambda: deliveries.dead.count() == 1)
        assert deliveries.disabled.holds("local", receiver.url)
        assert not deliveries.disabled.holds("acme", receiver.url)
    receiver.answer = OK
    async with machine.run() as deliveries:
        await tell(deliveries, second, ended(second))
        await wait_until(lambda: deliveries.dead.count() == 2)
        assert len(receiver.ids) == 1
        assert await deliveries.disabled.remove("local", receiver.url)
        await tell(deliveries, third, ended(third))
        await wait_until(lambda: receiver.ids[-1].startswith(third.id))
        await deliveries.replay("local", f"{second.id}.completed")
        await wait_until(lambda: receiver.ids[-1].startswith(second.id))


async def test_an_orders_later_event_waits_for_its_earlier_one(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    held = asyncio.Event()

    async def hold(writer: asyncio.StreamWriter, one: "Received") -> None:
        if one.id.endswith(".start"):
            await held.wait()
        writer.write(OK)

    receiver = await start_receiver(hold)
    async with machine.run() as deliveries:
        order = placed(receiver.url)
        await tell(deliveries, order, begun(order), begun(order, "one"), begun(order, "one", "two"))
        await asyncio.sleep(0.3)
        assert names(receiver) == ["start"]
        held.set()
        await wait_until(lambda: names(receiver) == ["start", "logs"])
        assert receiver.received[-1].json["data"]["logs"] == "one\ntwo\n"  # the older of the two was superseded
        working = begun(order, "one", "two")
        await tell(deliveries, working, begun(order, "one", "two", "three"))
        await wait_until(lambda: len(receiver.ids) == 3)
        assert receiver.received[2].at_s - receiver.received[1].at_s >= 0.5


async def test_a_start_that_failed_does_not_hold_up_the_end(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver(refuse("503 Busy", "Retry-After: 60"))
    order = placed(receiver.url, events=("start", "completed"))
    async with machine.run() as deliveries:
        await tell(deliveries, order, begun(order))
        await wait_until(lambda: deliveries.schedule.in_flight == 0 and len(receiver.ids) == 1)
        entry = deliveries.schedule._entries[f"{order.id}.start"]
        assert 55 < entry.due_at - time.time() < 61
        receiver.answer = OK
        await tell(deliveries, begun(order), ended(begun(order)))
        await wait_until(lambda: names(receiver) == ["start", "completed"])
        await wait_until(lambda: len(deliveries.schedule) == 0)
        assert deliveries.counts.superseded == 1
    async with machine.run() as deliveries:
        assert len(deliveries.schedule) == 0


async def test_redirects_are_failures_and_large_answers_are_not_read(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    written = 0

    async def flood(writer: asyncio.StreamWriter, _: "Received") -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while written < 1_000_000_000:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    target = await start_receiver()
    redirecting = await start_receiver(refuse("302 Found", f"Location: {target.url}"))
    flooding = await start_receiver(flood)
    async with machine.run(delays_s=()) as deliveries:
        for receiver in (redirecting, flooding):
            order = placed(receiver.url, events=("completed",))
            await tell(deliveries, order, ended(order))
        await wait_until(lambda: deliveries.counts.delivered == 1)
        await wait_until(lambda: deliveries.counts.failed[("status-3xx",)] == 1)
    assert target.received == []
    assert written < 20_000_000  # the buffers of two sockets, not the gigabyte


async def test_a_healthy_receiver_waits_for_no_other(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    """Twenty servers that hang, drip, break, redirect, flood or are not there, with five hundred events for them."""

    async def hang(writer: asyncio.StreamWriter, _: "Received") -> None:
        await asyncio.sleep(60)

    async def drip(writer: asyncio.StreamWriter, _: "Received") -> None:
        for letter in b"HTTP/1.1 200 OK\r\n" * 20:
            writer.write(bytes([letter]))
            await writer.drain()
            await asyncio.sleep(0.5)

    async def hang_up(writer: asyncio.StreamWriter, _: "Received") -> None:
        writer.close()

    async def flood(writer: asyncio.StreamWriter, _: "Received") -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000)

    bad = [(await start_receiver(answer)).url for answer in (hang, drip, hang_up, flood, refuse("301 Moved")) * 4]
    bad += [f"http://{LOOPBACK}:{choose_port()}/closed" for _ in range(4)]
    healthy = await start_receiver()
    async with machine.run(delays_s=(0.2,) * 9) as deliveries:
        for _ in range(20):
            for url in bad:
                order = placed(url, events=("completed",))
                await tell(deliveries, order, ended(order))
        waits_s = []
        for _ in range(30):
            order = placed(healthy.url, events=("completed",))
            told_s = time.time()
            await tell(deliveries, order, ended(order))
            await wait_until(lambda order=order: f"{order.id}.completed" in healthy.ids)
            waits_s.append(healthy.received[-1].at_s - told_s)
        assert sorted(waits_s)[-2] < 1.0
        assert deliveries.counts.failed.total() > FAILURES_TO_OPEN


async def test_a_broken_receiver_is_left_alone_and_its_events_burn_no_attempts(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfdrop.edge.webhooks.timing.OPEN_MIN_S", 1.0)
    receiver = await start_receiver(refuse("500 Oh"))
    orders = [placed(receiver.url, events=("completed",)) for _ in range(40)]
    async with machine.run(delays_s=(600.0,)) as deliveries:
        for order in orders:
            await tell(deliveries, order, ended(order))
        await wait_until(lambda: len(receiver.ids) == FAILURES_TO_OPEN)
        await asyncio.sleep(0.3)
        assert len(receiver.ids) == FAILURES_TO_OPEN
        (state,) = deliveries.schedule.endpoints.values()
        assert state.breaker.state == "open"
        receiver.answer = OK
        await wait_until(lambda: len(receiver.ids) == len(orders))
        assert state.breaker.state == "closed"
        assert len(set(receiver.ids)) == len(orders)


async def test_private_addresses_are_never_connected_to_whatever_a_name_says(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver()
    asked: list[str] = []
    public, private = ipaddress.ip_address("93.184.215.14"), ipaddress.ip_address(LOOPBACK)

    async def resolve(host: str, port: int) -> list[Any]:
        asked.append(host)
        return {"inside.test": [private], "both.test": [public, private]}[host]

    async with machine.run(policy=AddressPolicy(is_http_allowed=True), resolve=resolve) as deliveries:
        for host in ("inside.test", "both.test"):
            url = check_address(f"http://{host}:{receiver.port}/", deliveries.policy)
            order = placed(url, events=("completed",))
            await tell(deliveries, order, ended(order))
        await wait_until(lambda: deliveries.dead.count() == 2)
        causes = [record.failure for record in await deliveries.dead.newest("local", before=None, limit=9)]
        assert {cause.code for cause in causes if cause} == {"private"}
        assert sorted(asked) == ["both.test", "inside.test"]  # at once, without a second try
    assert receiver.connections == 0


async def test_a_name_that_changes_its_address_leads_only_to_what_was_checked(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    """DNS rebinding: the first answer is allowed, any later one is not, and there is only one question."""
    receiver = await start_receiver()
    answers = ["127.0.0.1", "10.0.0.1", "169.254.169.254"]
    asked = 0

    async def resolve(host: str, port: int) -> list[Any]:
        nonlocal asked
        asked += 1
        return [ipaddress.ip_address(answers[min(asked, len(answers)) - 1])]

    policy = AddressPolicy(is_loopback_allowed=True, is_http_allowed=True)
    async with machine.run(policy=policy, resolve=resolve, delays_s=()) as deliveries:
        url = f"http://rebinding.test:{receiver.port}/"
        first, second = placed(url, events=("completed",)), placed(url, events=("completed",))
        await tell(deliveries, first, ended(first))
        await wait_until(lambda: len(receiver.ids) == 1)
        assert receiver.received[0].headers["host"] == f"rebinding.test:{receiver.port}"
        assert asked == 1
        await receiver.stop()  # the connection that was kept is gone: the next one is checked anew
        await tell(deliveries, second, ended(second))
        await wait_until(lambda: deliveries.dead.count() == 1)
        (dead,) = await deliveries.dead.newest("local", before=None, limit=9)
        assert dead.failure is not None
        assert dead.failure.code == "private"
        assert "10.0.0.1" in dead.failure.detail


async def test_during_a_rotation_old_and_new_secret_both_verify(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver()
    async with machine.run() as deliveries:
        old = format_secret((await deliveries.secrets.signing("local"))[0].secret)
        new = format_secret((await deliveries.secrets.rotate("local", is_at_once=False))[0].secret)
        assert old != new
        order = placed(receiver.url, events=("completed",))
        await tell(deliveries, order, ended(order))
        await wait_until(lambda: len(receiver.ids) == 1)
        (one,) = receiver.received
        for secret in (old, new):
            assert Verifier(secret).verify(one.body, one.headers)
        await deliveries.secrets.rotate("local", is_at_once=True)
        assert len(await deliveries.secrets.signing("local")) == 1


async def test_a_tenants_full_share_goes_to_its_dead_and_leaves_the_others_alone(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TENANT_WAITING_MAX", 3)
    broken, healthy = await start_receiver(refuse("500 Oh")), await start_receiver()
    async with machine.run(delays_s=(600.0,)) as deliveries:
        for _ in range(5):
            order = placed(broken.url, tenant="noisy", events=("completed",))
            await tell(deliveries, order, ended(order))
        assert deliveries.counts.refused == 2
        dead = await deliveries.dead.newest("noisy", before=None, limit=9)
        assert [record.failure.code for record in dead if record.failure] == ["full", "full"]
        order = placed(healthy.url, tenant="quiet", events=("completed",))
        await tell(deliveries, order, ended(order))
        await wait_until(lambda: len(healthy.ids) == 1)


async def test_without_its_nats_nothing_is_lost_and_nothing_is_sent_twice(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil", edge_nats: NatsServer
) -> None:
    held = asyncio.Event()

    async def hold(writer: asyncio.StreamWriter, _: "Received") -> None:
        await held.wait()
        writer.write(OK)

    receiver = await start_receiver(hold)
    order, later = placed(receiver.url, events=("completed",)), placed(receiver.url, events=("completed",))
    async with machine.run() as deliveries:
        await tell(deliveries, order, ended(order))
        await wait_until(lambda: len(receiver.ids) == 1)
        await edge_nats.kill()
        held.set()
        with pytest.raises(Unavailable):
            await tell(deliveries, later, ended(later))
        await edge_nats.start()

        async def is_told() -> bool:
            with contextlib.suppress(Unavailable):
                await tell(deliveries, later, ended(later))
                return True
            return False

        await wait_until(is_told, timeout_s=30)
        await wait_until(lambda: deliveries.counts.delivered == 2 and len(deliveries.schedule) == 0, timeout_s=30)
    assert receiver.ids == [f"{order.id}.completed", f"{later.id}.completed"]


async def test_removing_what_is_gone_is_no_error(broker: Broker) -> None:
    """Its answer may have been lost with the server that gave it."""
    waiting, _ = await open_streams(broker.js)
    await waiting.remove(1)  # of an empty stream
    (record,) = events_of(None, ended(placed("https://example.com/", events=("completed",))), now=time.time())
    sequence, _ = await waiting.add(record)
    for _ in range(2):
        await waiting.remove(sequence)
    await waiting.remove(99)
    assert await waiting.read(sequence) is None


async def test_a_status_that_comes_again_after_the_stores_memory_of_ids_ended_changes_nothing(
    machine: Machine, broker: Broker, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    """An edge killed between storing an event and taking its status in, and away for more than an hour."""
    receiver = await start_receiver(refuse("500 Oh"))
    order = placed(receiver.url, events=("completed",))
    async with machine.run(delays_s=(600.0,)) as deliveries:
        await tell(deliveries, order, ended(order))
        await wait_until(lambda: deliveries.schedule.in_flight == 0 and len(receiver.ids) == 1)
    config = (await broker.js.stream_info(WAITING_STREAM)).config
    config.duplicate_window = 0.1
    await broker.js.update_stream(config)
    await asyncio.sleep(0.3)
    async with machine.run(delays_s=(0.05,)) as deliveries:
        entry = deliveries.schedule._entries[f"{order.id}.completed"]
        await deliveries.record(order, ended(order))
        assert deliveries.schedule._entries[f"{order.id}.completed"] is entry
        assert (await deliveries._waiting.read(entry.sequence)) is not None


async def test_an_event_of_a_status_that_is_too_large_is_kept_without_its_log(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil"
) -> None:
    receiver = await start_receiver()
    order = placed(receiver.url, events=("completed",))
    async with machine.run() as deliveries:
        await tell(deliveries, order, ended(begun(order, *("x" * 4_000 for _ in range(64)))))
        await wait_until(lambda: len(receiver.ids) == 1)
    assert receiver.received[0].json["data"]["logs"] == "left out here: too long\n"


async def test_while_a_tenants_secrets_cannot_be_read_its_events_wait_and_burn_no_attempt(
    machine: Machine, start_receiver: "StartReceiver", wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.2)

    class Away(SecretBook):
        asked, is_away = 0, True

        async def signing(self, tenant: str) -> list[WebhookSecret]:
            self.asked += 1
            if self.is_away:
                raise Unavailable("object store cannot list")
            return await super().signing(tenant)

    secrets = Away(machine.objects)
    receiver = await start_receiver()
    async with machine.run(secrets=secrets) as deliveries:
        for _ in range(20):
            order = placed(receiver.url, events=("completed",))
            await tell(deliveries, order, ended(order))
        await asyncio.sleep(1.0)
        assert 2 <= secrets.asked <= 8  # one at a time, with a pause: not twenty
        assert receiver.received == []
        secrets.is_away = False
        await wait_until(lambda: len(receiver.ids) == 20)
        assert deliveries.counts.failed.total() == 0


async def test_tls_goes_on_with_the_name_when_the_connection_goes_to_an_address(
    machine: Machine, tmp_path: Path, wait_until: "WaitUntil"
) -> None:
    """The certificate is checked against the name, and the server is told the name, though an address is dialled."""
    server_side, client_side = make_contexts(tmp_path, "hooks.test")
    names_seen: list[str | None] = []
    server_side.sni_callback = lambda _socket, name, _context: names_seen.append(name)
    hosts: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hosts.append(re.search(rb"(?i)host: (\S+)", await reader.readuntil(b"\r\n\r\n"))[1])  # type: ignore[index]
        writer.write(NO_CONTENT)

    async def resolve(host: str, port: int) -> list[Any]:
        return [ipaddress.ip_address(LOOPBACK)]

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(LOCAL, resolve=resolve, ssl_context=client_side)
    try:
        told = await sender.send(f"https://hooks.test:{port}/", {}, b"{}")
        assert told.code == "delivered", told.detail
        assert (names_seen, hosts) == (["hooks.test"], [f"hooks.test:{port}".encode()])
        wrong = await sender.send(f"https://other.test:{port}/", {}, b"{}")
        assert wrong.code == "tls", wrong.detail
    finally:
        await sender.close()
        server.close()


def make_contexts(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context with a certificate for `name`, and a client's that trusts just that."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(path)
    return server_side, ssl.create_default_context(cafile=str(path))


async def test_test_deliveries_are_few_at_a_time(machine: Machine, start_receiver: "StartReceiver") -> None:
    async def hang(writer: asyncio.StreamWriter, _: "Received") -> None:
        await asyncio.sleep(60)

    receiver = await start_receiver(hang)
    async with machine.run() as deliveries:
        waiting = [asyncio.ensure_future(deliveries.send_test("acme", receiver.url)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded):
            await deliveries.send_test("acme", receiver.url)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        receiver.answer = OK
        assert (await deliveries.send_test("acme", receiver.url)).is_delivered
