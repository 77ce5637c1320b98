"""The feeder: places the lines of batches as orders, a few at a time, tenants and their batches by turns.

Of each batch a window of orders is unfinished at once, so that a batch fills neither OUTBOX nor a hub's queue, and
whoever pauses or cancels it does so before most of it was begun. A line is placed under an id that follows from batch
and number; whatever dies in between, placing it again finds the order that is there. Plates are drawn here, as for a
single order, while nobody waits for a preview (docs/adr/0021).
"""

import asyncio
import time

import msgspec
import structlog

from halfdrop.contracts.errors import HalfdropError, NotFound, PermanentError, TransientError, Unavailable
from halfdrop.contracts.jobs import Job, JobError, JobState, JobStatus, accepted_status
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.batch_book import Batch, Batches, input_path
from halfdrop.edge.batch_lines import LINE_MAX_BYTES, BatchLine, understand_line
from halfdrop.edge.names import batch_order_id
from halfdrop.edge.orders import OrderBook
from halfdrop.edge.previews import Pattern, Previews
from halfdrop.edge.requests import MASTER_SIZE_PX
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.models.template_shelf import TemplateShelf
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

UNFINISHED_MAX = 4096
"""Orders of all batches of this edge that are unfinished at once: 130 MB of OUTBOX with their plates."""

AHEAD_BYTES = 4 * LINE_MAX_BYTES
"""How much of a batch's lines is read at once."""

PATIENCE_S = 1.0
"""How long a drawing for a batch waits for a moment without previews; then it takes its turn all the same."""

LOOK_S = 0.005
"""Between two looks whether that moment has come: a quarter of a drawing."""

ROUND_S = 0.5
"""How long nothing is looked at if nothing wakes us: deadlines, states to write, tries after an outage."""

RETRY_S = 1.0


