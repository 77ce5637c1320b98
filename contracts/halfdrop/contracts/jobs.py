"""Jobs and what is known of them: the order, its states, its files.

A status is always a whole snapshot, never a difference: whoever holds the newest one knows everything, and a lost
one costs nothing once the next arrives.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from halfdrop.contracts.patterns import PatternSpec, Wording
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.printing import PrintFormat, PrintOptions, count_more_files
from halfdrop.contracts.templates import USUAL_OUTPUTS, Finishing, UsualOutput, usual_outputs
from halfdrop.contracts.tries import Tries
from halfdrop.contracts.work import PAINTED_PX, work_of

JobClass = Literal["realtime", "standard", "bulk"]


WebhookEvent = Literal["start", "output", "logs", "completed"]
"""What an order can tell: it began, it has output, it has a new line of its log, it ended."""


class JobState(StrEnum):
    """Where a job is. The last three are final: nothing leaves them but a revival of the job."""

    QUEUED = "queued"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELED)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody wants to hear of a job, and of what."""

    url: str
    events: tuple[WebhookEvent, ...]
    edge_url: str | msgspec.UnsetType = msgspec.UNSET
    """Scheme and host of the edge as its client wrote them: the addresses of files in what is sent begin with it."""


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="job.v1"):
    """One order for files, as it travels from an edge's OUTBOX to a hub's JOBS."""

    id: str
    tenant: str = "local"
    job_class: JobClass = "standard"
    origin: str
    """Name of the edge that accepted the job; its statuses are addressed there."""

    spec: PatternSpec
    size_px: int
    plates: Plates | None = None
    """The preview's plates. A hub finishes exactly these; without them it samples first."""

    created_at: float
    """Unix seconds at the edge."""

    wording: Wording | msgspec.UnsetType = msgspec.UNSET
    """How the edge read the words of the order, where it had to; its statuses carry it on."""

    webhook: Webhook | msgspec.UnsetType = msgspec.UNSET
    formats: tuple[PrintFormat, ...] | msgspec.UnsetType = msgspec.UNSET
    """What is wanted beside PNG and SVG."""

    colourways: tuple[tuple[str, ...], ...] | msgspec.UnsetType = msgspec.UNSET
    """Palettes in which the same plates are wanted as well, each as `PatternRequest.palette`."""

    printing: PrintOptions | msgspec.UnsetType = msgspec.UNSET
    """What the mill asks for."""

    finishing: Finishing | msgspec.UnsetType = msgspec.UNSET
    """What the template of the order says of its files and gates; unset: the usual files, and no gates."""

    cancel_at: float | msgspec.UnsetType = msgspec.UNSET
    """Unix seconds after which nobody wants it any more. The edge that accepted the job cancels it then."""

    revival: int | msgspec.UnsetType = msgspec.UNSET
    """How often an operator has brought it back from the dead letters; unset: never."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    """Name of the bundle whose digest is in `spec`, for those who count by model: a release keeps its name."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a finished job in the object store."""

    name: str
    """File name, unique within the job: "master.png"."""

    path: str
    """Object path, relative to the store."""

    media_type: str
    size_bytes: int
    sha256: str
    width_px: int | None = None
    height_px: int | None = None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed, or why its last attempt did."""

    code: str
    detail: str
    is_transient: bool = False


class ProgressPicture(msgspec.Struct, frozen=True, kw_only=True):
    """What a job that is being sampled looks like so far."""

    path: str
    """Object path of a small WebP, relative to the store; each picture takes the last one's place."""

    step: int
    """Sampling steps done in it."""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, tag="status.v1"):
    """Everything known of a job at one moment."""

    id: str
    tenant: str = "local"
    origin: str
    state: JobState
    job_class: JobClass = "standard"
    spec: PatternSpec
    size_px: int
    pattern_key: str

    attempt: int = 0
    """Deliveries so far; 1 while the first one runs."""

    step: int = 0
    steps: int = 0
    """Work done and work in all, in steps of this job (sampling, composing, each file); 0 of 0 before it starts."""

    stage: str = ""
    """What is going on, for a progress bar: "separations"."""

    created_at: float
    queued_at: float | None = None
    """When a hub had it; until then it waits at the edge."""

    started_at: float | None = None
    completed_at: float | None = None

    worker: str = ""
    error: JobError | None = None
    artifacts: tuple[Artifact, ...] = ()
    log: tuple[str, ...] = ()
    """A line for each stage finished, at most 64."""

    wording: Wording | msgspec.UnsetType = msgspec.UNSET
    webhook: Webhook | msgspec.UnsetType = msgspec.UNSET
    cancel_at: float | msgspec.UnsetType = msgspec.UNSET
    """All three as in the job."""

    work: float | msgspec.UnsetType = msgspec.UNSET
    """What the job asks of a pool, as `contracts.work` counts it."""

    region: str | msgspec.UnsetType = msgspec.UNSET
    """Region whose hub has the job; unset while it waits at the edge."""

    perhaps_in: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Regions that may have it as well: it was moved when nobody knew whether they had got it. Only edges say so."""

    queue_sequence: int | msgspec.UnsetType = msgspec.UNSET
    """Where the job stands in JOBS, once a worker had it: how a cancel finds one that waits for a retry."""

    progress_picture: ProgressPicture | msgspec.UnsetType = msgspec.UNSET
    """The newest picture of the sampling; unset before the first, and for jobs that are done sooner."""

    refiner_digest: str | msgspec.UnsetType = msgspec.UNSET
    """Digest of the bundle that refined the plates for the files; unset where they are just as they were previewed."""

    template: str | msgspec.UnsetType = msgspec.UNSET
    """Name and version of the template that it is finished by; unset: none."""

    tries: Tries | msgspec.UnsetType = msgspec.UNSET
    """What its deliveries have cost; unset until one of them was in vain."""

    revival: int | msgspec.UnsetType = msgspec.UNSET
    """As in the job: each revival begins the job's states anew, and outranks all that came before it."""


