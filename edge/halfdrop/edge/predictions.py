"""The prediction object: a job's status in the shape that Replicate's clients read.

Our own words are extra members: `state`, `attempt`, `queue_position`, `starts_in_seconds`, `eta_seconds`,
`region`, `reason`, `progress`, `pattern_key`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from halfdrop.contracts.gate_reports import GATE_PREFIX, REPORT_NAME
from halfdrop.contracts.jobs import JobState, JobStatus, WebhookEvent
from halfdrop.contracts.patterns import LoraUse, PatternSpec, Wording
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.estimating import Course, Estimate, expect_rest

PredictionStatus = Literal["starting", "processing", "succeeded", "failed", "canceled"]

_STATUSES: dict[JobState, PredictionStatus] = {
    JobState.QUEUED: "starting",
    JobState.PROCESSING: "processing",
    JobState.RETRYING: "processing",
    JobState.COMPLETED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELED: "canceled",
}

OWNER = "halfdrop"
"""Owner of the models, as Replicate's clients name them."""

MASTER, SVG, PROOF, SEPARATION_PREFIX = "master.png", "pattern.svg", "proof.png", "plate-"
PDF, TIFF_SUFFIX, COLOURWAY_PREFIX, MANIFEST = "pattern.pdf", ".tiff", "colourway-", "manifest.json"
RESULT = "result.json"
"""Names of a job's files, as the hub gives them."""


class RenderedInput(msgspec.Struct, frozen=True, kw_only=True):
    """What is rendered, in normal form: the words of the layout taken out of the prompt, the lattice explicit."""

    prompt: str
    negative_prompt: str
    seed: int
    repeat: Repeat
    palette: tuple[str, ...]
    num_inference_steps: int
    guidance_scale: float
    size_px: int
    loras: tuple[LoraUse, ...] | msgspec.UnsetType = msgspec.UNSET
    """Added to a user's checkpoint, by the digests of their bundles."""

    unit_px: int | msgspec.UnsetType = msgspec.UNSET
    """Side of the unit that a user's checkpoint paints; its picture is under the pattern's key once it is painted."""


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where to fetch the files of a finished prediction: for a while without a key, on an edge that asks for keys."""

    master: str | None
    separations: list[str]
    svg: str | None
    proof: str | None
    pdf: str | None = None
    tiff: list[str] = []
    """Only where they were asked for."""

    more: list[str] = []
    """Other formats that were asked for."""

    colourways: list[list[str]] = []
    """All files of each colourway, in the order in which they were asked for."""

    manifest: str | None = None
    """Digests of all files, and what is needed to make them again."""

    @property
    def addresses(self) -> list[str]:
        """Addresses of all files, the master first."""
        first = (self.master, self.svg, self.proof, self.pdf, *self.separations, *self.tiff, *self.more)
        others = (address for files in self.colourways for address in files)
        return [address for address in (*first, *others, self.manifest) if address is not None]


class GateFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where to fetch what a template's gates found; of an order that failed, too."""

    report: str
    """JSON: each gate's number, limit and verdict, for each seed that was tried."""

    pictures: list[str]
    """PNG: what did not pass, marked."""


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of the prediction itself."""

    get: str
    cancel: str
    stream: str
    """Server-sent events as Replicate's clients read them; without its query, whole predictions."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Steps done of all, and what is going on; 0 of 0 before the start."""

    step: int
    steps: int
    stage: str
    picture: str | None = None
    """Address of a small picture of the state so far, while one is there; fetched as the files are."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Seconds of work and seconds from order to end, once known."""

    predict_time: float | None = None
    total_time: float | None = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One order and everything known of it. Times are ISO 8601 in UTC."""

    id: str
    model: str
    """Owner and name: "halfdrop/house"."""

    version: str
    """Digest of the model bundle."""

    created_at: str
    started_at: str | None
    completed_at: str | None
    status: PredictionStatus
    input: RenderedInput
    output: Output | None
    error: str | None
    logs: str
    metrics: Metrics
    urls: Links
    state: str
    """Our own word: queued, processing, retrying, completed, failed, canceled."""

    attempt: int
    queue_position: int | None
    """Orders that are expected to start before it; null once it runs. Of your own in its class at this edge it is
    exact; of others, who share the pool by class and tenant, it is worked out from what the pool tells."""

    starts_in_seconds: float | None
    """Estimate of the time to its start; null once it runs, and where `reason` says why there is none."""

    eta_seconds: float | None
    """Estimate of the time to its end, from the pool's rate and the steps done; null when there is nothing to go by,
    as while the hub is away."""

    region: str | None
    """Where it is worked at, or is expected to be; null while no pool is heard."""

    reason: str | None
    """In words: why it waits, is tried again, or was canceled; null where there is nothing to say."""

    progress: Progress
    pattern_key: str
    template: str | None
    """Name and version of the template that it is finished by."""

    gates: GateFiles | None
    """Null before its end, and without a template."""

    unknown_words: tuple[str, ...]
    """Words of the order with nothing near among what the model was taught; they had no effect."""

    read_as: dict[str, str]
    """Words that the model does not know, and what was drawn for each."""

    deadline: str | None
    """When it is canceled if it has not finished, from Cancel-After."""

    webhook: str | None
    """As it was ordered."""

    webhook_events_filter: tuple[WebhookEvent, ...] | None


class PredictionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions, newest first, and the address of the next page."""

    results: list[Prediction]
    next: str | None
    previous: str | None = None


