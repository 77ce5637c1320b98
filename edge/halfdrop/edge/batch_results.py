"""HTTP: what came of a batch, line by line, or all files in one zip. Both are streams, whatever their length.

A line that is not finished says so in its place; an answer that has such lines says it in the header field
Halfdrop-Partial as well.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal, get_args

import msgspec
from litestar import Request, get
from litestar.response import Stream
from zipstream.ng import ZIP_STORED, ZipStream

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.jobs import JobState, JobStatus, decode_status
from halfdrop.contracts.subjects import artifact_path
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.batch_book import Batch, errors_path, input_path
from halfdrop.edge.batch_intake import split_lines
from halfdrop.edge.batch_lines import BatchLine
from halfdrop.edge.names import batch_order_id
from halfdrop.edge.prediction_routes import describe
from halfdrop.edge.predictions import Prediction
from halfdrop.edge.services import EdgeServices

PARTIAL = "Halfdrop-Partial"
RESULT_NAME = "result.json"
"""A job's final status in the object store, as its hub wrote it."""

ResultsForm = Literal["jsonl", "zip"]
RESULTS_FORMS: tuple[ResultsForm, ...] = get_args(ResultsForm)

AnyRequest = Request[Any, Any, Any]


class LineResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one line."""

    custom_id: str | None
    line: int
    status: str
    """As of a prediction, or `waiting` for a line that is not placed yet, `canceled` if it never will be."""

    prediction: Prediction | None
    error: str | None
    """Why it failed."""


@get("/v1/batches/{batch_id:str}/errors", guards=[needs("orders")])
async def get_batch_errors(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Stream:
    """Send the lines that were refused, up to the first thousand, and why."""
    state = edge.batches.find(batch_id, access_of(request).tenant).state
    path = errors_path(state.tenant, state.id)
    has_errors = await edge.objects.size(path) is not None
    body = edge.objects.stream(path) if has_errors else _nothing()
    return Stream(body, media_type="application/jsonl", headers={"Cache-Control": "no-store"})


@get("/v1/batches/{batch_id:str}/results", guards=[needs("orders")])
async def get_batch_results(request: AnyRequest, edge: EdgeServices, batch_id: str) -> Stream:
    """Send what came of each line: as JSON Lines, or as a zip with the files."""
    asked = request.query_params.get("format", RESULTS_FORMS[0])
    if asked not in RESULTS_FORMS:
        raise InvalidInput("format", got=asked, allowed=" or ".join(RESULTS_FORMS))
    batch = edge.batches.find(batch_id, access_of(request).tenant)
    if await edge.objects.size(input_path(batch.state.tenant, batch_id)) is None:  # now, not in the middle of a 200
        raise NotFound(f"the lines of batch {batch_id} are no longer in the object store")
    headers = {"Cache-Control": "no-store"} | ({} if batch.is_over else {PARTIAL: "true"})
    if asked == "jsonl":
        body = (msgspec.json.encode(result) + b"\n" async for result, _ in read_results(request, edge, batch))
        return Stream(body, media_type="application/jsonl", headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="halfdrop-{batch_id}.zip"'
    return Stream(_zip_results(request, edge, batch), media_type="application/zip", headers=headers)


async def read_results(
    request: AnyRequest, edge: EdgeServices, batch: Batch
) -> AsyncIterator[tuple[LineResult, JobStatus | None]]:
    """Yield what came of each accepted line, in their order, and the status of its order if it has one."""
    tenant, batch_id = batch.state.tenant, batch.state.id
    stored = edge.objects.stream(input_path(tenant, batch_id))
    async for raw in split_lines(stored, _ignore, batch.state.input_bytes):
        line = msgspec.json.decode(raw or b"", type=BatchLine)
        status = await find_status(edge, batch_order_id(batch_id, line.line), tenant)
        if status is None:
            unplaced = "canceled" if batch.is_over else "waiting"
            yield _result(line, unplaced, None), None
            continue
        prediction = describe(request, edge, status)
        yield _result(line, prediction.status, prediction), status


async def find_status(edge: EdgeServices, order_id: str, tenant: str) -> JobStatus | None:
    """Return what is known of an order: for a week by this edge, then by the object store."""
    try:
        return await edge.orders.find(order_id, tenant)
    except NotFound:
        data = await edge.objects.get(artifact_path(tenant, order_id, RESULT_NAME))
        return None if data is None else decode_status(data)


def _result(line: BatchLine, status: str, prediction: Prediction | None) -> LineResult:
    error = prediction.error if prediction is not None else None
    return LineResult(custom_id=line.custom_id, line=line.line, status=status, prediction=prediction, error=error)


async def _zip_results(request: AnyRequest, edge: EdgeServices, batch: Batch) -> AsyncIterator[bytes]:
    """Yield a zip: a folder of files for each completed line, then results.jsonl. Files are stored as they are."""
    archive = ZipStream(compress_type=ZIP_STORED)
    results = bytearray()
    async for result, status in read_results(request, edge, batch):
        results += msgspec.json.encode(result) + b"\n"
        if status is None or status.state is not JobState.COMPLETED:
            continue
        folder = result.custom_id or f"line-{result.line}"
        for artifact in status.artifacts:
            source = _in_thread(edge.objects.stream(artifact.path))
            archive.add(source, f"{folder}/{artifact.name}", size=artifact.size_bytes)
            async for chunk in _pull(archive.file):
                yield chunk
    archive.add(bytes(results), "results.jsonl")
    async for chunk in _pull(archive.finalize):
        yield chunk


def _in_thread(stream: AsyncIterator[bytes]) -> Iterator[bytes]:
    """Return an iterator for another thread over what this loop reads: the library asks for its data itself."""
    loop = asyncio.get_running_loop()

    def iterate() -> Iterator[bytes]:
        while True:
            chunk = asyncio.run_coroutine_threadsafe(_next(stream), loop).result()
            if chunk is None:
                return
            yield chunk

    return iterate()


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)


async def _pull(generate: Callable[[], Any]) -> AsyncIterator[bytes]:
    """Yield what the archive generates, a thread's turn for each chunk of about a megabyte."""
    chunks = generate()
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def _ignore(_: bytes) -> None:
    return


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
