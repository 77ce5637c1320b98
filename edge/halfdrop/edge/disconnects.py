"""Clients that hang up: their order stands, unless they asked that it be canceled then.

They ask with the preference `cancel-on-disconnect` beside `wait` (`Prefer: wait=30, cancel-on-disconnect`), or with
`cancel_on_disconnect=1` in the address of an order's stream. To hang up is to close the connection before the answer,
or the stream, has ended. A wait that is over, a stopping edge and an order that is finished cancel nothing.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import structlog
from litestar import Request

from halfdrop.contracts.errors import InvalidInput, NotFound, Unavailable
from halfdrop.edge.access import access_of
from halfdrop.edge.services import EdgeServices

log = structlog.get_logger()

PREFERENCE = "cancel-on-disconnect"
PARAMETER = "cancel_on_disconnect"
YES, NO = ("1", "true"), ("0", "false")

CANCEL_MAX_S = 5.0
"""The connection is gone; what was asked for is still tried so long."""


def prefers_cancel(prefer: str) -> bool:
    """True if a Prefer header asks that the order be canceled when its client hangs up."""
    return any(re.fullmatch(rf"\s*{PREFERENCE}\s*", part) for part in prefer.lower().split(","))


def asks_for_cancel(text: str | None) -> bool:
    """Read the query parameter. Raises InvalidInput for anything but yes and no."""
    if text is None or text in NO:
        return False
    if text in YES:
        return True
    raise InvalidInput(PARAMETER, got=text, allowed=" or ".join((*YES, *NO)))


async def cancel_if_preferred(request: Request[Any, Any, Any], edge: EdgeServices, order_id: str) -> None:
    """Cancel the order whose waiting client has hung up, if its Prefer header asked for that."""
    if prefers_cancel(request.headers.get("prefer", "")):
        await _cancel(edge, order_id, access_of(request).tenant)


async def cancel_if_cut(
    request: Request[Any, Any, Any], edge: EdgeServices, order_id: str, events: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Send the events on, and cancel the order if its client cuts the stream off and has asked for that."""
    try:
        async for event in events:
            yield event
    except (asyncio.CancelledError, GeneratorExit):
        if asks_for_cancel(request.query_params.get(PARAMETER)):
            with anyio.CancelScope(shield=True):  # the task is being called off; this part of it must not be
                await _cancel(edge, order_id, access_of(request).tenant)
        raise


async def _cancel(edge: EdgeServices, order_id: str, tenant: str) -> None:
    try:
        with anyio.fail_after(CANCEL_MAX_S):
            status = await edge.orders.cancel(order_id, tenant, time.time())
    except (NotFound, Unavailable, TimeoutError) as error:
        log.warning("disconnect_not_canceled", job_id=order_id, error=repr(error))
    else:
        log.info("disconnect_canceled", job_id=order_id, state=status.state.value)
