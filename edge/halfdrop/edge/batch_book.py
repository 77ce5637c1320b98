"""The batches of an edge: durable in BATCHES and the object store before anybody is told so, and kept by their lines.

This process is the only writer of its BATCHES bucket. The states of lines follow the news of their orders; they are
written a second late, because what is lost of them is found again from the orders.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
import structlog
from nats.js.kv import KeyValue

from halfdrop.contracts.errors import NotFound, Overloaded, TransientError
from halfdrop.contracts.jobs import JobStatus
from halfdrop.edge.batch_intake import IntakeRoom
from halfdrop.edge.batch_lines import BatchLine
from halfdrop.edge.batch_state import (
    FINAL_PHASES,
    LINE_CODES,
    RATE_SAMPLES,
    UNFINISHED_CODES,
    WINDOW_MIN,
    BatchPhase,
    BatchState,
    LineCode,
    LineCounts,
    count_lines,
    decode_batch,
    encode_batch,
    next_window,
    rate_per_s,
)
from halfdrop.edge.limits import QuotaExceeded
from halfdrop.edge.names import BATCH_ID_LENGTH, line_of
from halfdrop.edge.orders import translated
from halfdrop.edge.settings import EdgeSettings
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.streams import BATCHES_KEPT_S, ensure_bucket

log = structlog.get_logger()

BATCHES_BUCKET = "BATCHES"
"""On the edge's own server, key-value: the state of each batch that this edge accepted."""

SAVE_EVERY_S = 1.0
FULL_RETRY_S = 60.0
TOUCH_EVERY_S = BATCHES_KEPT_S / 7
"""A batch that is paused for long is written now and then, so that it is not forgotten."""

READERS_MAX = 1_000
"""Open streams of all batches."""

SNAPSHOT_PAUSE_S = 0.25
"""Between two snapshots of a stream: a bar moves smoothly, and a thousand news are one."""


def input_path(tenant: str, batch_id: str) -> str:
    """Object path of a batch's good lines."""
    return f"batches/{tenant}/{batch_id}/input.jsonl"


def errors_path(tenant: str, batch_id: str) -> str:
    """Object path of what was wrong with the others."""
    return f"batches/{tenant}/{batch_id}/errors.jsonl"


class TooManyBatches(QuotaExceeded):
    """A tenant has as many batches that are not over as it may have at this edge."""

    def __init__(self, quota: int) -> None:
        detail = f"{quota} batches of yours are not over; wait for the end of one, or cancel one"
        TransientError.__init__(self, detail, retry_after_s=FULL_RETRY_S)
        self.violated = ("batches-open",)
        self.stands = []


