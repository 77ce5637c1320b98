"""Deliveries: the events of this edge's orders, from their store to their receivers, across restarts.

`record` stores what a status tells before the order book takes the status in, and the follower acks after both: a crash
in between makes the same events again, under the same ids. `run` sends what is due; an event leaves the store once a
receiver took it, or once it lies among the dead. A crash in between sends it again, with the same webhook-id.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
import structlog

from halfdrop.contracts.errors import Overloaded, Unavailable
from halfdrop.contracts.jobs import JobStatus
from halfdrop.edge.webhooks.addresses import AddressPolicy, endpoint_of
from halfdrop.edge.webhooks.bodies import Describe, make_body, make_test_body
from halfdrop.edge.webhooks.dead import DeadDeliveries
from halfdrop.edge.webhooks.disabled import DisabledEndpoints
from halfdrop.edge.webhooks.events import Failure, WebhookRecord, end_of_batch, events_of
from halfdrop.edge.webhooks.schedule import Entry, Schedule
from halfdrop.edge.webhooks.secrets import SecretBook
from halfdrop.edge.webhooks.sender import Outcome, Sender
from halfdrop.edge.webhooks.signatures import sign_delivery
from halfdrop.edge.webhooks.store import EventStream, Kept, NoRoom
from halfdrop.edge.webhooks.timing import RETRY_DELAYS_S, next_due
from halfdrop.runtime.durations import QUEUE_BOUNDS_S, Durations

log = structlog.get_logger()

TENANT_WAITING_MAX = 10_000
"""A tenth of what the store takes: a tenant whose receivers are down cannot fill it for the others."""

AWAY_S = 2.0
"""How long an endpoint's events pause when an attempt was kept from starting by something of ours."""

TESTS_MAX, TENANT_TESTS_MAX = 8, 2
"""Test deliveries at once: they have connections beside those of the events, and somebody waits for each."""

SETTLE_MIN_S, SETTLE_MAX_S = 0.2, 5.0
"""Back-off while the edge's NATS cannot take down how a delivery ended; it is not sent again meanwhile."""

LOOK_MAX_S = 60.0


class DeliveryCounts:
    """What happened since the start."""

    def __init__(self) -> None:
        self.delivered = 0
        self.failed: Counter[tuple[str]] = Counter()
        """Attempts by the class of their failure."""

        self.superseded = 0
        self.refused = 0
        """Events for which there was no room, and which were put among the dead or, where that failed too, lost."""

        self.durations = Durations()
        self.delays = Durations(QUEUE_BOUNDS_S)
        """From when the edge learnt of an event to its delivery."""