class Feeder:
    """What the feeder works with."""

    def __init__(
        self,
        batches: Batches,
        orders: OrderBook,
        previews: TenantPreviews,
        objects: ObjectStore,
        *,
        templates: TemplateShelf,
        origin: str,
    ) -> None:
        self._batches = batches
        self._orders = orders
        self._previews = previews
        self._objects = objects
        self._templates = templates
        self._origin = origin
        self._fed_last: dict[str, str] = {}
        """The batch of each tenant that was last fed."""

    async def run(self) -> None:
        """Feed for ever; every outage is waited out, and no batch stops another."""
        while True:
            if await self._take_up():
                break
            await asyncio.sleep(RETRY_S)
        while True:
            self._batches.wake.clear()
            has_fed = await self._feed_each_tenant()
            try:
                await self._batches.save_due()
            except TransientError as error:
                log.warning("batch_not_saved", error=error.detail)
            if not has_fed:
                await self._rest()

    async def _take_up(self) -> bool:
        """Learn what became of the orders that were unfinished when the last run ended; False while nobody knows."""
        try:
            for batch in self._batches.open():
                for number in sorted(batch.unfinished):
                    await self._look_up(batch, number)
        except TransientError as error:
            log.warning("batches_not_taken_up", error=error.detail)
            return False
        return True

    async def _look_up(self, batch: Batch, number: int) -> None:
        order_id = batch_order_id(batch.state.id, number)
        try:
            self._batches.note(await self._orders.find(order_id, batch.state.tenant))
        except NotFound:  # its news may still come; until then the batch is not over
            log.error("batch_order_lost", job_id=order_id)

    async def _feed_each_tenant(self) -> bool:
        """Place one line for each tenant that has one to place: of its batches the one after that of its last turn."""
        by_tenant: dict[str, list[Batch]] = {}
        for batch in self._batches.open():
            by_tenant.setdefault(batch.state.tenant, []).append(batch)
        self._fed_last = {tenant: last for tenant, last in self._fed_last.items() if tenant in by_tenant}
        has_fed = False
        for tenant, batches in by_tenant.items():
            last = self._fed_last.get(tenant, "")
            for batch in sorted(batches, key=lambda batch: (batch.state.id <= last, batch.state.id)):
                if await self._tend(batch):
                    self._fed_last[tenant], has_fed = batch.state.id, True
                    break
        return has_fed

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(ROUND_S):
                await self._batches.wake.wait()
        except TimeoutError:
            return

    async def _tend(self, batch: Batch) -> bool:
        """Do the next thing for a batch; return whether a line was placed. Nothing that fails here is raised."""
        if batch.retry_s > time.monotonic():
            return False
        try:
            return await self._tend_or_fail(batch)
        except TransientError as error:
            batch.say(error.detail)
            batch.retry_s = time.monotonic() + max(RETRY_S, min(error.retry_after_s, 5.0))
        except Exception:  # a bug: it must not stop the others, nor go unseen
            log.exception("batch_not_fed", batch_id=batch.state.id)
            batch.say("the edge failed to place its next line; its log says why")
            batch.retry_s = time.monotonic() + RETRY_S
        return False

    async def _tend_or_fail(self, batch: Batch) -> bool:
        state, now = batch.state, time.time()
        if state.cancel_at is not msgspec.UNSET and state.cancel_at <= now and state.phase != "canceling":
            log.info("batch_deadline_passed", batch_id=state.id)
            await self._batches.set_phase(batch, "canceling")
        if batch.state.phase == "canceling":
            await self._cancel(batch, now)
            return False
        if not batch.has_more and not batch.unfinished:
            await self._batches.end(batch, "completed", now)
            return False
        if batch.state.phase == "paused" or not batch.has_more:
            return False
        if not self._orders.is_connected:  # said at once, also where enough is under way already
            raise Unavailable("the edge's NATS server is away; the batch goes on when it is back")
        if len(batch.unfinished) >= batch.window or self._batches.unfinished() >= UNFINISHED_MAX:
            batch.say("")
            return False
        line, end_bytes = await self._next_line(batch)
        await self._place(batch, line)
        batch.ahead.popleft()
        batch.change(cursor_bytes=end_bytes)
        batch.say("")
        self._batches.lines_placed += 1
        return True

    async def _cancel(self, batch: Batch, now: float) -> None:
        """Cancel what is unfinished, and end the batch once nothing is."""
        for number in sorted(batch.unfinished - batch.cancel_asked):
            await self._orders.cancel(batch_order_id(batch.state.id, number), batch.state.tenant, now)
            batch.cancel_asked.add(number)
        if not batch.unfinished:
            await self._batches.end(batch, "canceled", now)

    async def _next_line(self, batch: Batch) -> tuple[BatchLine, int]:
        """Return the next line and the place of its end. Raises Unavailable while the object store is away."""
        if not batch.ahead:
            state = batch.state
            path, begin = input_path(state.tenant, state.id), state.cursor_bytes
            data = await self._objects.get_range(path, begin, min(AHEAD_BYTES, state.input_bytes - begin))
            if data is None:
                raise TransientError(f"{path} is not in the object store; it goes on when that is back, or cancel it")
            for raw in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
                begin += len(raw)
                batch.ahead.append((msgspec.json.decode(raw, type=BatchLine), begin))
        return batch.ahead[0]

    async def _place(self, batch: Batch, line: BatchLine) -> None:
        """Make an order of a line, unless it is one already."""
        order_id, tenant = batch_order_id(batch.state.id, line.line), batch.state.tenant
        try:
            status = await self._orders.find(order_id, tenant)
        except NotFound:
            status = await self._submit(order_id, tenant, line)
        if not status.state.is_final:
            batch.placed_s[line.line] = time.monotonic()
        self._batches.note(status)

    async def _submit(self, order_id: str, tenant: str, line: BatchLine) -> JobStatus:
        previews = self._previews.of(tenant)
        try:
            pattern, order = understand_line(previews, self._templates, line)
            plates = await self._draw_quietly(previews, pattern)
        except PermanentError as error:  # right when it was accepted, and not now: its model is gone
            return await self._orders.apply(_failed_status(order_id, tenant, self._origin, line, error))
        job = Job(
            id=order_id,
            tenant=tenant,
            job_class="bulk",
            origin=self._origin,
            spec=pattern.spec,
            model=self._previews.bundle.name,
            size_px=order.size_px,
            formats=order.formats,
            colourways=order.colourways,
            printing=order.printing,
            finishing=order.finishing,
            plates=plates,
            created_at=time.time(),
            wording=pattern.wording,
            webhook=line.webhook,
        )
        return await self._orders.submit(job, pattern.key)

    async def _draw_quietly(self, previews: Previews, pattern: Pattern) -> Plates:
        """Return the pattern's plates; where they must be drawn, while no preview is."""
        found = await previews.find_plates(pattern)
        if found is not None:
            return found
        for _ in range(round(PATIENCE_S / LOOK_S)):
            if self._previews.previewer.queue.is_idle:
                break
            await asyncio.sleep(LOOK_S)
        return await previews.plates(pattern)


def _failed_status(order_id: str, tenant: str, origin: str, line: BatchLine, error: HalfdropError) -> JobStatus:
    """Return the status of a line that cannot become an order: as it was written, for it could not be understood."""
    assert isinstance(error, PermanentError)
    spec = PatternSpec(
        prompt=line.input.prompt,
        repeat=line.input.repeat or Repeat().normalise(),
        model_digest=line.version or line.input.model,
    )
    now = time.time()
    size_px = MASTER_SIZE_PX if line.input.size_px is msgspec.UNSET else line.input.size_px
    job = Job(id=order_id, tenant=tenant, job_class="bulk", origin=origin, spec=spec,
              size_px=size_px, created_at=now, webhook=line.webhook)  # fmt: skip
    status = accepted_status(job, pattern_key(spec))
    reason = JobError(code=error.code, detail=error.detail)
    return msgspec.structs.replace(status, state=JobState.FAILED, completed_at=now, error=reason)


async def feed_batches(
    batches: Batches,
    orders: OrderBook,
    previews: TenantPreviews,
    objects: ObjectStore,
    *,
    templates: TemplateShelf,
    origin: str,
) -> None:
    """Take up what earlier runs left unfinished, then feed for ever."""
    await Feeder(batches, orders, previews, objects, templates=templates, origin=origin).run()
