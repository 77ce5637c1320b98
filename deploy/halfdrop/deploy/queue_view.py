"""The hub's queue as an operator sees it: the stream's own counts, the policy, and what workers tell."""

import asyncio

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import STATE_EVERY_S, WorkerState, decode_state
from halfdrop.contracts.subjects import JOBS_STREAM, worker_state
from halfdrop.hub.fair_order import LaneName
from halfdrop.hub.lanes import read_lane
from halfdrop.hub.policy import QueuePolicy, read_policy
from halfdrop.runtime.broker import Broker

LISTEN_S = 1.5 * STATE_EVERY_S
"""Every worker tells its state once in this time."""


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """A lane: its jobs as the stream counts them, their work as workers reckon it."""

    job_class: JobClass
    tenant: str
    jobs: int
    work: float | None
    """None while no worker tells of the lane."""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """The queue at one moment."""

    policy: QueuePolicy
    lanes: tuple[LaneView, ...]
    workers: tuple[WorkerState, ...]
    unread_subjects: tuple[str, ...] = ()
    """Where messages lie that belong to no lane; nobody takes them."""


async def look_at_queue(broker: Broker, region: str) -> QueueView:
    """Return how the queue stands, after listening for every worker. Raises Unavailable if the server does not say."""
    heard: dict[str, WorkerState] = {}

    async def hear(message: Msg) -> None:
        try:
            state = decode_state(message.data)
        except msgspec.MsgspecError:
            return  # of another release, or not a worker's
        heard[state.worker] = state

    try:
        subscription = await broker.nc.subscribe(worker_state(region, "*"), cb=hear)
        await asyncio.sleep(LISTEN_S)
        await subscription.unsubscribe()
        counts, unread = await _count(broker)
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"the hub's NATS server does not tell of its queue: {error!r}") from error
    works = {
        LaneName(lane.job_class, lane.tenant): lane.work
        for state in sorted(heard.values(), key=lambda state: state.at)
        for lane in state.lanes
    }
    lanes = (
        LaneView(job_class=lane.job_class, tenant=lane.tenant, jobs=jobs, work=works.get(lane))
        for lane, jobs in counts.items()
    )
    return QueueView(
        policy=await read_policy(broker),
        lanes=tuple(sorted(lanes, key=lambda lane: (lane.job_class, -lane.jobs))),
        workers=tuple(sorted(heard.values(), key=lambda state: state.worker)),
        unread_subjects=unread,
    )


async def _count(broker: Broker) -> tuple[dict[LaneName, int], tuple[str, ...]]:
    try:
        info = await broker.js.stream_info(JOBS_STREAM, subjects_filter="jobs.>")
    except NotFoundError:  # nothing was ever ordered
        return {}, ()
    counts: dict[LaneName, int] = {}
    unread = []
    for subject, jobs in (info.state.subjects or {}).items():
        lane = read_lane(subject)
        if lane is None:
            unread.append(subject)
        else:
            counts[lane] = counts.get(lane, 0) + jobs
    return counts, tuple(unread)