class Deliveries:
    """All webhooks of an edge. Made by `open_webhooks`."""

    def __init__(
        self,
        *,
        waiting: EventStream,
        dead: DeadDeliveries,
        disabled: DisabledEndpoints,
        secrets: SecretBook,
        sender: Sender,
        policy: AddressPolicy,
        describe: Describe,
        clock: Callable[[], float] = time.time,
        delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._waiting = waiting
        self.dead = dead
        self.disabled = disabled
        self.secrets = secrets
        self._sender = sender
        self.policy = policy
        """Where addresses may lead, for the door."""

        self._describe = describe
        self._clock = clock
        self._delays_s = delays_s
        self.schedule = Schedule(clock)
        self.counts = DeliveryCounts()
        self._tests: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._leftovers: list[Entry] = []
        """Superseded events whose removal from the store is still to be done."""

    async def load(self) -> None:
        """Take up what earlier runs of this edge left. Raises Unavailable."""
        await self.dead.load()
        await self.disabled.load()
        found = [_entry_of(kept) async for kept in self._waiting.read_all()]
        for entry in sorted(found, key=lambda entry: (entry.at, entry.place)):
            self._add(entry)

    async def record(self, old: JobStatus | None, new: JobStatus) -> None:
        """Store what `new` tells beyond `old`. Raises Unavailable if it could not: the status must come again."""
        for record in events_of(old, new, now=self._clock()):
            await self._store(record)

    async def record_batch(self, batch_id: str, data: bytes, *, tenant: str, url: str) -> None:
        """Store that a batch is over, as often as it is said, once. data: the batch in JSON. Raises Unavailable."""
        await self._store(end_of_batch(batch_id, data, tenant=tenant, url=url, now=self._clock()))

    async def run(self) -> None:
        """Deliver for ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._woken.clear()
                    while (entry := self.schedule.take()) is not None:
                        tasks.create_task(self._attempt(entry))
                    if self._leftovers:
                        superseded, self._leftovers = self._leftovers, []
                        tasks.create_task(self._remove_all(superseded))
                    await self._sleep()
        finally:
            await self._sender.close()

    async def send_test(self, tenant: str, url: str) -> Outcome:
        """Send one delivery that tells of nothing, now and once.

        Raises Unavailable if it cannot be signed, Overloaded while too many are under way.
        """
        if self._tests[tenant] >= TENANT_TESTS_MAX or self._tests.total() >= TESTS_MAX:
            raise Overloaded("test deliveries are under way already", retry_after_s=5.0)
        self._tests[tenant] += 1
        try:
            return await self._send_test(tenant, url)
        finally:
            self._tests[tenant] -= 1
            self._tests += Counter()  # without those that are at none

    async def _send_test(self, tenant: str, url: str) -> Outcome:
        now = self._clock()
        body = make_test_body(now)
        secrets = [secret.secret for secret in await self.secrets.signing(tenant)]
        headers = sign_delivery(secrets, webhook_id=f"test.{int(now * 1000)}", now=now, body=body)
        return await self._sender.send(url, headers, body)

    async def replay(self, tenant: str, webhook_id: str) -> WebhookRecord:
        """Have a dead delivery tried again from the start, under its old id.

        Raises NotFound, Unavailable, and Overloaded if too many wait already.
        """
        record = await self.dead.find(tenant, webhook_id)
        if self.schedule.waiting(tenant) >= TENANT_WAITING_MAX:
            raise Overloaded(f"{TENANT_WAITING_MAX} webhook events wait already", retry_after_s=60.0)
        again = msgspec.structs.replace(record, attempts=0, due_at=0.0, failure=None)
        try:
            stored_at, _ = await self._waiting.add(again)
        except NoRoom as error:
            raise Overloaded("the store of webhook events is full", retry_after_s=60.0) from error
        if not self.schedule.knows(webhook_id):
            self._add(_entry_of(Kept(again, stored_at)))
        await self.dead.remove(record)
        return again

    async def _store(self, record: WebhookRecord) -> None:
        if self.schedule.knows(record.id):  # the store's own memory of ids ends after an hour
            return
        if self.schedule.waiting(record.tenant) >= TENANT_WAITING_MAX:
            await self._refuse(record, f"more than {TENANT_WAITING_MAX} events of this tenant wait already")
            return
        try:
            sequence, is_known = await self._waiting.add(record, is_once=True)
        except NoRoom as error:
            await self._refuse(record, f"the edge's store of webhook events is full ({error})")
            return
        if is_known:  # delivered since, or stored by an attempt whose answer was lost
            kept = await self._waiting.find(record)
            if kept is not None:
                self._add(_entry_of(kept))
            return
        self._add(_entry_of(Kept(record, sequence)))

    async def _refuse(self, record: WebhookRecord, detail: str) -> None:
        self.counts.refused += 1
        log.error("webhook_event_refused", job_id=record.order_id, tenant=record.tenant, reason=detail)
        await self.dead.bury(record, Failure(code="full", detail=detail, at=self._clock()))

    def _add(self, entry: Entry) -> None:
        superseded = self.schedule.add(entry)
        self.counts.superseded += len(superseded)
        self._leftovers += superseded
        self._woken.set()

    async def _sleep(self) -> None:
        look_at = self.schedule.next_look_at()
        pause_s = LOOK_MAX_S if look_at is None else min(max(look_at - self._clock(), 0.0), LOOK_MAX_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _attempt(self, entry: Entry) -> None:
        """Send one event once, and take down how it went."""
        try:
            record = await self._waiting.read(entry.sequence)
            if record is None:  # nothing to send: it was removed by hand
                self.schedule.finish(entry, is_well=None)
                return
            outcome = await self._send_safely(record)
        except (Unavailable, msgspec.MsgspecError) as error:  # ours, not the receiver's: no attempt was made
            log.warning("webhook_not_tried", job_id=entry.order_id, error=str(error))
            self.schedule.hold(entry.endpoint, self._clock() + AWAY_S)
            self._postpone(entry, due_at=entry.due_at, is_well=None)
            return
        finally:
            self._woken.set()
        if outcome.is_delivered:
            await self._succeed(entry)
        else:
            await self._fail(entry, record, outcome)
        self._woken.set()

    async def _send_safely(self, record: WebhookRecord) -> Outcome:
        try:
            return await self._send(record)
        except (Unavailable, msgspec.MsgspecError):
            raise
        except Exception as error:  # a fault of ours about one event must not end the deliveries of all others
            log.error("webhook_fault", job_id=record.order_id, exc_info=error)
            return Outcome(code="internal", detail="the edge failed; its log says why")

    async def _send(self, record: WebhookRecord) -> Outcome:
        if self.disabled.holds(record.tenant, record.url):
            return Outcome(code="disabled", detail="answered 410 before; enable it again, then replay this")
        body = make_body(record, self._describe)
        secrets = [secret.secret for secret in await self.secrets.signing(record.tenant)]
        headers = sign_delivery(secrets, webhook_id=record.id, now=self._clock(), body=body)
        outcome = await self._sender.send(record.url, headers, body)
        self.counts.durations.add(outcome.elapsed_s)
        return outcome

    async def _succeed(self, entry: Entry) -> None:
        self.counts.delivered += 1
        self.counts.delays.add(max(0.0, self._clock() - entry.at))
        log.info("webhook_delivered", job_id=entry.order_id, kind=entry.kind, host=entry.endpoint.host)
        await self._settle(lambda: self._waiting.remove(entry.sequence))
        self.schedule.finish(entry, is_well=True)

    async def _fail(self, entry: Entry, record: WebhookRecord, outcome: Outcome) -> None:
        now = self._clock()
        self.counts.failed[(outcome.code,)] += 1
        state = self.schedule.endpoints[entry.endpoint]
        state.last_failure = outcome.detail
        failure = Failure(code=outcome.code, detail=outcome.detail, at=now)
        failed = msgspec.structs.replace(record, attempts=record.attempts + 1, failure=failure)
        log.warning(
            "webhook_failed", job_id=entry.order_id, kind=entry.kind, host=entry.endpoint.host, attempt=failed.attempts,
            code=outcome.code,
        )  # fmt: skip
        is_well = None if outcome.code in ("disabled", "internal") else False
        due_at = next_due(
            failed.attempts,
            now=now,
            chance=random.random(),  # noqa: S311  jitter
            retry_after_s=outcome.retry_after_s,
            delays_s=self._delays_s,
        )
        if outcome.code == "gone":
            await self._settle(lambda: self.disabled.add(record.tenant, record.url, now))
        if due_at is None or outcome.is_permanent or outcome.code == "disabled":
            await self._settle(lambda: self.dead.bury(failed, failure))
            await self._settle(lambda: self._waiting.remove(entry.sequence))
            self.schedule.finish(entry, is_well=is_well)
            return
        failed = msgspec.structs.replace(failed, due_at=due_at)
        entry.attempts = failed.attempts
        await self._settle(lambda: self._take_down(entry, failed))
        self._postpone(entry, due_at=due_at, is_well=is_well)

    async def _take_down(self, entry: Entry, failed: WebhookRecord) -> None:
        """Keep the number of attempts and the due time over a restart."""
        try:
            entry.sequence, _ = await self._waiting.add(failed)
        except NoRoom:  # a full store: after a restart it is tried sooner, under the same id
            log.warning("webhook_attempt_not_kept", job_id=entry.order_id)

    def _postpone(self, entry: Entry, *, due_at: float, is_well: bool | None) -> None:
        if not self.schedule.postpone(entry, due_at=due_at, is_well=is_well):
            self.counts.superseded += 1
            self._leftovers.append(entry)

    async def _remove_all(self, superseded: Sequence[Entry]) -> None:
        for entry in superseded:
            await self._settle(partial(self._waiting.remove, entry.sequence))

    async def _settle(self, write: Callable[[], Awaitable[object]]) -> None:
        """Take something down in our own store, trying until it is there."""
        pause_s = SETTLE_MIN_S
        while True:
            try:
                await write()
                return
            except Unavailable as error:
                log.warning("webhook_not_settled", error=error.detail)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, SETTLE_MAX_S)


def _entry_of(kept: Kept) -> Entry:
    record = kept.record
    return Entry(
        id=record.id,
        kind=record.kind,
        order_id=record.order_id,
        endpoint=endpoint_of(record.tenant, record.url),
        url=record.url,
        at=record.at,
        sequence=kept.sequence,
        attempts=record.attempts,
        due_at=record.due_at,
    )
