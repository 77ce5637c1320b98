"""The hub worker, top to bottom: collect jobs → render → refine → finish → settle.

As many jobs at once as it has slots, one if it was told nothing: a job uses all threads that the worker has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

import structlog
from msgspec import UNSET
from msgspec.structs import replace
from opentelemetry.trace import Span, SpanKind

from halfdrop.contracts.errors import PermanentError, TransientError, Unavailable
from halfdrop.contracts.jobs import Artifact, Job, JobState
from halfdrop.contracts.patterns import canonical_bytes, pattern_key
from halfdrop.contracts.pools import Pace
from halfdrop.contracts.subjects import EVENTS_STREAM, JOBS_STREAM, LOCAL_TENANT, spec_path, tenant_folder
from halfdrop.hub import outcomes
from halfdrop.hub.cancels import Cancels
from halfdrop.hub.claiming import find_claimant
from halfdrop.hub.collecting import JobQueue, open_queue
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.demand import HubDemand
from halfdrop.hub.finishing import finish, finishing_steps
from halfdrop.hub.gating import AnotherSeed, GateFailed, Gatekeeper, next_seed
from halfdrop.hub.imported import keep_looking
from halfdrop.hub.leaving import FinishingPace, JobPace, leave_in_time
from halfdrop.hub.metrics import ABANDONED, UNREADABLE, Tally
from halfdrop.hub.outcomes import Outcome, Verdict
from halfdrop.hub.painting import design_unit, paint
from halfdrop.hub.pool_state import PaceMeter, tell_state
from halfdrop.hub.printing.design import Design, design_job
from halfdrop.hub.progress import Progress
from halfdrop.hub.reading import check_job, read_job
from halfdrop.hub.refining import PlateRefiner, refine
from halfdrop.hub.rendering import render
from halfdrop.hub.reporting import Report, begin_status
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.settling import bury_unreadable, find_result, settle
from halfdrop.models.fields import decode_fields
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.lifecycle import end_tasks
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.publishing import GroupPublisher
from halfdrop.runtime.semantics import DELIVERY_ATTEMPT, OUTCOME, messaging
from halfdrop.runtime.tracing import OFF, Tracing, mark_failed

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Hub:
    """What a worker works with; opened and closed by its owner."""

    settings: HubSettings
    broker: Broker
    objects: ObjectStore
    sampler: Sampler
    refiner: PlateRefiner
    threads: Executor
    clock: Callable[[], float] = time.time
    bound: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the worker can take jobs."""

    models: tuple[str, ...] = ()
    """Digests of the bundles that the sampler can draw with."""

    cancels: Cancels = field(default_factory=Cancels)
    tally: Tally = field(default_factory=Tally)
    tracing: Tracing = OFF
    pace: FinishingPace = field(default_factory=FinishingPace)
    at_work: dict[Delivery, JobPace] = field(default_factory=dict)
    """Jobs that are being worked on, and how fast each goes."""

    random: Random = field(default_factory=Random)
    """For the jitter of retries."""

    demand: HubDemand | None = None
    """Counts what is served; None: nobody is told."""

    @cached_property
    def events(self) -> GroupPublisher:
        """The way to EVENTS for news that must arrive."""
        return GroupPublisher(self.broker, self.broker.js, EVENTS_STREAM)


Handle = Callable[[Hub, Delivery, asyncio.Event], Awaitable[Outcome | None]]
"""Does a delivery from its bytes to its answer, and says what became of it; None: it was no job."""


async def run_worker(hub: Hub, stop: asyncio.Event, handle: Handle | None = None) -> None:
    """Take jobs, `slots` at once, until `stop`; then finish or hand back the running ones within grace_s."""
    async with open_queue(hub.broker, hub.settings, hub.cancels, hub.tally) as queue, asyncio.TaskGroup() as tasks:
        meter = PaceMeter()
        telling = tell_state(
            hub.broker,
            hub.settings,
            queue,
            meter,
            lambda: (hub.models, hub.sampler.imported.models),
            rests_s=lambda pace: rests_s(hub, pace),
            bound=hub.bound,
            clock=hub.clock,
        )
        background = [
            tasks.create_task(queue.keep_up()),
            tasks.create_task(telling),
            tasks.create_task(keep_looking(hub.sampler.imported)),
            tasks.create_task(_wake_at(stop, queue)),
        ]
        async with asyncio.TaskGroup() as jobs, aclosing(queue.collect(stop, hub.bound)) as deliveries:
            async for delivery in deliveries:
                work = _work_off(hub, delivery, stop, handle=handle or handle_delivery, queue=queue, meter=meter)
                jobs.create_task(work)
        await end_tasks(background)


async def _wake_at(stop: asyncio.Event, queue: JobQueue) -> None:
    await stop.wait()
    queue.wake()


