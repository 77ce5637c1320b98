"""HTTP: pictures in the shape of OpenAI's Images API, drawn here at the edge, so that its clients work unchanged.

A picture is a preview at any size up to 2048 px: the same key, the same plates, and the print files that an order of
its prompt and seed makes. No hub is needed.
"""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.response import Stream

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import PatternRequest
from halfdrop.contracts.plates import Plates
from halfdrop.edge.access import Access, access_of, needs
from halfdrop.edge.image_answers import COMPLETED, PARTIAL, Image, ImageEvent, Images, count_usage, say_pattern
from halfdrop.edge.image_requests import ImageRequest, PatternMembers, Wanted, check_images
from halfdrop.edge.limits import QuotaExceeded, find_exceeded, limit_headers
from halfdrop.edge.painted_orders import refuse_preview
from halfdrop.edge.prediction_routes import base_url
from halfdrop.edge.previews import Pattern, Previews
from halfdrop.edge.problems import encode_problem, problem_of
from halfdrop.edge.requests import read_body
from halfdrop.edge.services import EdgeServices

HEADERS = {"Cache-Control": "no-store"}


@post("/v1/images/generations", status_code=200, guards=[needs("previews")])
async def create_images(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes] | Stream:
    """Draw pictures, and answer with them or with their addresses; or stream one while it is drawn."""
    body = await read_body(request, ImageRequest)
    wanted = check_images(body, model=edge.previews.bundle.name)
    previews = edge.previews.of(access_of(request).tenant)
    refuse_preview(previews, edge.pools.imported(), wanted.patterns[0])
    patterns = [_understand(previews, pattern) for pattern in wanted.patterns]
    headers = {**HEADERS, **await _count_pictures(edge, access_of(request), len(patterns))}
    if body.stream:
        events = _events(request, previews, patterns[0], wanted)
        return Stream(events, media_type="text/event-stream", headers={**headers, "X-Accel-Buffering": "no"})
    # One after the other: a client with ten pictures waits, the others' previews do not.
    data = [await _draw(request, edge, previews, pattern, wanted) for pattern in patterns]
    answer = Images(
        created=int(time.time()),
        data=data,
        size=_size(wanted),
        quality=wanted.quality,
        output_format=wanted.form.kind,
        usage=count_usage(sum(map(previews.count_tokens, patterns)), len(patterns)),
    )
    return Response(msgspec.json.encode(answer), media_type=MediaType.JSON, headers=headers)


async def _count_pictures(edge: EdgeServices, access: Access, pictures: int) -> dict[str, str]:
    """Count every picture as a request: the front counted one. Raises QuotaExceeded; returns what to say of it."""
    if pictures == 1:
        return {}
    stands = await edge.limits.count(access, is_order=False, times=pictures - 1)
    if exceeded := find_exceeded(stands):
        raise QuotaExceeded(exceeded, stands)
    return {name.decode(): value.decode() for name, value in limit_headers(stands)}


def _understand(previews: Previews, request: PatternRequest) -> Pattern:
    try:
        return previews.understand(request)
    except InvalidInput as error:
        is_ours = error.field.partition("[")[0].partition(".")[0] in PatternMembers.__struct_fields__
        field = f"pattern.{error.field}" if is_ours else error.field
        raise InvalidInput(field, got=error.got, allowed=error.allowed) from error


async def _draw(
    request: Request[Any, Any, Any], edge: EdgeServices, previews: Previews, pattern: Pattern, wanted: Wanted
) -> Image:
    plates = await previews.plates(pattern)
    url, b64_json = None, None
    if wanted.as_url:  # composed when it is fetched
        address = base_url(request) + wanted.form.address(pattern.key)
        url = edge.door.sign(address, access_of(request).tenant)
    else:
        b64_json = _encode(await previews.compose_file(pattern, plates, wanted.form))
    return Image(
        url=url,
        b64_json=b64_json,
        revised_prompt=say_pattern(pattern, wanted.remark),
        seed=pattern.spec.seed,
        key=pattern.key,
    )


async def _events(
    request: Request[Any, Any, Any], previews: Previews, pattern: Pattern, wanted: Wanted
) -> AsyncIterator[bytes]:
    try:
        index = 0
        async with aclosing(_partial_pictures(previews, pattern, wanted)) as pictures:
            async for picture in pictures:
                yield _event(_describe(PARTIAL, picture, wanted, partial_image_index=index))
                index += 1
        picture = await previews.compose_file(pattern, await previews.plates(pattern), wanted.form)
        usage = count_usage(previews.count_tokens(pattern), 1)
        said, seed = say_pattern(pattern, wanted.remark), pattern.spec.seed
        last = _describe(COMPLETED, picture, wanted, usage=usage, revised_prompt=said, seed=seed, key=pattern.key)
        yield _event(last)
    except Exception as error:  # the 200 has gone out: whatever is wrong can only be told as an event
        problem, _ = problem_of(error, request.scope["path"])
        yield b"event: error\ndata: %b\n\n" % encode_problem(problem, request.scope["path"])[1]


async def _partial_pictures(previews: Previews, pattern: Pattern, wanted: Wanted) -> AsyncGenerator[bytes]:
    """Yield what there is to see on the way, as many as are wanted at most.

    That is what the model sees between its steps, if it draws now: with two steps, one state. Where it drew before, the
    plates are shown coarsely, each time twice as fine.
    """
    if not wanted.partial_images:
        return
    states: asyncio.Queue[Plates | None] = asyncio.Queue()  # bounded by the model's steps
    drawing = asyncio.ensure_future(previews.plates(pattern, on_state=states.put_nowait))
    drawing.add_done_callback(lambda _: states.put_nowait(None))
    shown = 0
    try:
        while shown < wanted.partial_images and (state := await states.get()) is not None:
            yield await previews.compose_file(pattern, state, wanted.form)
            shown += 1
        plates = await drawing
    finally:
        drawing.cancel()
    if not shown:
        for halvings in range(wanted.partial_images, 0, -1):
            yield await previews.compose_coarsely(pattern, plates, wanted.form, wanted.form.size_px >> halvings)


def _describe(kind: Any, picture: bytes, wanted: Wanted, **members: Any) -> ImageEvent:
    return ImageEvent(
        type=kind,
        b64_json=_encode(picture),
        created_at=int(time.time()),
        size=_size(wanted),
        quality=wanted.quality,
        background="opaque",
        output_format=wanted.form.kind,
        **members,
    )


def _event(event: ImageEvent) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), msgspec.json.encode(event))


def _size(wanted: Wanted) -> str:
    return f"{wanted.form.size_px}x{wanted.form.size_px}"


def _encode(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
