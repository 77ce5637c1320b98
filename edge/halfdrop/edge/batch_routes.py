"""HTTP: batches. Thousands of orders in one request, told of, paused, resumed and canceled as one."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Literal, get_args

import msgspec
from litestar import MediaType, Request, Response, get, post, route
from litestar.response import Stream

from halfdrop.contracts.errors import InvalidInput, NotFound, TransientError, Unavailable
from halfdrop.contracts.jobs import Webhook
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.batch_answers import Batch, BatchPage, make_batch
from halfdrop.edge.batch_book import Batch as BatchNow
from halfdrop.edge.batch_intake import BatchRefused, Intake
from halfdrop.edge.batch_lines import LineRules
from halfdrop.edge.batch_state import BatchPhase, BatchState
from halfdrop.edge.idempotency import HEADER
from halfdrop.edge.limits import QuotaExceeded, find_exceeded
from halfdrop.edge.names import BATCH_ID_LENGTH, is_batch_id, new_batch_id
from halfdrop.edge.order_terms import CANCEL_AFTER, read_cancel_after, read_webhook
from halfdrop.edge.prediction_routes import base_url
from halfdrop.edge.services import EdgeServices

PAGE_SIZE = 50
KEEP_ALIVE_S = 15.0
"""A comment on an idle stream, so that proxies keep it open and a gone client is noticed."""

OnError = Literal["skip", "refuse"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)

AnyRequest = Request[Any, Any, Any]


class BatchTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks of a batch beside its lines; with their digest it is what an Idempotency-Key stands for."""

    on_error: OnError
    webhook: Webhook | msgspec.UnsetType
    cancel_after_s: int | None
    lines_sha256: str = ""


@post("/v1/batches", status_code=201, guards=[needs("orders")])
async def create_batch(request: AnyRequest, edge: EdgeServices) -> Response[bytes]:
    """Check the lines, and accept those that are right, durably."""
    terms = _read_terms(request, edge)
    access = access_of(request)
    edge.batches.check_room(access.tenant)
    rules = LineRules(edge.previews.of(access.tenant), edge.webhooks.policy, base_url(request), edge.templates)
    intake = await edge.batches.room.read(
        request.stream(), request.headers.get("content-type", ""), rules, edge.batch_limits
    )
    _check_errors(intake, terms)
    key = request.headers.get(HEADER)
    if key is None:
        return _answer_created(request, await _accept(request, edge, intake, terms, new_batch_id()))
    fingerprint = msgspec.structs.replace(terms, lines_sha256=intake.digest)
    async with edge.idempotency.attempt(access.tenant, key, fingerprint) as attempt:
        answer, batch_id = attempt.remembered.answer, attempt.remembered.order_id[:BATCH_ID_LENGTH]
        if answer:
            return _answer_created(request, msgspec.json.decode(answer, type=Batch))
        try:
            batch = _describe(request, edge, edge.batches.find(batch_id, access.tenant))
        except NotFound:
            batch = await _accept(request, edge, intake, terms, batch_id)
        with contextlib.suppress(Unavailable):  # the batch stands; a repetition finds it by its id
            await attempt.finish(msgspec.json.encode(batch))
        return _answer_created(request, batch)


def _read_terms(request: AnyRequest, edge: EdgeServices) -> BatchTerms:
    asked = request.query_params.get("on_error", ON_ERROR[0])
    on_error = next((known for known in ON_ERROR if known == asked), None)
    if on_error is None:
        raise InvalidInput("on_error", got=asked, allowed=" or ".join(ON_ERROR))
    asked_webhook = request.query_params.get("webhook", msgspec.UNSET)
    webhook = read_webhook(asked_webhook, ("completed",), edge.webhooks.policy, base_url(request))
    return BatchTerms(
        on_error=on_error, webhook=webhook, cancel_after_s=read_cancel_after(request.headers.get(CANCEL_AFTER))
    )


def _check_errors(intake: Intake, terms: BatchTerms) -> None:
    """Raise BatchRefused where nothing would be left to do, or less than the client wants."""
    if not intake.accepted:
        raise BatchRefused(f"none of the {intake.refused} lines can run; `errors` says why", intake.errors)
    if intake.refused and terms.on_error == "refuse":
        lines = "line is" if intake.refused == 1 else "lines are"
        detail = f"{intake.refused} {lines} wrong, and on_error=refuse wants all or nothing; `errors` says which"
        raise BatchRefused(detail, intake.errors)