async def _work_off(
    hub: Hub, delivery: Delivery, stop: asyncio.Event, *, handle: Handle, queue: JobQueue, meter: PaceMeter
) -> None:
    """Do a delivery, and say what it cost."""
    began_s = time.perf_counter()
    spent, is_settled = 1.0, False
    try:
        outcome = await handle(hub, delivery, stop)
        spent, is_settled = spent_part(outcome), outcome is None or outcome.verdict is not Verdict.RETRY
        if outcome is not None and outcome.verdict is Verdict.COMPLETE:
            meter.add(delivery.work, time.perf_counter() - began_s)
    except Unavailable as error:
        hub.tally.outcomes[ABANDONED,] += 1
        # Neither news nor answer reached the server: ack_wait gives the job to the next worker.
        log.warning("delivery_abandoned", sequence=delivery.sequence, error=error.detail)
    finally:
        queue.finish(delivery, spent=spent, is_settled=is_settled)


def rests_s(hub: Hub, pace: Pace | None) -> tuple[float, ...]:
    """Return how long the jobs at work still take, as far as is known. pace: of this worker's slots."""
    rests = (job.rest_s(None if pace is None else pace.seconds(delivery.work)) for delivery, job in hub.at_work.items())
    return tuple(round(rest_s, 3) for rest_s in rests if rest_s is not None)


def spent_part(outcome: Outcome | None) -> float:
    """Return which part of a job's work was done, 0 to 1: what its lane is to pay for."""
    if outcome is None or outcome.verdict in (Verdict.REPEAT, Verdict.YIELD):
        return 0.0
    status = outcome.status
    if outcome.verdict in (Verdict.CANCEL, Verdict.RETRY):
        return status.step / status.steps if status.steps else 0.0
    return 1.0


async def handle_delivery(hub: Hub, delivery: Delivery, stop: asyncio.Event) -> Outcome | None:
    """Do one delivery from its bytes to its answer, and return what became of the job; None if it was none.

    Raises Unavailable if the answer could not be given.
    """
    try:
        job = read_job(delivery.data)
    except PermanentError as error:
        await bury_unreadable(hub.broker, delivery, error)
        hub.tally.outcomes[UNREADABLE,] += 1
        return None
    began_s = time.perf_counter()
    with (
        structlog.contextvars.bound_contextvars(job_id=job.id, attempt=delivery.attempt),
        hub.tally.delivery(delivery, job, hub.clock()) as settled,
        hub.demand.delivery(delivery, job) if hub.demand is not None else nullcontext(),
        _traced(hub, delivery, job) as span,
    ):
        outcome = await _process(hub, delivery, job, stop)
        await settle(hub.broker, hub.events, hub.objects, delivery, outcome)
        settled(outcome)
        status = outcome.status
        span.set_attribute(OUTCOME, outcome.verdict.value)
        if status.error is not None:
            mark_failed(span, status.error.code)
        log.info(
            "job_" + outcome.verdict.value,
            pattern_key=status.pattern_key,
            size_px=status.size_px,
            elapsed_s=round(time.perf_counter() - began_s, 3),
            error=status.error.code if status.error is not None else None,
            stages=status.log,
        )
    return outcome


def _traced(hub: Hub, delivery: Delivery, job: Job) -> AbstractContextManager[Span]:
    """Return the span of a delivery, in the trace that the job came with; its first one tells of the wait before, too.

    The headers are the same at each delivery, so retries and redeliveries are parts of one trace.
    """
    attributes = messaging("process", "process", JOBS_STREAM, job.id)
    attributes[DELIVERY_ATTEMPT] = delivery.attempt
    if delivery.attempt == 1:
        times = {"began_at": delivery.queued_at, "ended_at": hub.clock()}
        hub.tracing.note_past(f"wait {JOBS_STREAM}", **times, attributes=attributes, headers=delivery.headers)
    return hub.tracing.span(
        f"process {JOBS_STREAM}", kind=SpanKind.CONSUMER, attributes=attributes, headers=delivery.headers
    )


async def _process(hub: Hub, delivery: Delivery, job: Job, stop: asyncio.Event) -> Outcome:
    """Decide what is to be done with a delivery, and do the work if there is any."""
    max_deliver = hub.settings.max_deliver
    key = pattern_key(job.spec)
    status = await begin_status(hub.broker, job, key, delivery, worker=hub.settings.name, clock=hub.clock)
    try:
        earlier = await find_result(hub.objects, job.tenant, job.id)
        region = hub.settings.region
        if earlier is None:
            region = await find_claimant(hub.objects, delivery, job, region=region)
    except TransientError as error:
        return outcomes.failed(status, error, max_deliver=max_deliver, now=hub.clock(), random=hub.random)
    if earlier is not None:
        return outcomes.finished_before(earlier, status)
    if region != hub.settings.region:
        log.info("job_left_to_its_region", region=region)
        return Outcome(verdict=Verdict.YIELD, status=status)
    if outcomes.is_exhausted(status, max_deliver=max_deliver):
        return outcomes.exhausted(status, max_deliver=max_deliver, now=hub.clock())
    if hub.cancels.is_canceled(job.id):
        return outcomes.canceled(status, now=hub.clock())
    progress = Progress(hub.objects, job, key)
    if delivery.attempt > 1:
        await progress.load()
    report = Report(hub.broker, status, hub.tally.stages, hub.tracing)
    outcome = await _work_unless_stopped(hub, delivery, job, report, progress=progress, stop=stop)
    return replace(outcome, is_saved=progress.is_saved)


