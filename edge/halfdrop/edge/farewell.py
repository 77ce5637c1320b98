"""The end of an edge that may not come back soon: it stays, without serving, until it owes nothing or its time is over.

An edge that is replaced is back within seconds, on the same volume, and goes on. One that is scaled away is not: what
only it can do would lie still until its pod is there again (docs/adr/0049). So before it ends, orders leave for a hub,
lines of batches become orders, statuses come back, and webhooks are told of them; all that works on as it always does,
and this only looks.
"""

import asyncio
import time

import msgspec
import structlog

from halfdrop.contracts.jobs import JobState
from halfdrop.edge.services import Services

log = structlog.get_logger()

LOOK_EVERY_S = 0.1


class Debts(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge has promised and not done. All of it lies on its volume."""

    orders: int
    """Not finished, as far as this edge knows."""

    unforwarded: int
    """Of these, in OUTBOX: no hub has them."""

    batch_lines: int
    """That are not orders yet."""

    webhooks: int
    """Events that wait to be delivered."""

    @property
    def are_none(self) -> bool:
        return not (self.orders or self.batch_lines or self.webhooks)


def count_debts(edge: Services) -> Debts:
    """Return what the edge owes now."""
    unfinished = edge.orders.unfinished()
    return Debts(
        orders=len(unfinished),
        unforwarded=sum(order.queued_at is None and order.state is JobState.QUEUED for order in unfinished),
        batch_lines=sum(batch.counts().waiting for batch in edge.batches.open()),
        webhooks=len(edge.webhooks.schedule),
    )


async def settle_debts(edge: Services, *, settle_s: float) -> Debts:
    """Return once the edge owes nothing, or after `settle_s` seconds, with what it owes then."""
    began_s = time.monotonic()
    debts = count_debts(edge)
    if settle_s and not debts.are_none:
        log.info("edge_settling", settle_s=settle_s, **msgspec.structs.asdict(debts))
    while not debts.are_none and time.monotonic() - began_s < settle_s:
        await asyncio.sleep(LOOK_EVERY_S)
        debts = count_debts(edge)
    if debts.are_none:
        log.info("edge_owes_nothing", after_s=round(time.monotonic() - began_s, 2))
    else:  # no news of an edge that is replaced: it is back soon
        (log.warning if settle_s else log.info)("edge_left_owing", **msgspec.structs.asdict(debts))
    return debts
