"""HTTP: orders in the shape of Replicate's predictions."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.response import Stream

from halfdrop.contracts.errors import InvalidInput, NotFound, TransientError, Unavailable
from halfdrop.contracts.jobs import Artifact, Job, JobStatus
from halfdrop.contracts.patterns import check_size_px
from halfdrop.edge.access import Access, access_of, needs
from halfdrop.edge.idempotency import HEADER
from halfdrop.edge.names import is_order_id, new_order_id
from halfdrop.edge.predictions import Prediction, PredictionPage, make_prediction
from halfdrop.edge.previews import Pattern, Previews
from halfdrop.edge.requests import PredictionRequest, read_body
from halfdrop.edge.services import EdgeServices

WAIT_DEFAULT_S, WAIT_MAX_S = 60.0, 60.0
PAGE_SIZE = 50
KEEP_ALIVE_S = 15.0
"""A comment on an idle stream, so that proxies keep it open and a gone client is noticed."""


@post("/v1/predictions", status_code=201, guards=[needs("orders")])
async def create_prediction(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Accept an order. With `Prefer: wait` the answer comes when it is finished, or after the wait."""
    return await answer_new_prediction(request, edge)


async def answer_new_prediction(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Accept the order in the body, wait as its client prefers, and answer with the prediction."""
    body = await read_body(request, PredictionRequest)
    key = request.headers.get(HEADER)
    if key is None:
        order_id = new_order_id()
        status = await submit_order(edge, access_of(request), body, order_id)
        return _answer_created(request, order_id, await _tell(request, edge, status))
    async with edge.idempotency.attempt(access_of(request).tenant, key, body) as attempt:
        order_id, answer = attempt.remembered.order_id, attempt.remembered.answer
        if not answer:
            answer = await _tell(request, edge, await _find_or_submit(request, edge, body, order_id))
            with contextlib.suppress(Unavailable):  # the order stands; a repetition finds it by its id
                await attempt.finish(answer)
        return _answer_created(request, order_id, answer)


async def _find_or_submit(
    request: Request[Any, Any, Any], edge: EdgeServices, body: PredictionRequest, order_id: str
) -> JobStatus:
    access = access_of(request)
    try:
        return await edge.orders.find(order_id, access.tenant)  # accepted, and this edge died before it said so
    except NotFound:
        return await submit_order(edge, access, body, order_id)


async def _tell(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus) -> bytes:
    """Return the prediction, once it is final or the wait that the client prefers is over."""
    if wait_s := _read_wait(request.headers.get("prefer", "")):
        status = await _wait_for_end(edge, status, wait_s)
    return msgspec.json.encode(_describe(request, edge, status))


def _answer_created(request: Request[Any, Any, Any], order_id: str, answer: bytes) -> Response[bytes]:
    location = {"Location": f"{_base_url(request)}/v1/predictions/{order_id}"}
    return Response(answer, status_code=201, media_type=MediaType.JSON, headers=location)


async def submit_order(edge: EdgeServices, access: Access, body: PredictionRequest, order_id: str) -> JobStatus:
    """Understand the order, make or find its plates, and accept it durably under `order_id`."""
    previews = edge.previews.of(access.tenant)
    pattern = _understand(previews, body)
    plates = await previews.plates(pattern)
    job = Job(
        id=order_id,
        tenant=access.tenant,
        origin=edge.name,
        spec=pattern.spec,
        size_px=body.input.size_px,
        plates=plates,
        created_at=time.time(),
        wording=pattern.wording,
    )
    return await edge.orders.submit(job, pattern.key)


@get("/v1/predictions", guards=[needs("orders")])
async def list_predictions(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """List orders, newest first, a page at a time."""
    cursor = request.query_params.get("cursor")
    if cursor is not None and not is_order_id(cursor):
        raise InvalidInput("cursor", got=cursor, allowed="the cursor of a `next` address")
    statuses = await edge.orders.newest(access_of(request).tenant, before=cursor, limit=PAGE_SIZE)
    has_more = len(statuses) == PAGE_SIZE
    address = f"{_base_url(request)}/v1/predictions?cursor={statuses[-1].id}" if has_more else None
    page = PredictionPage(results=[_describe(request, edge, status) for status in statuses], next=address)
    return Response(msgspec.json.encode(page), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


@get("/v1/predictions/{order_id:str}", guards=[needs("orders")])
async def get_prediction(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> Response[bytes]:
    """Tell what is known of an order."""
    return _answer(request, edge, await edge.orders.find(order_id, access_of(request).tenant))


@post("/v1/predictions/{order_id:str}/cancel", status_code=200, guards=[needs("orders")])
async def cancel_prediction(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> Response[bytes]:
    """Ask that an order stop."""
    return _answer(request, edge, await edge.orders.cancel(order_id, access_of(request).tenant, time.time()))


@get("/v1/predictions/{order_id:str}/stream", guards=[needs("orders")])
async def stream_prediction(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> Stream:
    """Send the prediction at each change as server-sent events: `status`, and `completed` as the last."""
    await edge.orders.find(order_id, access_of(request).tenant)  # an unknown id is a 404, not an empty stream
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(_events(request, edge, order_id), media_type="text/event-stream", headers=headers)


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


def _understand(previews: Previews, body: PredictionRequest) -> Pattern:
    if body.version is not None:
        previews.check_model("version", body.version)
    try:
        check_size_px(body.input.size_px)
        return previews.understand(body.input)
    except InvalidInput as error:
        raise InvalidInput(f"input.{error.field}", got=error.got, allowed=error.allowed) from error


def _read_wait(prefer: str) -> float:
    """Return the seconds to wait that a Prefer header asks for; 0 without one. Other preferences are ignored."""
    for preference in prefer.lower().split(","):
        if found := re.fullmatch(r"\s*wait(?:\s*=\s*\"?(\d{1,4})\"?)?\s*", preference):
            return min(float(found[1] or WAIT_DEFAULT_S), WAIT_MAX_S)
    return 0.0


async def _wait_for_end(edge: EdgeServices, status: JobStatus, wait_s: float) -> JobStatus:
    """Return the last status within `wait_s`. The order stands, so nothing that fails here may fail the answer."""
    with contextlib.suppress(TimeoutError, TransientError):
        async with asyncio.timeout(wait_s):
            with edge.listeners.listen(status.id) as listener:
                listener.tell(await edge.orders.find(status.id, status.tenant))  # news that came before we listened
                async for newer in listener.statuses():
                    status = newer or status
    return status


async def _events(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> AsyncIterator[bytes]:
    access = access_of(request)
    with edge.listeners.listen(order_id) as listener:
        listener.tell(await edge.orders.find(order_id, access.tenant))
        number = 0
        async for status in listener.statuses(idle_s=KEEP_ALIVE_S):
            if not edge.door.still_admits(access):
                return
            if status is None:
                yield b": still here\n\n"
                continue
            number += 1
            name = "completed" if status.state.is_final else "status"
            data = msgspec.json.encode(_describe(request, edge, status))
            yield b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), number, data)


def _find_artifact(status: JobStatus, name: str) -> Artifact:
    for artifact in status.artifacts:
        if artifact.name == name:
            return artifact
    names = ", ".join(artifact.name for artifact in status.artifacts) or "none yet"
    raise NotFound(f"prediction {status.id} has no file {name[:60]!r}; it has: {names}")


def _answer(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus) -> Response[bytes]:
    prediction = _describe(request, edge, status)
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(prediction), status_code=200, media_type=MediaType.JSON, headers=headers)


def _describe(request: Request[Any, Any, Any], edge: EdgeServices, status: JobStatus) -> Prediction:
    position = edge.orders.queue_position(status)
    return make_prediction(
        status, model=edge.previews.bundle.name, base_url=_base_url(request), queue_position=position, now=time.time()
    )


def _base_url(request: Request[Any, Any, Any]) -> str:
    return str(request.base_url).rstrip("/")