def make_prediction(
    status: JobStatus,
    *,
    model: str,
    base_url: str,
    queue_position: int | None,
    now: float,
    estimate: Estimate | None = None,
    hub_away_since: float | None = None,
    why_waiting: str = "",
) -> Prediction:
    """Return the prediction that `status` describes. base_url: scheme and host, without a slash at the end.

    hub_away_since: unix time since when no news of it can come; None while the hub answers. why_waiting: why the order
    is kept at this edge though hubs answer.
    """
    address = f"{base_url}/v1/predictions/{status.id}"
    wording = Wording() if status.wording is msgspec.UNSET else status.wording
    webhook = None if status.webhook is msgspec.UNSET else status.webhook
    outage = [] if hub_away_since is None or status.state.is_final else [say_hub_away(status, hub_away_since)]
    if why_waiting:
        outage.append(f"the order waits at this edge: {why_waiting}")
    seconds_left = guess_seconds_left(status, now) if estimate is None else _round(estimate.ends_in_s)
    return Prediction(
        id=status.id,
        model=f"{OWNER}/{model}",
        version=status.spec.model_digest,
        created_at=_iso(status.created_at),
        started_at=_iso(status.started_at) if status.started_at else None,
        completed_at=_iso(status.completed_at) if status.completed_at else None,
        status=_STATUSES[status.state],
        input=_make_input(status.spec, status.size_px),
        output=_make_output(status, address),
        error=status.error.detail if status.error and status.state is JobState.FAILED else None,
        logs="".join(f"{line}\n" for line in (*log_lines(status), *outage)),
        metrics=_make_metrics(status),
        urls=Links(get=address, cancel=f"{address}/cancel", stream=f"{address}/stream?events=replicate"),
        state=status.state.value,
        attempt=status.attempt,
        queue_position=queue_position,
        starts_in_seconds=None if outage or estimate is None else _round(estimate.starts_in_s),
        eta_seconds=None if outage else seconds_left,
        region=estimate.region if estimate is not None else None,
        reason=outage[0] if outage else say_reason(status, estimate),
        progress=Progress(
            step=status.step, steps=status.steps, stage=status.stage, picture=_picture_address(status, address)
        ),
        pattern_key=status.pattern_key,
        template=None if status.template is msgspec.UNSET else status.template,
        gates=_make_gates(status, address),
        unknown_words=wording.unknown_words,
        read_as=wording.read_as,
        deadline=None if status.cancel_at is msgspec.UNSET else _iso(status.cancel_at),
        webhook=webhook.url if webhook else None,
        webhook_events_filter=webhook.events if webhook else None,
    )


def sign_files(prediction: Prediction, sign: Callable[[str], str]) -> Prediction:
    """Return `prediction` with the addresses of its files signed."""
    if prediction.progress.picture is not None:
        shown = msgspec.structs.replace(prediction.progress, picture=sign(prediction.progress.picture))
        prediction = msgspec.structs.replace(prediction, progress=shown)
    if prediction.gates is not None:
        gates = GateFiles(
            report=sign(prediction.gates.report), pictures=[sign(picture) for picture in prediction.gates.pictures]
        )
        prediction = msgspec.structs.replace(prediction, gates=gates)
    output = prediction.output
    if output is None:
        return prediction
    signed = Output(
        master=sign(output.master) if output.master else None,
        separations=[sign(address) for address in output.separations],
        svg=sign(output.svg) if output.svg else None,
        proof=sign(output.proof) if output.proof else None,
        pdf=sign(output.pdf) if output.pdf else None,
        tiff=[sign(address) for address in output.tiff],
        more=[sign(address) for address in output.more],
        colourways=[[sign(address) for address in files] for files in output.colourways],
        manifest=sign(output.manifest) if output.manifest else None,
    )
    return msgspec.structs.replace(prediction, output=signed)


