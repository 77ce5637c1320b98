"""The Python client of an edge: previews, orders, files. Synchronous; every error is one of contracts.errors.

    with HalfdropClient("http://127.0.0.1:8080") as client:
        preview = client.preview("red polka dots on white, half-drop", seed=7)
        prediction = client.wait(client.order("red polka dots on white, half-drop", seed=7, size_px=4096).id)
        client.download(prediction, "master.png", Path("dots.png"))

Calls are tried again, a few times, when the edge is away or busy. An order goes with an Idempotency-Key of its own, so
that one whose answer was lost is not placed twice.
"""

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec

from halfdrop.contracts.errors import (
    InvalidInput,
    NotFound,
    TransientError,
    Unavailable,
)  # fmt: skip
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.patterns import LoraWish, PatternRequest, ReuseAllowed
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.client_answers import Prediction, PredictionPage, Preview, translate_problem
from halfdrop.edge.client_batches import BatchCalls
from halfdrop.edge.client_calls import decode_answer, pause_before
from halfdrop.edge.client_templates import TemplateCalls
from halfdrop.edge.client_webhooks import WebhookCalls
from halfdrop.edge.event_stream import ServerEvent, read_events

KEY_VARIABLE = "HALFDROP_API_KEY"

ATTEMPTS_MAX = 4
"""Tries of a call, the first included."""

