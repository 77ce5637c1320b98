"""HTTP: orders in the shape of Replicate's predictions."""

import asyncio
import contextlib
import time
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post, route
from litestar.response import Stream
from opentelemetry.trace import SpanKind

from halfdrop.contracts.errors import InvalidInput, NotFound, TransientError, Unavailable
from halfdrop.contracts.jobs import Artifact, Job, JobStatus
from halfdrop.contracts.subjects import OUTBOX_STREAM
from halfdrop.edge.access import Access, access_of, needs
from halfdrop.edge.disconnects import cancel_if_preferred
from halfdrop.edge.entity_tags import tag_of
from halfdrop.edge.idempotency import HEADER
from halfdrop.edge.listeners import Listener
from halfdrop.edge.names import is_order_id, new_order_id
from halfdrop.edge.order_terms import CANCEL_AFTER, read_cancel_after, read_wait, read_webhook
from halfdrop.edge.painted_orders import understand_order
from halfdrop.edge.predictions import Prediction, PredictionPage, make_prediction, sign_files
from halfdrop.edge.requests import PredictionRequest, read_body
from halfdrop.edge.services import EdgeServices
from halfdrop.edge.template_orders import DEFAULT_MODEL
from halfdrop.runtime.entity_tags import matches_tag
from halfdrop.runtime.semantics import messaging

PAGE_SIZE = 50


