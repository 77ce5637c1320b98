"""Server-sent events: that there is something new, to everybody who looks. What is new they then ask for."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Stream

from halfdrop.contracts.errors import Overloaded
from halfdrop.forecaster.service.dependencies import ThePlanner
from halfdrop.forecaster.service.planner import Planner

KEEP_ALIVE_S = 15.0
TOLD_AGAIN_S = 1.0
"""While a forecaster learns there is news many times in a second: a page is told once."""

RETRY_MS = 2_000
STREAMS_MAX = 128


class News(msgspec.Struct, frozen=True, kw_only=True):
    """Where things stand."""

    revision: int
    end: int
    """One past the newest minute, since the epoch."""

    age_s: float
    is_stale: bool
    learnt_share: float


class Streams:
    """How many look, and whether the process is about to end."""

    def __init__(self) -> None:
        self.open = 0
        self.stopping = False


TheStreams = NamedDependency[SkipValidation[Streams]]


@get("/v1/stream")
async def stream_news(planner: ThePlanner, streams: TheStreams) -> Stream:
    """An event `news` whenever a minute, a forecast, a plan, an event or a policy is new."""
    if streams.open >= STREAMS_MAX:
        raise Overloaded(f"{STREAMS_MAX} pages look already; close one", retry_after_s=10.0)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(_send(planner, streams), media_type="text/event-stream", headers=headers)


async def _send(planner: Planner, streams: Streams) -> AsyncIterator[bytes]:
    streams.open += 1
    revision, told_s = -1, 0.0
    try:
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not streams.stopping:
            newest = await planner.wait_for_news(revision, timeout_s=KEEP_ALIVE_S)
            if streams.stopping:
                return
            if newest == revision:
                yield b": still here\n\n"
                continue
            await asyncio.sleep(max(0.0, told_s + TOLD_AGAIN_S - time.monotonic()))
            revision, told_s = planner.revision, time.monotonic()
            yield b"event: news\ndata: " + msgspec.json.encode(tell(planner)) + b"\n\n"
    finally:
        streams.open -= 1


def tell(planner: Planner) -> News:
    """Return where things stand."""
    return News(
        revision=planner.revision,
        end=planner.table.end,
        age_s=round(planner.age_s(), 1),
        is_stale=planner.is_stale,
        learnt_share=round(planner.forecasting.learnt_share(), 4),
    )


HANDLERS: list[Any] = [stream_news]
