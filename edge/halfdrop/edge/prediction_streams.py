"""HTTP: an order as server-sent events, in one of two forms.

`snapshots`, the usual one: the whole prediction at each change, events `status` and one `completed`. `replicate`, which
`urls.stream` names: the events that Replicate's clients know, `logs`, `output`, `error`, `done`; their Python client
fails at any other name and at an event without an id. Both come from the same statuses.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, get_args

import msgspec
from litestar import Request, get
from litestar.response import Stream

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import JobState, JobStatus
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.disconnects import PARAMETER, asks_for_cancel, cancel_if_cut
from halfdrop.edge.prediction_routes import describe
from halfdrop.edge.predictions import Prediction, log_lines
from halfdrop.edge.services import EdgeServices

KEEP_ALIVE_S = 15.0
"""A comment on an idle stream, so that proxies keep it open and a gone client is noticed."""

EventForm = Literal["snapshots", "replicate"]
EVENT_FORMS: tuple[EventForm, ...] = get_args(EventForm)

Event = tuple[str, bytes]
"""Name and data."""


@get("/v1/predictions/{order_id:str}/stream", guards=[needs("orders")])
async def stream_prediction(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> Stream:
    """Send what happens to an order as it happens, until it is final."""
    form = _read_form(request)
    asks_for_cancel(request.query_params.get(PARAMETER))
    await edge.orders.find(order_id, access_of(request).tenant)  # an unknown id is a 404, not an empty stream
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = cancel_if_cut(request, edge, order_id, _send_events(request, edge, order_id, form))
    return Stream(events, media_type="text/event-stream", headers=headers)


async def _send_events(
    request: Request[Any, Any, Any], edge: EdgeServices, order_id: str, form: EventForm
) -> AsyncIterator[bytes]:
    access = access_of(request)
    told: set[str] = set()
    number = 0
    with edge.listeners.listen(order_id) as listener:
        listener.tell(await edge.orders.find(order_id, access.tenant))
        async for status in listener.statuses(idle_s=KEEP_ALIVE_S):
            if not edge.door.still_admits(access):
                return
            if status is None:
                yield b": still here\n\n"
                continue
            prediction = describe(request, edge, status)
            events = _snapshot(prediction) if form == "snapshots" else _as_replicate(status, prediction, told)
            for name, data in events:
                number += 1
                yield b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), number, data.replace(b"\n", b"\ndata: "))


def _snapshot(prediction: Prediction) -> Iterator[Event]:
    is_final = prediction.status in ("succeeded", "failed", "canceled")
    yield "completed" if is_final else "status", msgspec.json.encode(prediction)


def _as_replicate(status: JobStatus, prediction: Prediction, told: set[str]) -> Iterator[Event]:
    """Yield what is new since the lines in `told`; at the end each file's address, the master first, and `done`."""
    for line in log_lines(status):
        if line not in told:
            told.add(line)
            yield "logs", line.encode()
    if prediction.output is not None:
        found = prediction.output
        for url in (found.master, found.svg, found.proof, *found.separations):
            if url is not None:
                yield "output", url.encode()
    if status.state is JobState.FAILED:
        yield "error", msgspec.json.encode({"detail": prediction.error})
    if status.state.is_final:
        reason = {JobState.FAILED: "error", JobState.CANCELED: "canceled"}.get(status.state)
        yield "done", msgspec.json.encode({"reason": reason} if reason else {})


def _read_form(request: Request[Any, Any, Any]) -> EventForm:
    asked = request.query_params.get("events", EVENT_FORMS[0])
    for form in EVENT_FORMS:
        if asked == form:
            return form
    raise InvalidInput("events", got=asked, allowed=" or ".join(EVENT_FORMS))
