"""Jobs from lanes: a pull that is answered at once, with jobs or with the reason why there are no more.

nats-py's `fetch` costs several tasks for each pull, and its `request` cannot carry one: JetStream's answer is the job
itself, under its own subject. So there is one inbox for all pulls of a worker, which asks several lanes at once and
waits for all of them; after an answer that stays away a new inbox, so that one too late goes to nobody and ack_wait
gives its job to another.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """Why a pull brought no (more) jobs."""

    EMPTY = "empty"  # all jobs of the lane are in somebody's hand, or wait for their next attempt
    CAPPED = "capped"  # its tenant has as many in hand as it may
    GONE = "gone"  # the consumer is not there


_STATUSES = {"404": Nothing.EMPTY, "408": Nothing.CAPPED, "409": Nothing.GONE, "503": Nothing.GONE}


@dataclass(kw_only=True, eq=False)
class Wish:
    """So many jobs are wanted of one consumer, and what came of it."""

    consumer: str
    count: int
    is_capped: bool = False
    """It has a max_ack_pending."""

    found: list[Msg] = field(default_factory=list)
    nothing: Nothing | None = None
    """Why there are fewer than wanted; None as well where the server said nothing in time."""

    @property
    def is_answered(self) -> bool:
        return self.nothing is not None or len(self.found) >= self.count


class Puller:
    """Pulls jobs, from several lanes at once, one such round at a time. Close it when done."""

    def __init__(self, broker: Broker) -> None:
        self._nc = broker.nc
        self._api = f"$JS.{broker.domain}.API" if broker.domain else "$JS.API"
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._wishes: dict[str, Wish] = {}
        """What this round asks for, by consumer."""

        self._round = 0
        self._asked: dict[str, Wish] = {}
        """The same, by the subject under which a status would come."""

        self._answered = asyncio.Event()
        self._odd = ""
        """A status that says nothing we know."""

    async def pull(self, wishes: Sequence[Wish]) -> None:
        """Ask for all of `wishes`, each of another consumer, and return once every one is answered.

        Raises Unavailable where no server answers, unless some jobs came.
        """
        self._answered.clear()
        self._odd = ""
        try:
            if self._subscription is None:
                self._inbox = self._nc.new_inbox()
                self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._hear)
            for wish in wishes:
                await self._ask(wish)
            async with asyncio.timeout(ANSWER_S):
                await self._answered.wait()
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            if not any(wish.found for wish in wishes):
                raise Unavailable(f"no server answers the pull: {error!r}") from error
            log.warning("pull_answered_in_part", error=repr(error))
        finally:
            self._wishes.clear()
            self._asked.clear()
        if self._odd and not any(wish.found for wish in wishes):
            raise Unavailable(f"the pull was answered with status {self._odd!r}")

    async def _ask(self, wish: Wish) -> None:
        # JetStream ends what it cannot fill with a status, after the jobs that there are.
        body: dict[str, object] = {"batch": wish.count, "no_wait": True}
        if wish.is_capped:
            body = {"batch": wish.count, "expires": int(CAPPED_WAIT_S * 1e9)}
        self._round += 1
        reply = f"{self._inbox}.{self._round}"
        self._wishes[wish.consumer] = self._asked[reply] = wish
        subject = f"{self._api}.CONSUMER.MSG.NEXT.{JOBS_STREAM}.{wish.consumer}"
        await self._nc.publish(subject, json.dumps(body).encode(), reply=reply)

    async def close(self) -> None:
        """Give the inbox up; the next pull makes another."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._nc.is_closed:
            try:
                await subscription.unsubscribe()
            except (NatsError, OSError) as error:
                log.debug("unsubscribe_failed", error=repr(error))

    async def _hear(self, message: Msg) -> None:
        wish = self._asked.get(message.subject)
        if wish is not None:
            status = (message.headers or {}).get(Header.STATUS.value, "")
            wish.nothing = _STATUSES.get(status, Nothing.EMPTY)
            self._odd = self._odd or ("" if status in _STATUSES else status or "none")
        elif message.reply:
            wish = self._wishes.get(message.metadata.consumer)
            if wish is None or wish.is_answered:
                await message.nak()  # nobody waits for it any more: whoever does may have it
                return
            wish.found.append(message)
        if self._wishes and all(each.is_answered for each in self._wishes.values()):
            self._answered.set()
