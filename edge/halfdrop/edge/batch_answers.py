"""What is told of a batch: one object, the same in every answer and event."""

from datetime import UTC, datetime

import msgspec

from halfdrop.edge.batch_book import Batch as BatchNow
from halfdrop.edge.batch_state import BatchPhase, LineCounts


class BatchLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of the batch and of what can be done with it."""

    get: str
    cancel: str
    pause: str
    resume: str
    results: str
    """JSON Lines, or a zip with `?format=zip`."""

    errors: str
    stream: str
    predictions: str
    """Its orders, newest first."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and how far it is. Times are ISO 8601 in UTC."""

    id: str
    status: BatchPhase
    status_reason: str | None
    """Why nothing moves, where nothing does; null else."""

    created_at: str
    started_at: str | None
    finished_at: str | None
    deadline: str | None
    """When it is canceled if it has not finished, from Cancel-After."""

    counts: LineCounts
    progress: float
    """Share of the accepted lines whose orders are over, 0 to 1."""

    eta_seconds: float | None
    """Time left at the rate at which lines ended lately; null while that is not known, and while it is paused."""

    webhook: str | None
    urls: BatchLinks


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Batches, newest first, and the address of the next page."""

    results: list[Batch]
    next: str | None
    previous: str | None = None


def make_batch(batch: BatchNow, *, base_url: str, now: float, hub_away_since: float | None) -> Batch:
    """Return what to tell of `batch`. base_url: scheme and host, without a slash at the end."""
    state, counts = batch.state, batch.counts()
    rate = batch.rate_per_s(now) if state.phase == "running" and hub_away_since is None else None
    left = counts.accepted - counts.final
    return Batch(
        id=state.id,
        status=state.phase,
        status_reason=_say_reason(batch, counts, hub_away_since),
        created_at=_iso(state.created_at),
        started_at=_iso(state.started_at) if state.started_at else None,
        finished_at=_iso(state.finished_at) if state.finished_at else None,
        deadline=None if state.cancel_at is msgspec.UNSET else _iso(state.cancel_at),
        counts=counts,
        progress=round(counts.final / counts.accepted, 4) if counts.accepted else 1.0,
        eta_seconds=round(left / rate, 1) if rate else None,
        webhook=None if state.webhook is msgspec.UNSET else state.webhook.url,
        urls=make_links(state.id, base_url),
    )


def make_links(batch_id: str, base_url: str) -> BatchLinks:
    address = f"{base_url}/v1/batches/{batch_id}"
    return BatchLinks(
        get=address,
        cancel=f"{address}/cancel",
        pause=f"{address}/pause",
        resume=f"{address}/resume",
        results=f"{address}/results",
        errors=f"{address}/errors",
        stream=f"{address}/stream",
        predictions=f"{base_url}/v1/predictions?batch={batch_id}",
    )


def _say_reason(batch: BatchNow, counts: LineCounts, hub_away_since: float | None) -> str | None:
    if batch.is_over:
        return None
    unfinished = counts.queued + counts.processing
    if batch.state.phase == "paused":
        return f"paused; {unfinished} orders that were placed before go on" if unfinished else "paused"
    if batch.reason:  # the nearer cause: without the edge's own NATS the hub is away, too
        return batch.reason
    if hub_away_since is not None:
        return f"the hub is away since {_iso(hub_away_since)}; what was placed is safe here and goes there later"
    if batch.state.phase == "canceling":
        return f"{unfinished} orders are being stopped"
    return None


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