async def _work_unless_stopped(
    hub: Hub, delivery: Delivery, job: Job, report: Report, *, progress: Progress, stop: asyncio.Event
) -> Outcome:
    """Work on the job with a heartbeat, until it is done or cancelled, or cannot be done before this worker stops."""
    settings = hub.settings
    pace = JobPace(hub.pace, job.size_px)
    with _at_work(hub, delivery, pace):
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(_work(hub, job, report, progress, pace))
            cancel = tasks.create_task(hub.cancels.wait_for_cancel(job.id))
            leave = tasks.create_task(leave_in_time(stop, settings.grace_s, pace.left_s))
            alive = tasks.create_task(delivery.keep_alive(settings.ack_wait_s / 3))
            telling = tasks.create_task(report.publish_changes())
            saving = tasks.create_task(progress.save_often(settings.save_every_s))
            await asyncio.wait({work, cancel, leave}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, cancel, leave, telling, saving):
                task.cancel()
            if leave.done() and not (work.done() or cancel.done()):
                await progress.save_before_leaving()
            alive.cancel()
    if not work.cancelled():
        return work.result()
    if not cancel.cancelled():
        return outcomes.canceled(report.status, now=hub.clock())
    return outcomes.handed_back(report.status)


@contextmanager
def _at_work(hub: Hub, delivery: Delivery, pace: JobPace) -> Iterator[None]:
    hub.at_work[delivery] = pace
    try:
        yield
    finally:
        del hub.at_work[delivery]


async def _make_files(hub: Hub, job: Job, report: Report, progress: Progress, pace: JobPace) -> tuple[Artifact, ...]:
    """Return the job's files, stored: of the first seed whose pattern passes the gates of the job's template."""
    gatekeeper = None if job.finishing is UNSET else Gatekeeper(job.finishing, hub.objects)
    while True:
        key = check_job(job)
        design = await _draw(hub, job, key, report=report, progress=progress, pace=pace, gatekeeper=gatekeeper)
        try:
            return await finish(
                job,
                design,
                objects=hub.objects,
                threads=hub.threads,
                report=report,
                progress=progress,
                device=hub.refiner.device,
                gatekeeper=gatekeeper,
                profiles=Path(hub.settings.profiles_dir) if hub.settings.profiles_dir else None,
            )
        except AnotherSeed:
            assert gatekeeper is not None
            gatekeeper.close_attempt(job)
            job = next_seed(job)
            key = pattern_key(job.spec)
            log.info("another_seed", seed=job.spec.seed, retried=gatekeeper.retried)
            await keep_spec(hub.objects, job, key)
            report.turn_to(job.spec, key)
            progress.turn_to(job, key)


async def _draw(
    hub: Hub,
    job: Job,
    key: str,
    *,
    report: Report,
    progress: Progress,
    pace: JobPace,
    gatekeeper: Gatekeeper | None,
) -> Design:
    """Return what the job's files are made of: plates, or a unit that a user's checkpoint painted."""
    model = hub.sampler.imported.find(job.spec.model_digest) if job.plates is None else None
    if model is not None:
        painted = await paint(
            job, key, model=model, objects=hub.objects, sampler=hub.sampler, report=report, progress=progress, pace=pace
        )
        pace.finish(report.part_done(finishing_steps(job)))
        return await design_unit(job, painted, model=model, report=report)
    plates = await render(
        job, key, objects=hub.objects, sampler=hub.sampler, report=report, progress=progress, pace=pace
    )
    pace.finish(report.part_done(finishing_steps(job)))
    if gatekeeper is None or gatekeeper.needs_refining:
        return design_job(job, plates, await refine(plates, job.spec, refiner=hub.refiner, report=report))
    return design_job(job, plates, decode_fields(plates))


async def keep_spec(objects: ObjectStore, job: Job, key: str) -> None:
    """Store the spec of a pattern that no edge has drawn, so that edges know its key."""
    path = spec_path(key) if job.tenant == LOCAL_TENANT else f"{tenant_folder(job.tenant)}/{spec_path(key)}"
    await objects.put(path, canonical_bytes(job.spec), media_type="application/json")


async def _work(hub: Hub, job: Job, report: Report, progress: Progress, pace: JobPace) -> Outcome:
    """Turn the job into files. Every error becomes an outcome: the queue must go on."""
    max_deliver = hub.settings.max_deliver
    try:
        async with asyncio.timeout(hub.settings.job_max_s):
            artifacts = await _make_files(hub, job, report, progress, pace)
            pace.finished()
    except Exception as error:
        if isinstance(error, GateFailed):
            report.keep_files(error.artifacts)
        if not isinstance(error, (TransientError, PermanentError, TimeoutError)):
            log.exception("job_crashed")
        now = hub.clock()
        return outcomes.failed(report.status, error, max_deliver=max_deliver, now=now, random=hub.random)
    done = replace(
        report.status,
        state=JobState.COMPLETED,
        step=report.status.steps,
        completed_at=hub.clock(),
        artifacts=artifacts,
    )
    return Outcome(verdict=Verdict.COMPLETE, status=done)