def log_lines(status: JobStatus) -> tuple[str, ...]:
    """Return what was understood, then a line for each stage that is done."""
    wording = Wording() if status.wording is msgspec.UNSET else status.wording
    return (*say_wording(wording), *status.log)


def say_wording(wording: Wording) -> list[str]:
    """Return a line for each word that was read as another, and one for all that were left out."""
    lines = [f'read "{word}" as "{thing}"' for word, thing in wording.read_as.items()]
    if wording.unknown_words:
        left_out = ", ".join(f'"{word}"' for word in wording.unknown_words)
        lines.append(f"left out, with nothing near in the model's vocabulary: {left_out}")
    return lines


def say_hub_away(status: JobStatus, since: float) -> str:
    """Return the line for an order that is not finished and of which no news can come."""
    if status.state is JobState.QUEUED and not status.queued_at:
        return f"the hub is away since {_iso(since)}; the order is safe at this edge and goes there when it is back"
    return f"the hub is away since {_iso(since)}; what became of the order is told when it is back"


def guess_seconds_left(status: JobStatus, now: float) -> float | None:
    """Return the time left if the steps to come take as long as those done; None before the first is done."""
    if status.state is not JobState.PROCESSING or not status.started_at:
        return None
    return _round(expect_rest(Course(max(0.0, now - status.started_at), status.step, status.steps, None)))


def say_reason(status: JobStatus, estimate: Estimate | None) -> str | None:
    """Return why an order is where it is, where that is not plain from its state."""
    if status.state is JobState.CANCELED:
        is_overdue = status.cancel_at is not msgspec.UNSET and (status.completed_at or 0.0) >= status.cancel_at
        return "its deadline (Cancel-After) passed" if is_overdue else "somebody asked for it"
    if status.state is JobState.FAILED:
        return status.error.detail if status.error else None
    if status.state is JobState.RETRYING:
        return f"attempt {status.attempt} did not end: {status.error.detail}" if status.error else None
    return estimate.why or None if estimate is not None else None


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _make_input(spec: PatternSpec, size_px: int) -> RenderedInput:
    return RenderedInput(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        repeat=spec.repeat,
        palette=spec.palette,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        size_px=size_px,
        loras=spec.loras,
        unit_px=spec.unit_px,
    )


def _make_output(status: JobStatus, address: str) -> Output | None:
    if status.state is not JobState.COMPLETED:
        return None
    urls = {name: url for name, url in _addresses(status, address).items() if not _is_of_gates(name)}
    colourways: dict[str, list[str]] = {}
    for name in [name for name in urls if name.startswith(COLOURWAY_PREFIX)]:
        number = name.removeprefix(COLOURWAY_PREFIX).partition("-")[0]
        colourways.setdefault(number, []).append(urls.pop(name))
    output = Output(
        master=urls.pop(MASTER, None),
        svg=urls.pop(SVG, None),
        proof=urls.pop(PROOF, None),
        pdf=urls.pop(PDF, None),
        manifest=urls.pop(MANIFEST, None),
        separations=[urls.pop(name) for name in sorted(urls) if name.startswith(SEPARATION_PREFIX)],
        tiff=[urls.pop(name) for name in sorted(urls) if name.endswith(TIFF_SUFFIX)],
        colourways=list(colourways.values()),
    )
    urls.pop(RESULT, None)
    return msgspec.structs.replace(output, more=list(urls.values()))


def _make_gates(status: JobStatus, address: str) -> GateFiles | None:
    urls = {name: url for name, url in _addresses(status, address).items() if _is_of_gates(name)}
    if not status.state.is_final or REPORT_NAME not in urls:
        return None
    return GateFiles(report=urls.pop(REPORT_NAME), pictures=list(urls.values()))


def _addresses(status: JobStatus, address: str) -> dict[str, str]:
    return {artifact.name: f"{address}/files/{artifact.name}" for artifact in status.artifacts}


def _is_of_gates(name: str) -> bool:
    return name == REPORT_NAME or name.startswith(GATE_PREFIX)


def _picture_address(status: JobStatus, address: str) -> str | None:
    if status.progress_picture is msgspec.UNSET or status.state.is_final:
        return None
    return f"{address}/progress/{status.progress_picture.step}.webp"


def _make_metrics(status: JobStatus) -> Metrics:
    if status.completed_at is None:
        return Metrics()
    worked = round(status.completed_at - status.started_at, 3) if status.started_at else None
    return Metrics(predict_time=worked, total_time=round(status.completed_at - status.created_at, 3))


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
