"""The client's batches: thousands of orders sent, watched and fetched as one. `HalfdropClient.batches` is one of these.

batch = client.batches.submit(Path("collection.jsonl"))
done = client.batches.wait(batch.id)
client.batches.download(done.id, Path("collection.zip"))
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from halfdrop.contracts.errors import TransientError
from halfdrop.edge.client_answers import Batch, BatchPage, LineError
from halfdrop.edge.client_calls import decode_answer, pause_before

if TYPE_CHECKING:
    from halfdrop.edge.client import HalfdropClient

TRIES_MAX = 4
"""Connections that break one after another before it is given up on."""

SUBMIT_TIMEOUT_S = 180.0
"""Ten thousand lines take seconds to check, and megabytes their time on the way."""

Lines = bytes | Path | Iterable[dict[str, Any]]
"""JSON Lines: a file, its bytes, or the lines themselves, such as {"custom_id": "a", "input": {"prompt": "dots"}}."""


class BatchCalls:
    """What can be done with batches at one edge."""

    def __init__(self, client: "HalfdropClient") -> None:
        self._client = client

    def submit(
        self,
        lines: Lines,
        *,
        on_error: Literal["skip", "refuse"] = "skip",
        webhook: str | None = None,
        cancel_after: str | None = None,
    ) -> Batch:
        """Order every line, once, however often it has to be said. Raises HalfdropError.

        on_error: "refuse" wants all or nothing. webhook: told of the end. cancel_after: "90s", "2h".
        """
        parameters = {"on_error": on_error} | ({"webhook": webhook} if webhook else {})
        headers = {"idempotency-key": f'"{uuid.uuid4()}"', "content-type": "application/jsonl"}
        if cancel_after:
            headers["cancel-after"] = cancel_after
        content = _encode_lines(lines)
        response = self._client._call(
            "POST",
            "/v1/batches",
            content=content,
            parameters=parameters,
            headers=headers,
            timeout_s=SUBMIT_TIMEOUT_S,
        )
        return decode_answer(response, Batch)

    def get(self, batch_id: str) -> Batch:
        """Return how far a batch is. Raises NotFound."""
        return decode_answer(self._client._call("GET", f"/v1/batches/{batch_id}"), Batch)

    def list(self, *, cursor: str | None = None) -> BatchPage:
        """Return a page of batches, newest first."""
        response = self._client._call("GET", "/v1/batches", parameters={"cursor": cursor} if cursor else {})
        page = decode_answer(response, BatchPage)
        query = parse_qs(urlsplit(page.next or "").query)
        return msgspec.structs.replace(page, next=query["cursor"][0] if "cursor" in query else page.next)

    def pause(self, batch_id: str) -> Batch:
        """Place no more of its lines until `resume`. Raises NotFound."""
        return self._change(batch_id, "pause")

    def resume(self, batch_id: str) -> Batch:
        """Go on after a pause. Raises NotFound."""
        return self._change(batch_id, "resume")

    def cancel(self, batch_id: str) -> Batch:
        """Place no more of its lines, and stop those that are placed. Raises NotFound."""
        return self._change(batch_id, "cancel")

    def errors(self, batch_id: str) -> tuple[LineError, ...]:
        """Return the lines that were refused, up to the first thousand. Raises NotFound."""
        response = self._client._call("GET", f"/v1/batches/{batch_id}/errors", accept="application/jsonl")
        return tuple(msgspec.json.decode(line, type=LineError) for line in response.content.splitlines())

    def watch(self, batch_id: str, *, timeout_s: float | None = None) -> Iterator[Batch]:
        """Yield a batch at each change, from now until it is over; reconnects when the stream breaks.

        Raises TimeoutError after `timeout_s`, NotFound, or Unavailable once the edge stays away.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        failures = 0
        while True:
            try:
                for event in self._client._stream(f"/v1/batches/{batch_id}/stream", "", deadline):
                    failures = 0
                    batch = msgspec.json.decode(event.data, type=Batch)
                    yield batch
                    if batch.is_over:
                        return
            except TransientError as error:
                failures += 1
                if failures >= TRIES_MAX:
                    raise
                pause_before(error, failures, deadline)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("the batch is not over yet; it goes on, and can be watched again")

    def wait(self, batch_id: str, *, timeout_s: float | None = None) -> Batch:
        """Return a batch once it is over. Raises as `watch` does."""
        *_, last = self.watch(batch_id, timeout_s=timeout_s)
        return last

    def download(
        self,
        batch_id: str,
        path: Path,
        *,
        form: Literal["jsonl", "zip"] = "zip",
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> Path:
        """Write what came of its lines to `path`, whole or not at all: a zip with the files, or JSON Lines.

        `on_progress` gets the bytes so far and None: nobody knows how many there will be. Raises NotFound.
        """
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._client._fetch_to(f"/v1/batches/{batch_id}/results?format={form}", part, on_progress)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def _change(self, batch_id: str, verb: str) -> Batch:
        return decode_answer(self._client._call("POST", f"/v1/batches/{batch_id}/{verb}"), Batch)


def _encode_lines(lines: Lines) -> bytes:
    if isinstance(lines, bytes):
        return lines
    if isinstance(lines, Path):
        return lines.read_bytes()
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