def accepted_status(job: Job, pattern_key: str) -> JobStatus:
    """Return the first status of a job, as the edge that accepted it knows it."""
    return JobStatus(
        id=job.id,
        tenant=job.tenant,
        origin=job.origin,
        state=JobState.QUEUED,
        job_class=job.job_class,
        spec=job.spec,
        size_px=job.size_px,
        pattern_key=pattern_key,
        created_at=job.created_at,
        wording=job.wording,
        webhook=job.webhook,
        cancel_at=job.cancel_at,
        revival=job.revival,
        work=accepted_work(job),
        template=msgspec.UNSET if job.finishing is msgspec.UNSET else job.finishing.template,
    )


def accepted_work(job: Job) -> float:
    """Return what the job asks of a pool: a job with its plates need not be sampled."""
    steps = 0 if job.plates is not None else job.spec.num_inference_steps
    more_files = count_more_files(formats=len(formats_of(job)), colourways=len(colourways_of(job)))
    gates = 0 if job.finishing is msgspec.UNSET else len(job.finishing.gates.rules())
    painted_px = PAINTED_PX if job.spec.unit_px is msgspec.UNSET else job.spec.unit_px
    return work_of(size_px=job.size_px, steps=steps, formats=more_files, gates=gates, painted_px=painted_px)


def formats_of(job: Job) -> tuple[PrintFormat, ...]:
    """Return the formats that the job asks for beside PNG and SVG."""
    return () if job.formats is msgspec.UNSET else job.formats


def colourways_of(job: Job) -> tuple[tuple[str, ...], ...]:
    """Return the palettes in which the job's files are wanted as well."""
    return () if job.colourways is msgspec.UNSET else job.colourways


def printing_of(job: Job) -> PrintOptions:
    """Return what the mill asks for."""
    return PrintOptions() if job.printing is msgspec.UNSET else job.printing


def usual_of(job: Job) -> tuple[UsualOutput, ...]:
    """Return which of master, plates, drawing and proof the job has: all, unless its template says otherwise."""
    return USUAL_OUTPUTS if job.finishing is msgspec.UNSET else usual_outputs(job.finishing.outputs)


def merges_inks(job: Job) -> bool:
    """True if layers of one colour are to share a plate: a template with separations."""
    return job.finishing is not msgspec.UNSET and "separate" in job.finishing.steps


def supersedes(new: JobStatus, old: JobStatus | None) -> bool:
    """True if `new` should replace `old`: a final state stays, an older attempt or step never overwrites.

    A later revival of the job replaces whatever came before it, a final state too, and nothing of an earlier one comes
    through again. Statuses arrive at least once and, around a reconnect, out of order; this makes applying them
    idempotent.
    """
    if old is None:
        return True
    if revival_of(new) != revival_of(old):
        return revival_of(new) > revival_of(old)
    if old.state.is_final:
        return False
    if new.state.is_final:
        return True
    rank = {JobState.QUEUED: 0, JobState.PROCESSING: 1, JobState.RETRYING: 2}
    return (new.attempt, rank[new.state], new.step) >= (old.attempt, rank[old.state], old.step)


def revival_of(known: Job | JobStatus) -> int:
    """Return how often the job was brought back from the dead letters."""
    return 0 if known.revival is msgspec.UNSET else known.revival


def encode_job(job: Job) -> bytes:
    """Return the MessagePack form of a job."""
    return msgspec.msgpack.encode(job)


def decode_job(data: bytes) -> Job:
    """Return the job in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.msgpack.decode(data, type=Job)


def encode_status(status: JobStatus) -> bytes:
    """Return the JSON form of a status: small, and readable with the nats command line."""
    return msgspec.json.encode(status)


def decode_status(data: bytes) -> JobStatus:
    """Return the status in `data`. Raises msgspec.MsgspecError if it is not one."""
    return msgspec.json.decode(data, type=JobStatus)
