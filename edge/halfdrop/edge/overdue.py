"""Orders whose Cancel-After is over: canceled by the edge that accepted them, across its restarts."""

import asyncio
import time
from collections.abc import Callable

import structlog

from halfdrop.contracts.errors import NotFound, Unavailable
from halfdrop.edge.orders import OrderBook

log = structlog.get_logger()

CHECK_S = 0.5
"""How late a deadline can be noticed; a hub needs as long to hear of it."""


async def cancel_overdue(orders: OrderBook, clock: Callable[[], float] = time.time) -> None:
    """Cancel what is overdue, for ever; each order is asked once, for a running one stops when its worker hears."""
    asked: set[str] = set()
    while True:
        now = clock()
        overdue = orders.overdue(now)
        asked &= {status.id for status in overdue}
        for status in overdue:
            if status.id in asked:
                continue
            try:
                await orders.cancel(status.id, status.tenant, now)
            except (NotFound, Unavailable) as error:  # tried again at the next check
                log.warning("deadline_not_kept", job_id=status.id, error=error.detail)
            else:
                log.info("deadline_passed", job_id=status.id)
                asked.add(status.id)
        await asyncio.sleep(CHECK_S)
