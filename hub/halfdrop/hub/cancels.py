"""How a cancel reaches the worker: looked up before the start, heard while the job runs, looked up again now and then.

The live message is quick but can be lost; the stream CANCELS is certain but must be asked.
"""

import asyncio

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from halfdrop.contracts.subjects import CANCELS_STREAM, cancel_job
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

LOOK_AGAIN_S = 10.0


async def is_canceled(broker: Broker, job_id: str) -> bool:
    """True if CANCELS names the job. False, with a warning, if that cannot be found out: the order stands until a
    cancel is known."""
    try:
        await broker.js.get_last_msg(CANCELS_STREAM, cancel_job(job_id))
    except NotFoundError:
        return False
    except (NatsError, OSError, TimeoutError) as error:
        log.warning("cancel_lookup_failed", job_id=job_id, error=repr(error))
        return False
    return True


async def wait_for_cancel(broker: Broker, job_id: str, *, look_again_s: float = LOOK_AGAIN_S) -> None:
    """Return once the job is cancelled; without one, wait for ever.

    Listens first and looks after, so that a cancel between the two is not missed.
    """
    heard = asyncio.Event()

    async def hear(_: Msg) -> None:
        heard.set()

    subscription = await broker.nc.subscribe(cancel_job(job_id), cb=hear)
    try:
        while not heard.is_set() and not await is_canceled(broker, job_id):
            try:
                async with asyncio.timeout(look_again_s):
                    await heard.wait()
            except TimeoutError:
                continue
    finally:
        try:
            await subscription.unsubscribe()
        except (NatsError, OSError) as error:
            log.debug("unsubscribe_failed", error=repr(error))
