"""The end of a batch: said once to whoever delivers it, and again if this process died before it was taken."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from halfdrop.contracts.errors import TransientError
from halfdrop.edge.batch_book import Batches
from halfdrop.edge.batch_state import BatchState, LineCounts

log = structlog.get_logger()

LOOK_S = 1.0

TakeEnd = Callable[[BatchState, LineCounts], Awaitable[None]]


async def tell_ends(batches: Batches, take: TakeEnd) -> None:
    """Hand each batch with a webhook to `take` when it is over, for ever, at least once, across restarts.

    `take` returns when it has it safely, and raises TransientError to be asked again.
    """
    while True:
        for batch in batches.untold():
            try:
                await take(batch.state, batch.counts())
                await batches.note_told(batch)
            except TransientError as error:
                log.warning("batch_end_not_told", batch_id=batch.state.id, error=error.detail)
        await asyncio.sleep(LOOK_S)
