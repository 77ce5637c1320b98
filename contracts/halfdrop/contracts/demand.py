"""What edges and hubs tell of demand, minute by minute: reports in the stream DEMAND, which the forecaster keeps.

An edge tells what arrived, a hub what was served and with how many GPUs. Values of one minute and series are added up
over all reports: of several members, and of one that was stopped and started again within the minute. A report has a
number of its own, so that one which comes twice is known.

GPU-seconds are seconds of a whole GPU: a worker that has four jobs at once does a quarter of one for each in a second.
"""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from halfdrop.contracts.jobs import Job, JobClass

MINUTE_S = 60
LATE_AFTER_S = 10.0
"""A job that waited longer than this for a GPU is late."""

SERIES_MAX = 2_048
"""Series that one member tells of; the work of what is beyond goes under OTHER_MODEL."""

OTHER_MODEL = "other"
ROWS_MAX = 2 * SERIES_MAX

FINISH, SAMPLE = "finish", "sample"
"""Tiers of work: a job that brings its plates is only finished; one without them is sampled before, which takes a
model on a GPU."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]


class SeriesName(NamedTuple):
    """What demand is told apart by."""

    region: str
    job_class: JobClass
    model: str
    tier: str


class DemandRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A series in one minute, as one member saw it. None: this member does not see that; 0: it saw that there was none.

    New members go at the end, with defaults: the form is an array.
    """

    region: Name
    job_class: Name
    model: Name
    tier: Name

    requests: int | None = None
    """Jobs that arrived: by an edge."""

    gpu_s_offered: float | None = None
    """GPU-seconds that they will take, as estimated when they arrived: by an edge."""

    gpu_s_served: float | None = None
    """GPU-seconds that were worked: by a hub."""

    late: int = 0
    """Jobs that began after more than LATE_AFTER_S in the queue."""

    wait_s_sum: float = 0.0
    """Seconds in the queue of the jobs that began."""

    cold_starts: int = 0
    """Workers that became able to take jobs."""

    boot_s_sum: float = 0.0
    """How long that took them, from the start of the process."""

    replica_s: float | None = None
    """Seconds in which a GPU stood ready for this series: by a hub."""


class DemandReport(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="demand.v1"):
    """All that one member has to tell of one minute, or of the part of it that it lived through."""

    member: Name
    """Such as edge-eu-1 or hub-3."""

    run: Name
    """Drawn at the start of the process: after a restart numbers begin anew."""

    number: int
    """1, 2, 3 … within the run, in the order in which they are told."""

    minute: int
    """Minutes since the epoch."""

    rows: tuple[DemandRow, ...] = ()

    @property
    def id(self) -> str:
        """Return what tells this report from all others."""
        return f"{self.member}.{self.run}.{self.number}"


def model_of(job: Job) -> str:
    """Return the name of the job's model; the beginning of its digest where the edge did not name it."""
    return job.spec.model_digest[:12] if job.model is msgspec.UNSET else job.model


def tier_of(job: Job) -> str:
    """Return what the job needs done."""
    return FINISH if job.plates is not None else SAMPLE


def series_of(job: Job, region: str) -> SeriesName:
    """Return the series that the job counts in."""
    return SeriesName(region, job.job_class, model_of(job)[:64] or OTHER_MODEL, tier_of(job))


def encode_report(report: DemandReport) -> bytes:
    """Return the MessagePack form of a report: some 60 bytes for each series."""
    return msgspec.msgpack.encode(report)


def decode_report(data: bytes) -> DemandReport:
    """Return the report in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.msgpack.decode(data, type=DemandReport)
