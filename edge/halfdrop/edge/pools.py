"""What the pools told last: who works where, who waits for what, and what can be done at all.

Every worker tells its state each second over plain NATS, and the leaf node carries it here. The newest word of each
counts; a worker that is not heard for STATE_KEPT_S is gone. Nothing is stored, and nothing depends on it but
estimates, refusals at the door and the choice of a region.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.msg import Msg

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.imported import ImportedModel
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import DEFAULT_WEIGHTS, STATE_KEPT_S, Pace, WorkerState, decode_state
from halfdrop.contracts.subjects import worker_state
from halfdrop.edge.estimating import PoolLoad
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

WORKERS_MAX = 1_024
"""Workers remembered, those heard last: 30 MB if all of them told of all their lanes."""

STATE_MAX_BYTES = 64 * 1024
"""A state with all the lanes it may tell of takes half of this."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's state, and when it came."""

    state: WorkerState
    at_s: float


class Pools:
    """The newest state of each worker."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, hand_on: Callable[[WorkerState], None] | None = None
    ) -> None:
        self._clock = clock
        self._hand_on = hand_on
        """Given each state that is taken."""

        self._heard: OrderedDict[tuple[str, str], Heard] = OrderedDict()
        self._imported: dict[str, ImportedModel] = {}
        self.refused = 0
        """States that were malformed or too large."""

    def take(self, data: bytes) -> None:
        """Take a worker's state in place of its last. What is none is counted, and told of in the log once."""
        try:
            if len(data) > STATE_MAX_BYTES:
                raise ValueError(f"{len(data)} bytes; allowed: {STATE_MAX_BYTES}")
            state = decode_state(data)
        except ValueError as error:  # msgspec's errors and bad UTF-8 are of this kind
            self.refused += 1
            if self.refused == 1:
                log.warning("worker_state_refused", error=str(error))
            return
        name = state.region, state.worker
        self._heard[name] = Heard(state=state, at_s=self._clock())
        self._heard.move_to_end(name)
        if len(self._heard) > WORKERS_MAX:
            self._heard.popitem(last=False)
        if self._hand_on is not None:
            self._hand_on(state)

    def workers(self, region: str | None = None) -> list[Heard]:
        """Return the workers that live, of one region or of all, the one heard last first."""
        oldest_s = self._clock() - STATE_KEPT_S
        for name in [name for name, heard in self._heard.items() if heard.at_s < oldest_s]:
            del self._heard[name]
        found = [heard for heard in self._heard.values() if region is None or heard.state.region == region]
        return found[::-1]

    def age_s(self, heard: Heard) -> float:
        """Return how long ago that was."""
        return self._clock() - heard.at_s

    def regions(self) -> list[str]:
        """Return the regions that were heard of."""
        return sorted({heard.state.region for heard in self.workers()})

    def is_draining(self, region: str) -> bool:
        """True if the region takes no new jobs."""
        return any(heard.state.is_draining for heard in self.workers(region))

    def load(self, region: str, job_class: JobClass | None = None) -> PoolLoad:
        """Return the region's load, of those workers that take `job_class` if one is given.

        Lanes and weights are what the worker heard last says of the whole pool.
        """
        workers = self.workers(region)
        states = [heard.state for heard in workers]
        fit = [heard for heard in workers if job_class is None or job_class in heard.state.classes]
        able = [heard.state for heard in fit]
        rests_s = [max(0.0, rest_s - self.age_s(heard)) for heard in fit for rest_s in heard.state.rests_s]
        taken = {name for state in able for name in state.classes}
        return PoolLoad(
            slots=sum(state.slots for state in able),
            busy=sum(state.busy for state in able),
            pace=_mean_pace(able),
            weights=states[0].weights if states else DEFAULT_WEIGHTS,
            lanes=tuple(lane for lane in states[0].lanes if lane.job_class in taken) if states else (),
            other_work=states[0].other_work if states else 0.0,
            rests_s=tuple(rests_s),
            newcomers=states[0].newcomers if states else 0.0,
        )

    def imported(self) -> list[ImportedModel]:
        """Return the models of their users that the pools have; with no pool heard, those that were heard of last.

        An order that is taken while no pool is heard waits for one, as any other.
        """
        heard = [heard.state for heard in self.workers()]
        if heard:
            self._imported = {model.digest: model for state in heard for model in state.imported}
        return list(self._imported.values())

    def check_runnable(self, *, size_px: int, model_digest: str, has_plates: bool) -> None:
        """Refuse what no pool that is heard can do; with none heard everything passes. Raises InvalidInput."""
        states = [heard.state for heard in self.workers()]
        if not states:
            return
        largest_px = max(state.size_max_px for state in states)
        if size_px > largest_px and all(state.size_max_px for state in states):
            allowed = f"up to {largest_px} px, the largest that any pool makes now (GET /v1/pools)"
            raise InvalidInput("input.size_px", got=size_px, allowed=allowed)
        imported = self.imported()
        if any(model.digest == model_digest for model in imported):
            return
        if not has_plates and not any(model_digest in state.models for state in states):
            models = sorted({model[:12] for state in states for model in state.models} | {m.name for m in imported})
            allowed = f"a model that a pool has now: {', '.join(models) or 'none'} (GET /v1/pools)"
            raise InvalidInput("input.model", got=model_digest, allowed=allowed)


def _mean_pace(states: list[WorkerState]) -> Pace | None:
    """Return the pace of a slot, one with another; None if no worker has measured itself."""
    paces = [(pace, state.slots) for state in states if (pace := pace_of(state)) is not None]
    slots = sum(weight for _, weight in paces)
    if not slots:
        return None
    return Pace(
        job_s=sum(pace.job_s * weight for pace, weight in paces) / slots,
        unit_s=sum(pace.unit_s * weight for pace, weight in paces) / slots,
    )


def pace_of(state: WorkerState) -> Pace | None:
    """Return how fast a worker's slot is; of one of an earlier release, by what it says instead."""
    if state.pace is not None:
        return state.pace
    return Pace(unit_s=1 / state.units_per_s) if state.units_per_s > 0 else None


async def follow_pools(broker: Broker, pools: Pools) -> None:
    """Hear every worker, for ever; the client subscribes again by itself after an outage."""

    async def hear(message: Msg) -> None:
        pools.take(message.data)

    await broker.nc.subscribe(worker_state("*", "*"), cb=hear)
    await asyncio.Event().wait()