async def _accept(request: AnyRequest, edge: EdgeServices, intake: Intake, terms: BatchTerms, batch_id: str) -> Batch:
    access, now = access_of(request), time.time()
    stands = await edge.limits.count_lines(access, intake.accepted)
    if exceeded := find_exceeded(stands):
        await edge.limits.count_lines(access, -intake.accepted)  # none of them was taken
        raise QuotaExceeded(exceeded, stands)
    state = BatchState(
        id=batch_id,
        tenant=access.tenant,
        created_at=now,
        states=intake.states,
        input_bytes=len(intake.lines),
        webhook=terms.webhook,
        cancel_at=msgspec.UNSET if terms.cancel_after_s is None else now + terms.cancel_after_s,
    )
    errors = b"".join(msgspec.json.encode(error) + b"\n" for error in intake.errors)
    return _describe(request, edge, await edge.batches.accept(state, intake.lines, errors))


def _answer_created(request: AnyRequest, batch: Batch) -> Response[bytes]:
    headers = {"Location": f"{base_url(request)}/v1/batches/{batch.id}"}
    return Response(msgspec.json.encode(batch), status_code=201, media_type=MediaType.JSON, headers=headers)


@get("/v1/batches", guards=[needs("orders")])
async def list_batches(request: AnyRequest, edge: EdgeServices) -> Response[bytes]:
    """List batches, newest first, a page at a time."""
    cursor = request.query_params.get("cursor")
    if cursor is not None and not is_batch_id(cursor):
        raise InvalidInput("cursor", got=cursor, allowed="the cursor of a `next` address")
    found = edge.batches.newest(access_of(request).tenant, before=cursor, limit=PAGE_SIZE)
    has_more = len(found) == PAGE_SIZE
    address = f"{base_url(request)}/v1/batches?cursor={found[-1].state.id}" if has_more else None
    page = BatchPage(results=[_describe(request, edge, batch) for batch in found], next=address)
    return Response(msgspec.json.encode(page), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


@route("/v1/batches", http_method="OPTIONS", status_code=204, guards=[needs("orders")])
async def list_batch_methods() -> Response[None]:
    """Say both methods: the framework's own answer knows those of the first handler of a path only."""
    return Response(None, status_code=204, headers={"Allow": "GET, OPTIONS, POST"})


@get("/v1/batches/{batch_id:str}", guards=[needs("orders")])
async def get_batch(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Response[bytes]:
    """Tell how far a batch is."""
    return _answer(request, edge, edge.batches.find(batch_id, access_of(request).tenant))


@post("/v1/batches/{batch_id:str}/pause", status_code=200, guards=[needs("orders")])
async def pause_batch(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Response[bytes]:
    """Place no more of its lines; what was placed goes on."""
    return await _change(request, edge, batch_id, "paused")


@post("/v1/batches/{batch_id:str}/resume", status_code=200, guards=[needs("orders")])
async def resume_batch(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Response[bytes]:
    """Go on after a pause."""
    return await _change(request, edge, batch_id, "running")


@post("/v1/batches/{batch_id:str}/cancel", status_code=200, guards=[needs("orders")])
async def cancel_batch(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Response[bytes]:
    """Place no more of its lines, and stop those that are placed."""
    return await _change(request, edge, batch_id, "canceling")


@get("/v1/batches/{batch_id:str}/stream", guards=[needs("orders")])
async def stream_batch(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Stream:
    """Send the batch at each change, a few times a second at most, until it is over."""
    batch = edge.batches.find(batch_id, access_of(request).tenant)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(_send_snapshots(request, edge, batch), media_type="text/event-stream", headers=headers)


async def _send_snapshots(request: AnyRequest, edge: EdgeServices, batch: BatchNow) -> AsyncIterator[bytes]:
    number, access = 0, access_of(request)
    with contextlib.suppress(TransientError):
        async for is_news in edge.batches.follow(batch, idle_s=KEEP_ALIVE_S):
            if not edge.door.still_admits(access):
                return
            if not is_news:
                yield b": still here\n\n"
                continue
            number += 1
            name = b"completed" if batch.is_over else b"status"
            data = msgspec.json.encode(_describe(request, edge, batch))
            yield b"event: %b\nid: %d\ndata: %b\n\n" % (name, number, data)


async def _change(request: AnyRequest, edge: EdgeServices, batch_id: str, phase: BatchPhase) -> Response[bytes]:
    batch = edge.batches.find(batch_id, access_of(request).tenant)
    await edge.batches.set_phase(batch, phase)
    return _answer(request, edge, batch)


def _answer(request: AnyRequest, edge: EdgeServices, batch: BatchNow) -> Response[bytes]:
    data = msgspec.json.encode(_describe(request, edge, batch))
    return Response(data, status_code=200, media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


def _describe(request: AnyRequest, edge: EdgeServices, batch: BatchNow) -> Batch:
    return make_batch(batch, base_url=base_url(request), now=time.time(), hub_away_since=edge.regions.none_since)