@post("/v1/predictions", status_code=201, guards=[needs("orders")])
async def create_prediction(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Accept an order. With `Prefer: wait` the answer comes when it is finished, or after the wait."""
    return await answer_new_prediction(request, edge)


async def answer_new_prediction(
    request: Request[Any, Any, Any], edge: EdgeServices, *, model: str | None = None
) -> Response[bytes]:
    """Accept the order in the body, wait as its client prefers, and answer with the prediction.

    model: what the path names, if that is not the edge's own; the body may name it too, and then counts.
    """
    asked = time.monotonic()
    body = await read_body(request, PredictionRequest)
    if model is not None and body.version is None and body.input.model == DEFAULT_MODEL:
        body = msgspec.structs.replace(body, version=model)
    cancel_after_s = read_cancel_after(request.headers.get(CANCEL_AFTER))
    key = request.headers.get(HEADER)
    if key is None:
        order_id = new_order_id()
        status = await submit_order(
            edge, access_of(request), body, order_id, cancel_after_s, edge_url=base_url(request)
        )
        return _answer_created(request, edge, order_id, await _tell(request, edge, status, asked))
    async with edge.idempotency.attempt(access_of(request).tenant, key, body) as attempt:
        order_id, answer = attempt.remembered.order_id, attempt.remembered.answer
        if not answer:
            status = await _find_or_submit(request, edge, body, order_id, cancel_after_s)
            told = await _tell(request, edge, status, asked)
            answer = msgspec.json.encode(told)  # unsigned: a repetition may come when what is signed now has expired
            with contextlib.suppress(Unavailable):  # the order stands; a repetition finds it by its id
                await attempt.finish(answer)
        return _answer_created(request, edge, order_id, msgspec.json.decode(answer, type=Prediction))


async def _find_or_submit(
    request: Request[Any, Any, Any],
    edge: EdgeServices,
    body: PredictionRequest,
    order_id: str,
    cancel_after_s: int | None,
) -> JobStatus:
    access = access_of(request)
    try:
        return await edge.orders.find(order_id, access.tenant)  # accepted, and this edge died before it said so
    except NotFound:
        return await submit_order(edge, access, body, order_id, cancel_after_s, edge_url=base_url(request))


async def _tell(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus, asked: float) -> Prediction:
    """Return the prediction, unsigned, once it is final or the wait that the client prefers is over.

    The wait counts from when the request came (`asked`): clients hang up half a second after theirs. After a wait in
    vain `status` says "starting" even of an order that is being worked on, as Replicate's does: its Python client takes
    anything else for the end, and `run` would return nothing. `state` says how it is.
    """
    wait_s = read_wait(request.headers.get("prefer", ""))
    if wait_s:
        status = await _wait_for_end(request, edge, status, asked + wait_s - time.monotonic())
    prediction = _describe_unsigned(request, edge, status)
    if wait_s and not status.state.is_final:
        prediction = msgspec.structs.replace(prediction, status="starting")
    return prediction


def _answer_created(
    request: Request[Any, Any, Any], edge: EdgeServices, order_id: str, prediction: Prediction
) -> Response[bytes]:
    location = {"Location": f"{base_url(request)}/v1/predictions/{order_id}"}
    answer = msgspec.json.encode(_sign(request, edge, prediction))
    return Response(answer, status_code=201, media_type=MediaType.JSON, headers=location)


async def submit_order(
    edge: EdgeServices,
    access: Access,
    body: PredictionRequest,
    order_id: str,
    cancel_after_s: int | None,
    *,
    edge_url: str,
) -> JobStatus:
    """Understand the order, make or find its plates, and accept it durably under `order_id`.

    edge_url: scheme and host as the client wrote them, for the addresses in its webhooks.
    """
    webhook = read_webhook(body.webhook, body.webhook_events_filter, edge.webhooks.policy, edge_url)
    previews = edge.previews.of(access.tenant)
    known = edge.pools.imported()
    understood = understand_order(previews, edge.templates, known, body.input, version=body.version)
    pattern, order = understood.pattern, understood.order
    plates = await previews.plates(pattern) if understood.model is None else None
    edge.pools.check_runnable(
        size_px=order.size_px, model_digest=pattern.spec.model_digest, has_plates=plates is not None
    )
    now = time.time()
    job = Job(
        id=order_id,
        tenant=access.tenant,
        job_class=body.job_class or "standard",
        origin=edge.name,
        spec=pattern.spec,
        model=edge.previews.bundle.name if understood.model is None else understood.model.name,
        size_px=order.size_px,
        formats=order.formats,
        colourways=order.colourways,
        printing=order.printing,
        finishing=order.finishing,
        plates=plates,
        created_at=now,
        wording=pattern.wording,
        webhook=webhook,
        cancel_at=msgspec.UNSET if cancel_after_s is None else now + cancel_after_s,
    )
    attributes = messaging("publish", "send", OUTBOX_STREAM, job.id)
    with edge.tracing.span(f"publish {OUTBOX_STREAM}", kind=SpanKind.PRODUCER, attributes=attributes):
        return await edge.orders.submit(job, pattern.key)


@get("/v1/predictions", guards=[needs("orders")])
async def list_predictions(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """List orders, newest first, a page at a time."""
    cursor = request.query_params.get("cursor")
    if cursor is not None and not is_order_id(cursor):
        raise InvalidInput("cursor", got=cursor, allowed="the cursor of a `next` address")
    tenant, batch = access_of(request).tenant, request.query_params.get("batch")
    if batch is not None:
        edge.batches.find(batch, tenant)
    statuses = await edge.orders.newest(tenant, before=cursor, limit=PAGE_SIZE, prefix=batch or "")
    has_more = len(statuses) == PAGE_SIZE
    only = f"&batch={batch}" if batch else ""
    address = f"{base_url(request)}/v1/predictions?cursor={statuses[-1].id}{only}" if has_more else None
    page = PredictionPage(results=[describe(request, edge, status) for status in statuses], next=address)
    return Response(msgspec.json.encode(page), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


@route("/v1/predictions", http_method="OPTIONS", status_code=204, guards=[needs("orders")])
async def list_prediction_methods() -> Response[None]:
    """Say both methods: the framework's own answer knows those of the first handler of a path only."""
    return Response(None, status_code=204, headers={"Allow": "GET, OPTIONS, POST"})


@get("/v1/predictions/{order_id:str}", guards=[needs("orders")])
async def get_prediction(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> Response[bytes]:
    """Tell what is known of an order, if the client does not know it already (If-None-Match)."""
    prediction = _describe_unsigned(request, edge, await edge.orders.find(order_id, access_of(request).tenant))
    signed_for_s = None if edge.door.is_open else edge.door.signer.ttl_s
    tag = tag_of(prediction, signed_for_s=signed_for_s, now=time.time())
    headers = {"Cache-Control": "private, no-cache", "ETag": tag}
    if matches_tag(request.headers.get("if-none-match", ""), tag):
        return Response(b"", status_code=304, headers=headers, media_type=MediaType.JSON)
    answer = msgspec.json.encode(_sign(request, edge, prediction))
    return Response(answer, status_code=200, media_type=MediaType.JSON, headers=headers)


@post("/v1/predictions/{order_id:str}/cancel", status_code=200, guards=[needs("orders")])
async def cancel_prediction(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> Response[bytes]:
    """Ask that an order stop."""
    return _answer(request, edge, await edge.orders.cancel(order_id, access_of(request).tenant, time.time()))


@get("/v1/predictions/{order_id:str}/files/{name:str}", guards=[needs("orders")])
async def get_file(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str, name: str) -> Stream:
    """Send a file of a finished order."""
    status = await edge.orders.find(order_id, access_of(request).tenant)
    artifact = _find_artifact(status, name)
    if await edge.objects.size(artifact.path) != artifact.size_bytes:  # said now, not in the middle of a 200
        raise NotFound(f"the file {name!r} of prediction {order_id} is no longer in the object store")
    headers = {
        "Content-Length": str(artifact.size_bytes),
        "Content-Disposition": f'attachment; filename="halfdrop-{status.pattern_key[:8]}-{artifact.name}"',
        "ETag": f'"{artifact.sha256[:32]}"',
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Stream(edge.objects.stream(artifact.path), media_type=artifact.media_type, headers=headers)


async def _wait_for_end(
    request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus, wait_s: float
) -> JobStatus:
    """Return the last status within `wait_s`, or before the client hung up.

    The order stands, so nothing that fails here may fail the answer.
    """
    with contextlib.suppress(TimeoutError, TransientError), edge.listeners.listen(status.id) as listener:
        async with asyncio.timeout(wait_s), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_close_when_gone(request, edge, listener, status.id))
            with contextlib.suppress(TransientError):
                listener.tell(await edge.orders.find(status.id, status.tenant))  # news that came before we listened
                async for newer in listener.statuses():
                    status = newer or status
            watching.cancel()
    return status


async def _close_when_gone(
    request: Request[Any, Any, Any], edge: EdgeServices, listener: Listener, order_id: str
) -> None:
    """Nobody waits once the client has hung up, and its place among those of its tenant is free again."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    await cancel_if_preferred(request, edge, order_id)
    listener.close()


def _find_artifact(status: JobStatus, name: str) -> Artifact:
    for artifact in status.artifacts:
        if artifact.name == name:
            return artifact
    names = ", ".join(artifact.name for artifact in status.artifacts) or "none yet"
    raise NotFound(f"prediction {status.id} has no file {name[:60]!r}; it has: {names}")


def _answer(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus) -> Response[bytes]:
    prediction = describe(request, edge, status)
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(prediction), status_code=200, media_type=MediaType.JSON, headers=headers)


def describe(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus) -> Prediction:
    """Return the prediction that `status` describes, its addresses such as the client wrote this edge's."""
    return _sign(request, edge, _describe_unsigned(request, edge, status))


def _describe_unsigned(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus) -> Prediction:
    away_since = edge.regions.away_since(status)
    estimate = edge.estimates.estimate(status, hub_away=away_since is not None)
    return make_prediction(
        status,
        model=_model_name(edge, status),
        base_url=base_url(request),
        queue_position=estimate.queue_position,
        now=time.time(),
        estimate=estimate,
        hub_away_since=away_since,
        why_waiting=edge.regions.why_waiting(status),
    )


def _model_name(edge: EdgeServices, status: JobStatus) -> str:
    """Return what the order's model is called; the edge's own name where no pool tells of it any more."""
    digest = status.spec.model_digest
    if digest == edge.previews.bundle.digest:
        return edge.previews.bundle.name
    known = next((model for model in edge.pools.imported() if model.digest == digest), None)
    return edge.previews.bundle.name if known is None else known.name


def _sign(request: Request[Any, Any, Any], edge: EdgeServices, prediction: Prediction) -> Prediction:
    tenant = access_of(request).tenant
    return sign_files(prediction, lambda address: edge.door.sign(address, tenant))


def base_url(request: Request[Any, Any, Any]) -> str:
    """Return scheme and host as the client wrote them, without a slash at the end."""
    return str(request.base_url).rstrip("/")
