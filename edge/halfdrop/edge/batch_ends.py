"""The end of a batch: handed to the webhooks once it is over, and again if this process died before they took it."""

import asyncio
import time

import msgspec
import structlog

from halfdrop.contracts.errors import TransientError
from halfdrop.edge.batch_answers import make_batch
from halfdrop.edge.batch_book import Batch, Batches
from halfdrop.edge.webhooks.deliveries import Deliveries

log = structlog.get_logger()

LOOK_S = 1.0


async def tell_ends(batches: Batches, webhooks: Deliveries) -> None:
    """Tell of each batch with a webhook when it is over, for ever, under one id however often, across restarts."""
    while True:
        for batch in batches.untold():
            try:
                await _tell(batch, webhooks)
                await batches.note_told(batch)
            except TransientError as error:
                log.warning("batch_end_not_told", batch_id=batch.state.id, error=error.detail)
        await asyncio.sleep(LOOK_S)


async def _tell(batch: Batch, webhooks: Deliveries) -> None:
    webhook = batch.state.webhook
    if webhook is msgspec.UNSET:
        return
    address = "" if webhook.edge_url is msgspec.UNSET else webhook.edge_url
    data = msgspec.json.encode(make_batch(batch, base_url=address, now=time.time(), hub_away_since=None))
    await webhooks.record_batch(batch.state.id, data, tenant=batch.state.tenant, url=webhook.url)