class Batch:
    """One batch, as it is now."""

    def __init__(self, state: BatchState) -> None:
        self._state = state
        self.states = bytearray(state.states)
        self.unfinished: set[int] = {
            number for number, code in enumerate(self.states, 1) if code in UNFINISHED_CODES
        }  # fmt: skip
        """Lines whose orders are placed and not final."""

        self.window: float = WINDOW_MIN
        self.ends: deque[float] = deque(maxlen=RATE_SAMPLES)
        """When the newest lines ended, unix seconds."""

        self.placed_s: dict[int, float] = {}
        """When orders of this run were placed that nobody has begun yet, by line."""

        self.ahead: deque[tuple[BatchLine, int]] = deque()
        """Lines read from the object store and not placed, each with the place of its end."""

        self.cancel_asked: set[int] = set()
        self.reason = ""
        """Why nothing is placed now, or ""."""

        self.retry_s = 0.0
        """Monotonic time before which nothing is tried, after something failed."""

        self.saved_s = 0.0
        self.is_dirty = False
        self.changed = asyncio.Event()
        """Set at the next change, and another one put in its place."""

    @property
    def state(self) -> BatchState:
        """What there is to know, without the lines of this moment."""
        return self._state

    @property
    def is_over(self) -> bool:
        return self._state.phase in FINAL_PHASES

    @property
    def has_more(self) -> bool:
        """True while lines are left to place."""
        return self._state.cursor_bytes < self._state.input_bytes

    def counts(self) -> LineCounts:
        """Return how many lines are where."""
        return count_lines(self.states, is_over=self.is_over)

    def rate_per_s(self, now: float) -> float | None:
        """Return how many lines end in a second, lately."""
        return rate_per_s(self.ends, now)

    def note(self, status: JobStatus, window_max: int) -> None:
        """Take news of one of its orders."""
        number, code = line_of(status.id), LINE_CODES[status.state]
        if not 0 < number <= len(self.states) or self.states[number - 1] == code:
            return
        if status.started_at is not None and self._state.started_at is None:
            self.change(started_at=status.started_at)
        if code != LineCode.QUEUED and (placed_s := self.placed_s.pop(number, None)) is not None:
            waited_s = time.monotonic() - placed_s
            self.window = next_window(self.window, waited_s, unfinished=len(self.unfinished), window_max=window_max)
        self.states[number - 1] = code
        if code in UNFINISHED_CODES:
            self.unfinished.add(number)
        else:
            self.unfinished.discard(number)
            self.ends.append(time.time())
        self._mark()

    def change(self, **members: object) -> None:
        """Change members of the state."""
        self._state = msgspec.structs.replace(self._state, **members)
        self._mark()

    def say(self, reason: str) -> None:
        """Say why nothing is placed now; "" when something is."""
        if reason != self.reason:
            self.reason = reason
            self.wake_readers()

    def wake_readers(self) -> None:
        """Have everybody who follows it look again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _mark(self) -> None:
        self.is_dirty = True
        self.wake_readers()


class Batches:
    """All batches of this edge. Made by `open_batches`."""

    def __init__(self, bucket: KeyValue, objects: ObjectStore, *, window_max: int, open_max: int) -> None:
        self._bucket = bucket
        self._objects = objects
        self._window_max = window_max
        self._open_max = open_max
        self._by_id: dict[str, Batch] = {}
        self._open: dict[str, Batch] = {}
        """Those that are not over, or are and could not be written."""
        self._untold: dict[str, Batch] = {}
        """Those that are over and whose end somebody wants to hear of."""
        self._saving = asyncio.Lock()
        self._readers = 0
        self._is_closed = False
        self.room = IntakeRoom()
        self.wake = asyncio.Event()
        """Set when there may be something to place or to finish."""

        self.lines_placed = 0
        """Lines that became orders since the start."""

    async def load(self) -> None:
        """Read what earlier runs of this edge left in the bucket."""
        watcher = await self._bucket.watchall(ignore_deletes=True)
        try:
            async for entry in watcher:
                if entry is None:
                    break
                try:
                    self._add(Batch(decode_batch(entry.value or b"")))
                except msgspec.MsgspecError as error:
                    log.error("batch_unreadable", batch_id=entry.key, error=str(error))
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]

    def _add(self, batch: Batch) -> None:
        self._by_id[batch.state.id] = batch
        if not batch.is_over:
            self._open[batch.state.id] = batch
        elif batch.state.webhook and not batch.state.is_told:
            self._untold[batch.state.id] = batch

    async def accept(self, state: BatchState, lines: bytes, errors: bytes) -> Batch:
        """Keep a batch: its lines, then its state. Raises Unavailable if either has no place; nothing runs then."""
        await self._objects.put(input_path(state.tenant, state.id), lines, media_type="application/jsonl")
        if errors:
            await self._objects.put(errors_path(state.tenant, state.id), errors, media_type="application/jsonl")
        with translated("accept the batch"):
            await self._bucket.put(state.id, encode_batch(state))
        batch = Batch(state)
        batch.saved_s = time.monotonic()
        self._add(batch)
        self.wake.set()
        return batch

    def find(self, batch_id: str, tenant: str) -> Batch:
        """Return a batch. Raises NotFound for an id that this edge does not know, or is another tenant's."""
        batch = self._by_id.get(batch_id)
        if batch is None or batch.state.tenant != tenant:
            raise NotFound(f"no batch has the id {batch_id[:40]!r}")
        return batch

    def newest(self, tenant: str, *, before: str | None, limit: int) -> list[Batch]:
        """Return up to `limit` batches of `tenant`, newest first, those older than the id `before`."""
        ids = sorted((b for b, batch in self._by_id.items() if batch.state.tenant == tenant), reverse=True)
        return [self._by_id[batch_id] for batch_id in ids if before is None or batch_id < before][:limit]

    def open(self) -> list[Batch]:
        """Return those that are not over, oldest first; another thread may ask."""
        return [batch for batch in list(self._open.values()) if not batch.is_over]

    def untold(self) -> list[Batch]:
        """Return those that are over and whose end nobody was told, where somebody wants to be."""
        return list(self._untold.values())

    def check_room(self, tenant: str) -> None:
        """Raise TooManyBatches if `tenant` has as many that are not over as it may."""
        if sum(batch.state.tenant == tenant for batch in self.open()) >= self._open_max:
            raise TooManyBatches(self._open_max)

    def unfinished(self) -> int:
        """Return how many orders of all batches are not final."""
        return sum(len(batch.unfinished) for batch in self._open.values())

    def note(self, status: JobStatus) -> None:
        """Take news of an order, whoever's; those of no batch are not looked at."""
        batch = self._by_id.get(status.id[:BATCH_ID_LENGTH])
        if batch is not None and batch.state.tenant == status.tenant:
            batch.note(status, self._window_max)
            self.wake.set()

    async def set_phase(self, batch: Batch, phase: BatchPhase) -> None:
        """Pause, resume or cancel, durably; what is over stays as it is. Raises Unavailable: till it can be kept."""
        if batch.is_over or batch.state.phase in (phase, "canceling"):
            return
        batch.change(phase=phase)
        batch.say("")
        self.wake.set()
        await self.save(batch)

    async def end(self, batch: Batch, phase: BatchPhase, now: float) -> None:
        """End a batch none of whose orders is unfinished. Raises Unavailable; it is over all the same."""
        batch.change(phase=phase, finished_at=now)
        batch.say("")
        log.info("batch_over", batch_id=batch.state.id, phase=phase)
        if batch.state.webhook:
            self._untold[batch.state.id] = batch
        await self.save(batch)

    async def note_told(self, batch: Batch) -> None:
        """Remember that its end was told. Raises Unavailable: it may be told once more then."""
        self._untold.pop(batch.state.id, None)
        batch.change(is_told=True)
        await self.save(batch)

    async def save(self, batch: Batch) -> None:
        """Write the state of this moment. Raises Unavailable."""
        async with self._saving:  # one at a time, so that the newest is written last
            batch.is_dirty = False
            try:
                with translated("keep a batch's state"):
                    state = msgspec.structs.replace(batch.state, states=bytes(batch.states))
                    await self._bucket.put(state.id, encode_batch(state))
            except BaseException:
                batch.is_dirty = True
                raise
            batch.saved_s = time.monotonic()

    async def save_due(self) -> None:
        """Write the states that have news, each at most once a second. Raises Unavailable."""
        now_s = time.monotonic()
        for batch in list(self._open.values()):
            age_s = now_s - batch.saved_s
            if age_s >= (SAVE_EVERY_S if batch.is_dirty else TOUCH_EVERY_S):
                await self.save(batch)
            if batch.is_over and not batch.is_dirty:
                del self._open[batch.state.id]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if self._readers >= READERS_MAX or self._is_closed:
            raise Overloaded(f"{self._readers} clients follow batches already", retry_after_s=5.0)
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    async def follow(self, batch: Batch, *, idle_s: float) -> AsyncIterator[bool]:
        """Yield True now and at each change until the batch is over or this process stops; False after `idle_s`."""
        with self._reading():
            seen: object = None
            while not self._is_closed:
                is_over, changed = batch.is_over, batch.changed
                now = (batch.state, bytes(batch.states), batch.reason)
                yield now != seen
                seen = now
                if is_over:
                    return
                await asyncio.sleep(SNAPSHOT_PAUSE_S)
                try:
                    async with asyncio.timeout(idle_s):
                        await changed.wait()
                except TimeoutError:
                    continue

    def close(self) -> None:
        """End every stream, so that a stopping server waits for none of them."""
        self._is_closed = True
        for batch in self._by_id.values():
            batch.wake_readers()


async def open_batches(broker: Broker, objects: ObjectStore, settings: EdgeSettings) -> Batches:
    """Return the batches that earlier runs of this edge left. Raises Unavailable if the edge's NATS does not answer."""
    with translated("open the batches"):
        bucket = await ensure_bucket(broker.js, BATCHES_BUCKET, kept_s=BATCHES_KEPT_S)
        batches = Batches(bucket, objects, window_max=settings.batch_window, open_max=settings.batches_open_max)
        await batches.load()
        return batches
