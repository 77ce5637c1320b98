"""What every call of the client needs: answers as Structs, and pauses before another try."""

import time
from typing import TypeVar

import httpx
import msgspec

from halfdrop.contracts.errors import PermanentError, TransientError

RETRY_MAX_S = 5.0
"""Longest pause between two tries, whatever Retry-After asks for: a person may be waiting."""

Answer = TypeVar("Answer", bound=msgspec.Struct)


def decode_answer(response: httpx.Response, kind: type[Answer]) -> Answer:
    """Return the body as a `kind`. Raises PermanentError(unexpected-answer)."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.MsgspecError as error:
        detail = f"{response.request.url} is not a Halfdrop edge, or a much newer one ({error})"
        raise PermanentError(detail, code="unexpected-answer") from error


def pause_before(error: TransientError, attempt: int, deadline: float | None) -> None:
    """Wait as long as the error asks, doubling, but never beyond RETRY_MAX_S nor past the deadline."""
    pause_s = min(error.retry_after_s * 2 ** (attempt - 1), RETRY_MAX_S)
    if deadline is not None:
        pause_s = min(pause_s, max(deadline - time.monotonic(), 0))
    time.sleep(pause_s)
