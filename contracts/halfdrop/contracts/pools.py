"""What a worker tells of itself and its pool, every second: who waits, how fast work goes, what can be done here.

Edges reckon waiting times from it, refuse what no pool can do, and choose a region. It is never stored: the newest one
of each worker counts, and a worker that was not heard for STATE_KEPT_S is gone.
"""

import msgspec

from halfdrop.contracts.imported import ImportedModel
from halfdrop.contracts.jobs import JobClass

STATE_EVERY_S = 1.0
STATE_KEPT_S = 5.0
LANES_MAX = 256
"""Lanes told of, those with the most work first; what the rest hold is told as a sum."""

IMPORTED_MAX = 64
"""Imported models told of, by name: 16 KB of a state."""

DEFAULT_WEIGHTS: dict[JobClass, float] = {"realtime": 8.0, "standard": 3.0, "bulk": 1.0}
"""Shares of the classes while all of them have work; what one does not use is lent to the others."""


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one tenant in one class, first in, first out."""

    job_class: JobClass
    tenant: str
    jobs: int
    """Waiting or being worked on: a job leaves its lane when it is settled."""

    work: float
    """Units of work (`contracts.work`) that these jobs ask for, as far as is known."""

    running: int | msgspec.UnsetType = msgspec.UNSET
    """Of the jobs, those being worked on; unset: not said."""

    lag: float | msgspec.UnsetType = msgspec.UNSET
    """Units of work by which the lane's virtual start is ahead of its class's virtual time: what the others are served
    before it is its turn again, 0 for one that is next. Unset: not said."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long a busy slot takes: something for each job, whatever it is, and something for each unit of its work."""

    job_s: float = 0.0
    unit_s: float = 0.0

    def seconds(self, work: float, jobs: float = 1.0) -> float:
        """Return how long one slot takes for `jobs` jobs that are `work` in all."""
        return self.job_s * jobs + self.unit_s * work


class WorkerState(msgspec.Struct, frozen=True, kw_only=True, tag="worker.v1"):
    """A worker and its view of the pool at one moment."""

    region: str
    worker: str
    at: float
    """Unix seconds at the worker."""

    slots: int = 1
    """Jobs that it works on at once."""

    busy: int = 0
    classes: tuple[JobClass, ...] = ("realtime", "standard", "bulk")
    """Classes that it takes."""

    models: tuple[str, ...] = ()
    """Digests of the bundles that it can sample with; jobs that bring their plates need none of them."""

    imported: tuple[ImportedModel, ...] = ()
    """Models of its users that it draws with, and their LoRAs; at most IMPORTED_MAX."""

    size_max_px: int = 0
    """Largest master that it makes; 0: not said."""

    units_per_s: float = 0.0
    """Work done in a second by one busy slot, measured lately; 0: not measured yet."""

    pace: Pace | None = None
    """Of one busy slot, measured lately; None: not measured yet, or not said."""

    rests_s: tuple[float, ...] = ()
    """How long each job in hand still takes; those of which nothing is known are left out."""

    newcomers: float = 0.0
    """Slots that those jobs would have kept busy that came lately from tenants who had none in their lane. Such a job
    goes ahead of everybody who has had his turn."""

    is_draining: bool = False
    """The region takes no new jobs; what it has, it finishes."""

    claims: bool = False
    """It claims jobs that another region may have, too, before it works on them (`contracts.claims`)."""

    weights: dict[JobClass, float] = msgspec.field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    lanes: tuple[Lane, ...] = ()
    other_work: float = 0.0
    """Work in lanes beyond LANES_MAX."""


def encode_state(state: WorkerState) -> bytes:
    """Return the JSON form of a worker's state."""
    return msgspec.json.encode(state)


def decode_state(data: bytes) -> WorkerState:
    """Return the state in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.json.decode(data, type=WorkerState)
