"""Orders that another edge took: what the hubs last told of them.

An edge keeps the orders that it took itself. While it is away, settles, or after it was scaled away, its clients ask
the ones that remain; hubs keep the news of every order for a week. What no worker has begun, its own edge
alone knows.
"""

import asyncio
from collections.abc import Iterable

import msgspec
import structlog
from msgspec import UNSET
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from halfdrop.contracts.jobs import JobStatus, decode_status, supersedes
from halfdrop.contracts.subjects import EVENTS_STREAM, job_event
from halfdrop.edge.hub_link import HubLink

log = structlog.get_logger()

ASK_TIMEOUT_S = 1.0
"""Somebody waits for the answer; a hub that takes longer is asked again at the next poll."""

ANY_EDGE = "*"


async def ask_hubs(links: Iterable[HubLink], order_id: str) -> JobStatus | None:
    """Return the newest status of an order that any hub was told of; None if none was, or none that answers."""
    asked = [_ask(link, order_id) for link in links if link.is_up]
    newest: JobStatus | None = None
    for told in await asyncio.gather(*asked):
        if told is not None and (newest is None or supersedes(told, newest)):
            newest = told
    return newest


async def _ask(link: HubLink, order_id: str) -> JobStatus | None:
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            message = await link.js.get_last_msg(EVENTS_STREAM, job_event(ANY_EDGE, order_id))
        status = decode_status(message.data or b"")
    except NotFoundError:
        return None
    except (NatsError, TimeoutError, OSError) as error:
        log.info("hub_gave_no_answer", region=link.region, job_id=order_id, error=repr(error))
        return None
    except msgspec.MsgspecError as error:
        log.error("status_unreadable", job_id=order_id, error=str(error))
        return None
    return status if status.region is not UNSET else msgspec.structs.replace(status, region=link.region)
