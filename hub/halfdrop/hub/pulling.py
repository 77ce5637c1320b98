"""One job from one lane: a pull that is answered at once, with the job or with the reason why there is none.

nats-py's `fetch` costs several tasks for each pull, and its `request` cannot carry one: JetStream's answer is the job
itself, under its own subject. So there is one inbox for all pulls of a worker, one pull at a time; after one that stays
without an answer a new inbox, so that an answer too late goes to nobody and ack_wait gives its job to another.
"""

import asyncio
import json
from enum import Enum

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import Header

from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.subjects import JOBS_STREAM
from halfdrop.runtime.broker import Broker

log = structlog.get_logger()

ANSWER_S = 5.0
"""A pull that is not answered for so long is an outage; a busy server answers in milliseconds."""

CAPPED_WAIT_S = 0.005
"""At its cap a consumer says nothing until a pull expires; until then no other lane can be looked at."""


class Nothing(Enum):
    """Why a pull brought no job."""

    EMPTY = "empty"  # all jobs of the lane are in somebody's hand, or wait for their next attempt
    CAPPED = "capped"  # its tenant has as many in hand as it may
    GONE = "gone"  # the consumer is not there


_STATUSES = {"404": Nothing.EMPTY, "408": Nothing.CAPPED, "409": Nothing.GONE, "503": Nothing.GONE}


class Puller:
    """Pulls jobs, one at a time. Close it when done."""

    def __init__(self, broker: Broker) -> None:
        self._nc = broker.nc
        self._api = f"$JS.{broker.domain}.API" if broker.domain else "$JS.API"
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._answer: asyncio.Future[Msg] | None = None

    async def pull(self, consumer: str, *, is_capped: bool) -> Msg | Nothing:
        """Return the next job of `consumer`, or why there is none. is_capped: it has a max_ack_pending.

        Raises Unavailable where no server answers.
        """
        wish: dict[str, object] = {"batch": 1, "no_wait": True}
        if is_capped:
            wish = {"batch": 1, "expires": int(CAPPED_WAIT_S * 1e9)}
        try:
            if self._subscription is None:
                self._inbox = self._nc.new_inbox()
                self._subscription = await self._nc.subscribe(self._inbox, cb=self._hear)
            self._answer = asyncio.get_running_loop().create_future()
            subject = f"{self._api}.CONSUMER.MSG.NEXT.{JOBS_STREAM}.{consumer}"
            await self._nc.publish(subject, json.dumps(wish).encode(), reply=self._inbox)
            async with asyncio.timeout(ANSWER_S):
                message = await self._answer
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise Unavailable(f"no server answers the pull: {error!r}") from error
        finally:
            self._answer = None
        if message.subject != self._inbox:
            return message
        status = (message.headers or {}).get(Header.STATUS.value, "")
        if status not in _STATUSES:
            raise Unavailable(f"the pull was answered with status {status!r}")
        return _STATUSES[status]

    async def close(self) -> None:
        """Give the inbox up; the next pull makes another."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._nc.is_closed:
            try:
                await subscription.unsubscribe()
            except (NatsError, OSError) as error:
                log.debug("unsubscribe_failed", error=repr(error))

    async def _hear(self, message: Msg) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)
        elif message.reply:
            await message.nak()  # nobody waits for it any more: whoever does may have it