RECONNECT_S = 0.2
"""First pause when nothing answered at all: a restarted edge is back in a second or two."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
"""Above the slowest answer of a healthy edge: a cold preview behind a full queue."""


class PatternOptions(TypedDict, total=False):
    """Members of a PatternRequest beside its prompt; their meaning and limits stand there."""

    negative_prompt: str
    seed: int
    repeat: Repeat | None
    palette: tuple[str, ...]
    num_inference_steps: int
    guidance_scale: float
    model: str
    loras: tuple[LoraWish, ...]


class HalfdropClient:
    """One edge, over a pool of connections. Close it, or use it in a `with`."""

    def __init__(
        self, base_url: str, *, api_key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Talk to the edge at `base_url`. Raises InvalidInput for a key that cannot be sent.

        api_key: left out, HALFDROP_API_KEY from the environment; an open edge wants none. `transport` replaces the
        network, for tests of a caller's own code.
        """
        key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
        if not re.fullmatch(r"[!-~]*", key):
            raise InvalidInput("api_key", got="other signs", allowed="a key that `halfdrop keys create` made")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.base_url = base_url.rstrip("/")
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout, transport=transport, headers=headers)
        self.batches = BatchCalls(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    @property
    def webhooks(self) -> WebhookCalls:
        """Calls about webhooks."""
        return WebhookCalls(self._call)

    @property
    def templates(self) -> TemplateCalls:
        """Calls about templates."""
        return TemplateCalls(self._call)

    def preview(
        self,
        prompt: str,
        *,
        size_px: int = 256,
        reuse: ReuseAllowed = "exact",
        template: str = "",
        **pattern: Unpack[PatternOptions],
    ) -> Preview:
        """Return the preview of a pattern, drawn or from a cache. Raises HalfdropError.

        reuse: what else may answer; "variant" any seed's where none is given, "near" another wording's as well.
        template: as an order by it would be drawn.
        """
        body = _encode_pattern(prompt, size_px, pattern) | {"reuse": reuse}
        if template:
            body["template"] = template
        response = self._call("POST", "/v1/previews", body=body)
        preview = decode_answer(response, Preview)
        picture = self._call("GET", preview.url, accept="image/webp")
        return msgspec.structs.replace(
            preview,
            data=picture.content,
            url=str(picture.request.url),
            cache_status=response.headers.get("cache-status", ""),
        )

    def order(
        self,
        prompt: str,
        *,
        size_px: int | None = None,
        template: str = "",
        job_class: JobClass = "standard",
        formats: Sequence[PrintFormat] = (),
        colourways: Sequence[Sequence[str]] = (),
        printing: PrintOptions | None = None,
        **pattern: Unpack[PatternOptions],
    ) -> Prediction:
        """Order the print files of a pattern, once, however often it has to be said. Raises HalfdropError.

        job_class: "realtime" where somebody waits for it, "bulk" where nobody does. formats: beside PNGs and the SVG.
        size_px: left out, 4096 or what the template says. template: name or name@version; it says which files are made.
        colourways: more palettes for the same plates. printing: what the mill asks for.
        """
        body: dict[str, Any] = {"input": _encode_pattern(prompt, size_px, pattern)}
        if template:
            body["input"]["template"] = template
        if formats:
            body["input"]["formats"] = list(formats)
        if colourways:
            body["input"]["colourways"] = [list(palette) for palette in colourways]
        if printing is not None:
            body["input"]["printing"] = msgspec.to_builtins(printing)
        if job_class != "standard":  # which older edges do not know
            body["class"] = job_class
        once = {"idempotency-key": f'"{uuid.uuid4()}"'}
        return decode_answer(self._call("POST", "/v1/predictions", body=body, headers=once), Prediction)

    def get(self, prediction_id: str) -> Prediction:
        """Return what is known of an order. Raises NotFound."""
        return decode_answer(self._call("GET", f"/v1/predictions/{prediction_id}"), Prediction)

    def list(self, *, cursor: str | None = None, batch: str | None = None) -> PredictionPage:
        """Return a page of orders, newest first; of one batch if it is named."""
        parameters = {name: value for name, value in (("cursor", cursor), ("batch", batch)) if value}
        response = self._call("GET", "/v1/predictions", parameters=parameters)
        page = decode_answer(response, PredictionPage)
        query = parse_qs(urlsplit(page.next or "").query)
        return msgspec.structs.replace(page, next=query["cursor"][0] if "cursor" in query else page.next)

    def cancel(self, prediction_id: str) -> Prediction:
        """Cancel an order; one that is final stays as it is. Raises NotFound."""
        path = f"/v1/predictions/{prediction_id}/cancel"
        return decode_answer(self._call("POST", path), Prediction)

    def watch(self, prediction_id: str, *, timeout_s: float | None = None) -> Iterator[Prediction]:
        """Yield an order at each change, from now until it is final; reconnects when the stream breaks.

        Raises TimeoutError after `timeout_s`, NotFound, or Unavailable once the edge stays away.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        last_id, failures = "", 0
        while True:
            try:
                for event in self._stream(f"/v1/predictions/{prediction_id}/stream", last_id, deadline):
                    failures, last_id = 0, event.id or last_id
                    prediction = msgspec.json.decode(event.data, type=Prediction)
                    yield prediction
                    if prediction.is_final:
                        return
            except TransientError as error:
                failures += 1
                if failures >= ATTEMPTS_MAX:
                    raise
                pause_before(error, failures, deadline)
            _check_deadline(deadline)

    def wait(self, prediction_id: str, *, timeout_s: float | None = None) -> Prediction:
        """Return an order once it is final, whatever its end. Raises as `watch` does."""
        *_, last = self.watch(prediction_id, timeout_s=timeout_s)
        return last

    def download(
        self,
        prediction: Prediction,
        name: str,
        path: Path,
        *,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> Path:
        """Write one file of a finished order to `path`, whole or not at all, and return the path.

        `on_progress` gets the bytes so far and in all (None if unknown). Raises NotFound if there is no such file.
        """
        url = prediction.files.get(name)
        if url is None:
            have = ", ".join(prediction.files) or f"none, its status is {prediction.status}"
            raise NotFound(f"order {prediction.id} has no file {name!r}; it has: {have}")
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._fetch_to(url, part, on_progress)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def _fetch_to(self, url: str, part: Path, on_progress: Callable[[int, int | None], None] | None) -> None:
        try:
            with self._http.stream("GET", url) as response, part.open("wb") as file:
                if response.is_error:
                    response.read()
                    raise translate_problem(response)
                length = response.headers.get("content-length")
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    if on_progress:
                        on_progress(response.num_bytes_downloaded, int(length) if length else None)
        except httpx.TransportError as error:
            raise self._away(error) from error

    def _stream(self, path: str, last_id: str, deadline: float | None) -> Iterator[ServerEvent]:
        """Yield the events of one connection. Returns when it was quiet for READ_TIMEOUT_S; raises when it broke."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        quiet_s = READ_TIMEOUT_S if deadline is None else min(READ_TIMEOUT_S, max(deadline - time.monotonic(), 0.05))
        timeout = httpx.Timeout(quiet_s, connect=CONNECT_TIMEOUT_S)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise translate_problem(response)
                yield from read_events(response.iter_lines())
            detail = f"the edge at {self.base_url} ended the stream {path} early"
            raise Unavailable(detail, retry_after_s=RECONNECT_S)
        except httpx.ReadTimeout:
            return
        except httpx.TransportError as error:
            raise self._away(error) from error

    def _call(
        self,
        method: str,
        url: str,
        *,
        body: object = None,
        parameters: dict[str, str] | None = None,
        accept: str = "application/json",
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> httpx.Response:
        """Send one request, again if that may help. Raises HalfdropError."""
        sent = {"accept": accept, **(headers or {})}
        if body is not None:
            sent["content-type"], content = "application/json", msgspec.json.encode(body)
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return self._send(
                    self._http.build_request(
                        method, url, content=content, params=parameters, headers=sent, timeout=timeout
                    )
                )
            except TransientError as error:
                if attempt == ATTEMPTS_MAX:
                    raise
                pause_before(error, attempt, None)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._http.send(request)
        except httpx.TransportError as error:
            raise self._away(error) from error
        if response.is_error:
            raise translate_problem(response)
        return response

    def _away(self, error: httpx.TransportError) -> Unavailable:
        detail = f"no answer from the edge at {self.base_url} ({error or type(error).__name__})"
        return Unavailable(detail, retry_after_s=RECONNECT_S)


def _encode_pattern(prompt: str, size_px: int | None, pattern: PatternOptions) -> dict[str, Any]:
    """Return the wire form; msgspec leaves the limits to the edge, whose words are better than ours could be."""
    encoded: dict[str, Any] = msgspec.to_builtins(PatternRequest(prompt=prompt, **pattern))
    if encoded["repeat"] is None:
        del encoded["repeat"]
    if not encoded["loras"]:  # which older edges do not know
        del encoded["loras"]
    return encoded if size_px is None else encoded | {"size_px": size_px}


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError("the order is not final yet; it goes on, and can be watched again")
