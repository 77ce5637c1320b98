"""What an edge answers, as the client's callers see it: previews, predictions, and problems turned into errors."""

from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import msgspec

from halfdrop.contracts.errors import HalfdropError, InvalidInput, NotFound, Overloaded, PermanentError, Unavailable
from halfdrop.contracts.patterns import PatternSpec

FINAL_STATUSES = ("succeeded", "failed", "canceled")


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """A preview: one rectangular tile that wraps plainly in x and y."""

    key: str
    url: str
    size_px: int
    spec: PatternSpec
    palette: tuple[str, ...]
    """Five "#rrggbb" colours: the ground, then the layers from the bottom up."""

    unknown_words: tuple[str, ...] = ()
    """Words of the prompt that had no effect."""

    read_as: dict[str, str] = {}
    """Words that the model does not know, and what it drew for each: {"sunflowers": "daisies"}."""

    reuse: str = "exact"
    """none (drawn now), exact, variant or near: of the last two, `key` and `spec` name the pattern that stands in."""

    cache_status: str = ""
    """RFC 9211, as the edge sent it: "halfdrop; hit; detail=memory"."""

    data: bytes = b""
    """WebP, size_px x size_px."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is: step of steps, 0 of 0 before it starts."""

    step: int = 0
    steps: int = 0
    stage: str = ""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """URLs of a finished job's files."""

    master: str | None = None
    separations: tuple[str, ...] = ()
    svg: str | None = None
    proof: str | None = None
    pdf: str | None = None
    tiff: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    colourways: tuple[tuple[str, ...], ...] = ()
    """All files of each colourway, in the order in which they were asked for."""

    manifest: str | None = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """An order and everything known of it. Members that this client does not know are ignored."""

    id: str
    status: str
    """starting, processing, succeeded, failed or canceled."""

    state: str = ""
    input: dict[str, Any] = {}
    """What was ordered, as it was sent; open-ended, so a dict."""

    output: Output | None = None
    error: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    attempt: int = 0
    queue_position: int | None = None
    eta_seconds: float | None = None
    progress: Progress = Progress()
    pattern_key: str = ""
    unknown_words: tuple[str, ...] = ()
    read_as: dict[str, str] = {}

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    @property
    def files(self) -> dict[str, str]:
        """URL of each file by its name: "master.png", "pattern.svg"."""
        if self.output is None:
            return {}
        found = self.output
        others = (url for files in found.colourways for url in files)
        usual = (found.master, *found.separations, found.svg, found.proof, found.pdf)
        urls = (*usual, *found.tiff, *found.more, *others, found.manifest)
        return {unquote(urlsplit(url).path.rpartition("/")[2]): url for url in urls if url}


class PredictionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some predictions, newest first; `next` is the cursor of the following page, None on the last."""

    results: tuple[Prediction, ...]
    next: str | None = None


class LineCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A batch's lines by where they are."""

    total: int = 0
    refused: int = 0
    waiting: int = 0
    queued: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and how far it is."""

    id: str
    status: str
    """running, paused, canceling, completed or canceled."""

    status_reason: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    deadline: str | None = None
    counts: LineCounts = LineCounts()
    progress: float = 0.0
    """Share of the accepted lines that are over, 0 to 1."""

    eta_seconds: float | None = None

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "canceled")


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some batches, newest first; `next` is the cursor of the following page, None on the last."""

    results: tuple[Batch, ...]
    next: str | None = None


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a line of a batch was refused."""

    line: int
    detail: str
    code: str = ""
    field: str | None = None
    got: str | None = None
    allowed: str | None = None


class _ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457, as an edge writes it."""

    type: str = ""
    title: str = ""
    detail: str = ""
    field: str = ""
    got: str = ""
    allowed: str = ""
    errors: tuple[LineError, ...] = ()


class BatchRefused(PermanentError):
    """No line of a batch can run, or one cannot and all or nothing was asked for; `errors` says why."""

    def __init__(self, detail: str, errors: tuple[LineError, ...]) -> None:
        super().__init__(detail, code="batch-refused")
        self.errors = errors


class _InvalidAtEdge(InvalidInput):
    """Invalid input in the edge's own words, which are shortened already and must not be shortened again."""

    def __init__(self, problem: _ProblemDocument, detail: str) -> None:
        super().__init__(problem.field, got=problem.got, allowed=problem.allowed)
        self.got, self.detail, self.args = problem.got, detail, (detail,)


def translate_problem(response: httpx.Response) -> HalfdropError:
    """Return the error that a status and its problem document stand for."""
    try:
        problem = msgspec.json.decode(response.content, type=_ProblemDocument)
    except msgspec.MsgspecError:
        problem = _ProblemDocument()
    detail = problem.detail or problem.title or f"{response.status_code} {response.reason_phrase}"
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return Overloaded(detail, retry_after_s=_read_retry_after(response))
    if response.status_code in (502, 503, 504):
        return Unavailable(detail, retry_after_s=_read_retry_after(response))
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotFound(detail)
    if problem.errors:
        return BatchRefused(detail, problem.errors)
    if problem.field and problem.allowed:
        return _InvalidAtEdge(problem, detail)
    return PermanentError(detail, code=problem.type.rpartition(":")[2] or f"http-{response.status_code}")


def _read_retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 1.0
