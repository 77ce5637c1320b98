"""Where jobs come from: a durable pull consumer for each lane (a tenant's jobs of one class), shared by all workers.

Which lane is next is decided here, in the worker, by what it knows of the pool (`lanes`, `fair_order`); the server only
hands out a lane's jobs, first in, first out, and holds its cap (max_ack_pending).
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import BadRequestError

from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.contracts.jobs import accepted_work
from halfdrop.contracts.subjects import JOBS_STREAM, cancel_job, heard_jobs, queued_job, taken_jobs
from halfdrop.contracts.work import WORK_HEADER, WORK_MIN
from halfdrop.hub.cancels import Cancels, watch_cancels
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.fair_order import LaneName
from halfdrop.hub.lanes import Lanes, Planned, read_lane
from halfdrop.hub.metrics import Tally
from halfdrop.hub.policy import SUBJECTS as POLICY_SUBJECTS
from halfdrop.hub.policy import QueuePolicy, follow_policy, read_policy
from halfdrop.hub.pool_news import PoolNews
from halfdrop.hub.pulling import Nothing, Puller, Wish
from halfdrop.hub.reading import read_job
from halfdrop.hub.settings import HubSettings
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.streams import ensure_hub_streams

log = structlog.get_logger()

OLD_CONSUMER = "workers"
"""The one consumer of a release before this one. A work queue has no place for it beside those of the lanes."""

INACTIVE_S = 3_600.0
"""A consumer that no worker asked for so long is removed by the server; with its next job the lane gets another."""

CONSUMERS_MAX = 4_096
"""Consumers remembered as made; one that is forgotten is made again, which changes nothing."""

UNREAD_MAX = 1_000
"""Subjects that name no lane are written by nobody of us; more of them than this are not even complained of."""

WORK_MAX = 1e6
"""What a header may say; the largest real job is a ten-thousandth of it."""

RETRY_MIN_S, RETRY_MAX_S = 0.5, 5.0
HEARING_GROUP = "hearing"
IDLE_S = 1.0
"""Without news the lanes are looked at so often: what was missed costs no more."""


class JobQueue:
    """A worker's place at the queue: takes jobs while it has a free slot, and hears when there may be one."""

    def __init__(self, broker: Broker, settings: HubSettings, cancels: Cancels, tally: Tally) -> None:
        self.policy = QueuePolicy()
        self.lanes = Lanes(self.policy.all_weights(), settings.taken_classes)
        self.news = PoolNews()
        self.in_hand = 0
        self.is_draining = False
        self._broker = broker
        self._settings = settings
        self._cancels = cancels
        self._tally = tally
        self._puller = Puller(broker)
        self._consumers: dict[LaneName, int | None] = {}
        """The cap that each lane's consumer was made with, as far as is known."""

        self._remade: set[LaneName] = set()
        """Lanes whose consumer was gone at the last pull, and is made again for the next."""

        self._unread: set[str] = set()
        """Subjects of JOBS that name no lane; each is complained of once."""

        self._changed = asyncio.Event()
        self._policy_changed = asyncio.Event()

    def apply(self, policy: QueuePolicy) -> None:
        """Share by `policy` from now on."""
        self.policy = policy
        self.lanes.set_weights(policy.all_weights())
        self._changed.set()

    def drain(self, is_draining: bool) -> None:
        """Tell from now on whether the region takes no new jobs. What it has is worked off all the same."""
        self.is_draining = is_draining

    async def hear_queued(self, message: Msg) -> None:
        """Take the headers of a job that was just queued, for the whole pool."""
        prefix = f"{heard_jobs(self._settings.region)}."
        lane = read_lane("jobs." + message.subject.removeprefix(prefix))
        if lane is not None:
            work = _work_told(message) or WORK_MIN
            self.lanes.hear(lane, work, time.monotonic())
            told = self.news.about(lane)
            told.jobs_heard += 1
            told.work_heard += work
            self._changed.set()

    async def hear_pool(self, message: Msg) -> None:
        """Take what another worker did."""
        now = time.monotonic()
        for each in self.news.read(message):
            if each.jobs_heard > 0:
                self.lanes.hear(each.lane, each.work_heard, now, jobs=each.jobs_heard)
            if each.taken:
                self.lanes.take(each.lane, each.taken, now)
            if each.given_back:
                self.lanes.give_back(each.lane, each.given_back)
            self.lanes.settle(each.lane, each.jobs_settled, each.work_settled, now)
        self._changed.set()

    async def count(self) -> None:
        """Ask the stream how many jobs wait in each lane. Raises Unavailable."""
        asked_at = time.monotonic()
        try:
            info = await self._broker.js.stream_info(JOBS_STREAM, subjects_filter="jobs.>")
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"JOBS does not tell its lanes: {error!r}") from error
        counts: dict[LaneName, int] = {}
        for subject, jobs in (info.state.subjects or {}).items():
            lane = read_lane(subject)
            if lane is not None:
                counts[lane] = counts.get(lane, 0) + jobs
            elif subject not in self._unread and len(self._unread) < UNREAD_MAX:
                self._unread.add(subject)
                log.warning("lane_unknown", subject=subject, jobs=jobs)
        self.lanes.count(counts, asked_at=asked_at, now=time.monotonic())
        self._changed.set()

    def finish(self, delivery: Delivery, *, spent: float, is_settled: bool) -> None:
        """Say that a job is no longer in hand. spent: which part of its work was done for it, 0 to 1; is_settled: it
        has left the queue."""
        lane = delivery.lane
        told = self.news.about(lane)
        if (unspent := delivery.work * (1 - spent)) > 0:
            self.lanes.give_back(lane, unspent)
            told.given_back += unspent
        if is_settled:
            told.jobs_settled += 1
            told.work_settled += delivery.work
        self.lanes.settle(lane, int(is_settled), delivery.work if is_settled else 0.0, time.monotonic())
        self.in_hand -= 1
        self.news.end(lane)
        self._changed.set()

    async def collect(self, stop: asyncio.Event, bound: asyncio.Event) -> AsyncGenerator[Delivery, None]:
        """Yield deliveries while a slot is free, until `stop`; a job that arrives after it is handed back.

        Sets `bound` once jobs can be taken. Outlives every outage: whatever fails is logged, and all is made sure of
        anew after a growing wait. Whoever gets a delivery calls `finish` when done with it.
        """
        retry_s = RETRY_MIN_S
        is_bound = False
        while not stop.is_set():
            try:
                if not is_bound:
                    await self._bind()
                    is_bound = True
                    log.info("jobs_bound", lanes=self.lanes.known)
                    bound.set()
                deliveries = await self._take_next()
                retry_s = RETRY_MIN_S
            except Unavailable as error:
                log.warning("jobs_unavailable", error=error.detail, retry_after_s=retry_s)
                is_bound = False
                await _pause(stop, retry_s)
                retry_s = min(2 * retry_s, RETRY_MAX_S)
                continue
            for delivery in deliveries:
                if stop.is_set():
                    await delivery.nak()
                    self.finish(delivery, spent=0.0, is_settled=False)
                else:
                    yield delivery
        await self._puller.close()

    def wake(self) -> None:
        """Make `collect` look at everything again."""
        self._changed.set()

    async def keep_up(self) -> None:
        """Follow policy and cancels and tell the pool what this worker does, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow_policy(self._broker, self.apply, self.drain, self._policy_changed))
            tasks.create_task(watch_cancels(self._broker, self._cancels))
            tasks.create_task(self.news.tell(self._broker, self._settings.region))

    async def hear_policy(self, _: Msg) -> None:
        """Look at the policy: it was changed."""
        self._policy_changed.set()

    async def _bind(self) -> None:
        """Make sure of all that taking a job needs. The policy first: a consumer must not be made without its cap."""
        self._consumers.clear()
        self._remade.clear()
        try:
            await ensure_hub_streams(self._broker.js, region=self._settings.region)
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"the hub's streams cannot be made sure of: {error!r}") from error
        try:
            self.apply(await read_policy(self._broker))
        except PermanentError as error:
            log.error("queue_policy_refused", error=error.detail)
        await self._cancels.catch_up(self._broker)
        await self.count()

    async def _take_next(self) -> list[Delivery]:
        """Take a job for each free slot, as far as there are lanes with some; without any, wait until that may have
        changed."""
        self._changed.clear()
        now = time.monotonic()
        free = self._settings.slots - self.in_hand
        plan = self.lanes.plan((free + 1) // 2, now)  # half of them: others may have slots, too
        if not plan:
            await self._wait(min(IDLE_S, self.lanes.wake_in_s(now)))
            return []
        wishes: list[Wish] = []
        try:
            await self._cancels.catch_up(self._broker)
            for planned in plan:
                cap = self.policy.cap(planned.lane)
                await self._ensure_consumer(planned.lane, cap)
                wishes.append(Wish(consumer=_consumer(planned.lane), count=planned.jobs, is_capped=cap is not None))
            asked_at = time.monotonic()
            await self._puller.pull(wishes)
        finally:
            for planned in plan:  # what comes is charged with what it really asks for
                self.lanes.give_back(planned.lane, planned.work)
        taken = [
            self._take(message, planned) for planned, wish in zip(plan, wishes, strict=True) for message in wish.found
        ]
        for planned, wish in zip(plan, wishes, strict=True):
            if wish.nothing is not Nothing.GONE:
                self._remade.discard(planned.lane)
                if wish.nothing is not None:
                    is_capped = wish.nothing is Nothing.CAPPED
                    self.lanes.rest(planned.lane, is_capped=is_capped, asked_at=asked_at, now=time.monotonic())
            elif planned.lane not in self._remade:
                log.info("lane_consumer_gone", job_class=planned.lane.job_class, tenant=planned.lane.tenant)
                self._remade.add(planned.lane)
                del self._consumers[planned.lane]
            elif not taken:  # else at the next round: what came must be worked on
                raise Unavailable(f"the consumer of a lane does not answer: {wish.consumer}")
        return taken

    def _take(self, message: Msg, planned: Planned) -> Delivery:
        delivery = Delivery(message, lane=planned.lane, work=_work_of(message))
        self.lanes.take(planned.lane, delivery.work, time.monotonic())
        self.news.about(planned.lane).taken += delivery.work
        self._tally.taken[planned.lane.job_class, planned.reason] += 1
        self.in_hand += 1
        self.news.begin(planned.lane)
        return delivery

    async def _ensure_consumer(self, lane: LaneName, cap: int | None) -> None:
        """Make the lane's consumer, or bring it to a new cap. Raises Unavailable."""
        if lane in self._consumers and self._consumers[lane] == cap:
            return
        config = ConsumerConfig(
            name=_consumer(lane),
            durable_name=_consumer(lane),
            filter_subjects=[queued_job(*lane), f"{queued_job(*lane)}.>"],
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._settings.ack_wait_s,
            max_ack_pending=cap or -1,
            inactive_threshold=INACTIVE_S,
            # No limit at the server: past it a job would stay in the work queue with nobody told (the advisory is sent
            # at most once, and only while a pull waits). The worker that receives one delivery too many buries the job.
            max_deliver=-1,
        )
        try:
            await _add_consumer(self._broker.js, config)
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"a lane's consumer cannot be made: {error!r}") from error
        if len(self._consumers) >= CONSUMERS_MAX:
            self._consumers.clear()
        self._consumers[lane] = cap

    async def _wait(self, seconds: float) -> None:
        """Wait until something changed that may let a job be taken."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return


@asynccontextmanager
async def open_queue(
    broker: Broker, settings: HubSettings, cancels: Cancels, tally: Tally
) -> AsyncGenerator[JobQueue, None]:
    """Listen to what happens at the queue, until the block ends. A subscription outlives every outage."""
    queue = JobQueue(broker, settings, cancels, tally)
    hearing = {
        taken_jobs(settings.region): queue.hear_pool,
        **dict.fromkeys(POLICY_SUBJECTS, queue.hear_policy),
        cancel_job("*"): cancels.hear,
    }
    subscriptions = [await broker.nc.subscribe(subject, cb=hear) for subject, hear in hearing.items()]
    # Hearing of a job costs a tenth of doing one without work: one worker hears of it, and tells the others of many.
    heard = f"{heard_jobs(settings.region)}.>"
    subscriptions.append(await broker.nc.subscribe(heard, queue=HEARING_GROUP, cb=queue.hear_queued))
    try:
        yield queue
    finally:
        for subscription in subscriptions:
            try:
                await subscription.unsubscribe()
            except (NatsError, OSError) as error:
                log.debug("unsubscribe_failed", error=repr(error))


async def _add_consumer(js: JetStreamContext, config: ConsumerConfig) -> None:
    try:
        await js.add_consumer(JOBS_STREAM, config)
    except BadRequestError:
        await js.delete_consumer(JOBS_STREAM, OLD_CONSUMER)
        log.info("old_consumer_removed", consumer=OLD_CONSUMER)
        await js.add_consumer(JOBS_STREAM, config)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _consumer(lane: LaneName) -> str:
    return f"lane-{lane.job_class}-{lane.tenant}"


def _work_of(message: Msg) -> float:
    """Return a job's work: what its header says, else what the job itself asks for; the least for what is none."""
    told = _work_told(message)
    if told is not None:
        return told
    try:
        return accepted_work(read_job(message.data))
    except PermanentError:
        return WORK_MIN


def _work_told(message: Msg) -> float | None:
    try:
        work = float((message.headers or {})[WORK_HEADER])
    except (KeyError, ValueError):
        return None
    return None if math.isnan(work) else min(max(work, WORK_MIN), WORK_MAX)
