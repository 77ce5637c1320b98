"""HTTP: an order as server-sent events, in one of two forms.

`snapshots`, the usual one: the whole prediction at each change, events `status` and one `completed`. `replicate`, which
`urls.stream` names: the events that Replicate's clients know, `logs`, `output`, `error`, `done`; their Python client
fails at any other name and at an event without an id. Both come from the same statuses.

Who comes back with Last-Event-ID gets what it missed and still matters: the newest snapshot, or the lines and files not
yet told of. To who has seen the end the answer is 204, upon which an EventSource stops trying.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from litestar import Request, Response, get
from litestar.response import Stream

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.jobs import JobState, JobStatus
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.disconnects import PARAMETER, asks_for_cancel, cancel_if_cut
from halfdrop.edge.event_ids import DONE, ERROR, OUTPUT, Told, read_snapshot, read_told, snapshot_of
from halfdrop.edge.prediction_routes import describe
from halfdrop.edge.predictions import Prediction, log_lines
from halfdrop.edge.services import EdgeServices

KEEP_ALIVE_S = 15.0
"""A comment on an idle stream, so that proxies keep it open and a gone client is noticed."""

RETRY_MS = 2_000
"""When a client whose stream broke should come back: an edge restarts within it."""

LAST_EVENT_ID = "Last-Event-ID"

EventForm = Literal["snapshots", "replicate"]
EVENT_FORMS: tuple[EventForm, ...] = get_args(EventForm)


class Event(NamedTuple):
    """One event of a stream."""

    name: str
    data: bytes
    id: str


@get("/v1/predictions/{order_id:str}/stream", guards=[needs("orders")])
async def stream_prediction(
    request: Request[Any, Any, Any], edge: EdgeServices, order_id: str
) -> Stream | Response[None]:
    """Send what happens to an order as it happens, until it is final."""
    form = _read_form(request)
    status = await edge.orders.find(order_id, access_of(request).tenant)  # an unknown id is a 404, not an empty stream
    asks_for_cancel(request.query_params.get(PARAMETER))
    seen = request.headers.get(LAST_EVENT_ID, "")
    if status.state.is_final and _has_seen_end(form, seen):
        return Response(None, status_code=204, headers={"Cache-Control": "no-store"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = cancel_if_cut(request, edge, order_id, _send_events(request, edge, order_id, form, seen))
    return Stream(events, media_type="text/event-stream", headers=headers)


def _has_seen_end(form: EventForm, seen: str) -> bool:
    if form == "replicate":
        return read_told(seen).phase == DONE
    snapshot = read_snapshot(seen)
    return snapshot is not None and snapshot.is_final


async def _send_events(
    request: Request[Any, Any, Any], edge: EdgeServices, order_id: str, form: EventForm, seen: str
) -> AsyncIterator[bytes]:
    access = access_of(request)
    retry = b"retry: %d\n" % RETRY_MS  # with the first event: Replicate's client takes a lone one for an event
    with edge.listeners.listen(order_id) as listener:
        listener.tell(await edge.orders.find(order_id, access.tenant))
        async for status in listener.statuses(idle_s=KEEP_ALIVE_S):
            if not edge.door.still_admits(access):
                return
            if status is None:
                yield b": still here\n\n"
                if not edge.orders.knows(order_id, access.tenant):  # another edge's: its news do not come by here
                    with contextlib.suppress(NotFound):  # the hub did not answer in time: asked again the next time
                        listener.tell(await edge.orders.find(order_id, access.tenant))
                continue
            for event in _events_of(form, status, describe(request, edge, status), seen):
                seen = event.id
                data = event.data.replace(b"\n", b"\ndata: ")
                yield b"%bevent: %b\nid: %b\ndata: %b\n\n" % (retry, event.name.encode(), seen.encode(), data)
                retry = b""


def _events_of(form: EventForm, status: JobStatus, prediction: Prediction, seen: str) -> Iterator[Event]:
    """Yield what `status` says that whoever has the event `seen` does not know."""
    if form == "replicate":
        yield from tell_as_replicate(status, prediction, read_told(seen))
        return
    known, snapshot = read_snapshot(seen), snapshot_of(status)
    if known is None or not known.covers(snapshot):
        yield Event("completed" if snapshot.is_final else "status", msgspec.json.encode(prediction), str(snapshot))


def tell_as_replicate(status: JobStatus, prediction: Prediction, told: Told) -> Iterator[Event]:
    """Yield what is new since `told`: lines of the log; at the end each file's address, master first, and `done`."""
    lines = log_lines(status)
    told = told._replace(lines=told.find_in(lines))
    for line in lines[told.lines :]:
        told = told.after(line)
        yield Event("logs", line.encode(), str(told))
    if prediction.output is not None and told.phase <= OUTPUT:
        for files, url in enumerate(prediction.output.addresses[told.files :], told.files + 1):
            told = told._replace(phase=OUTPUT, files=files)
            yield Event("output", url.encode(), str(told))
    if status.state is JobState.FAILED and told.phase < ERROR:
        told = told._replace(phase=ERROR)
        yield Event("error", msgspec.json.encode({"detail": prediction.error}), str(told))
    if status.state.is_final and told.phase < DONE:
        reason = {JobState.FAILED: "error", JobState.CANCELED: "canceled"}.get(status.state)
        yield Event("done", msgspec.json.encode({"reason": reason} if reason else {}), str(told._replace(phase=DONE)))


def _read_form(request: Request[Any, Any, Any]) -> EventForm:
    asked = request.query_params.get("events", EVENT_FORMS[0])
    for form in EVENT_FORMS:
        if asked == form:
            return form
    raise InvalidInput("events", got=asked, allowed=" or ".join(EVENT_FORMS))
