"""What the edge knows of its way to the hub: up or down, since when. Logged when it changes, not at each failure."""

import asyncio
import time

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import ServiceUnavailableError

log = structlog.get_logger()

FETCH_TIMEOUT_S = 2.0
"""A pull that brings nothing is made anew after this; a pull lost in an outage costs as long."""


PROBE_TIMEOUT_S = 1.0
"""A hub that takes longer to say that it is there counts as away until it does."""


class HubLink:
    """The hub's JetStream, as seen through the leaf node, and whether it last answered."""

    def __init__(self, js: JetStreamContext) -> None:
        self.js = js
        self.is_up: bool | None = None
        """None until the first attempt."""

        self.detail = "not tried yet"
        self.away_since: float | None = None
        """Unix time at which the hub went away; None while it answers."""

        self._since_s = time.monotonic()
        self.forwarded = 0
        """Orders that the hub acknowledged since the start."""

        self.followed = 0
        """Statuses received from hubs."""

        self.failures = 0
        """Tries that failed."""

    async def probe(self) -> None:
        """Ask the hub whether it is there, and report it: sooner known than by what waits for orders and statuses."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self.js.account_info()
        except (NatsError, TimeoutError, OSError) as error:
            self.report_down(error)
        else:
            self.report_up()

    def report_up(self) -> None:
        """Something on the hub answered."""
        if self.is_up is not True:
            log.info("hub_reached", after_s=round(time.monotonic() - self._since_s, 1))
            self._turn(True, "")

    def report_down(self, error: BaseException) -> None:
        """Something on the hub did not answer."""
        self.failures += 1
        if self.is_up is not False:
            log.warning("hub_unreachable", error=repr(error))
            self._turn(False, str(error) or type(error).__name__)

    def _turn(self, is_up: bool, detail: str) -> None:
        self.is_up, self.detail, self._since_s = is_up, detail, time.monotonic()
        self.away_since = None if is_up else time.time()


async def fetch_next(subscription: JetStreamContext.PullSubscription) -> Msg | None:
    """Return the next message, or None if none came in FETCH_TIMEOUT_S. Raises ServiceUnavailableError at an outage.

    nats-py reports "nobody answered" like "nothing came", only sooner: told apart by the time it took, or a lost
    server would be asked thousands of times a second.
    """
    asked_s = time.monotonic()
    try:
        return (await subscription.fetch(1, timeout=FETCH_TIMEOUT_S))[0]
    except TimeoutError as error:
        if time.monotonic() - asked_s > FETCH_TIMEOUT_S / 2:
            return None
        raise ServiceUnavailableError(description="no server answers the pull") from error
