"""What the edge knows of its way to one region's hub: up or down, since when. Logged when it changes, not at each
failure."""

import asyncio
import time

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from halfdrop.contracts.subjects import DRAINING_KEY, LOCAL_REGION, POLICY_BUCKET

log = structlog.get_logger()

PROBE_TIMEOUT_S = 1.0
"""A hub that takes longer to say that it is there counts as away until it does."""


class HubLink:
    """A hub's JetStream, as seen through the leaf node, and whether it last answered."""

    def __init__(self, js: JetStreamContext, region: str = LOCAL_REGION) -> None:
        self.js = js
        self.region = region
        self.is_up: bool | None = None
        """None until the first attempt."""

        self.is_draining = False
        """The region shall take no new orders, as its hub last said."""

        self.detail = "not tried yet"
        self.away_since: float | None = None
        """Unix time at which the hub went away; None while it answers."""

        self._since_s = time.monotonic()
        self.forwarded = 0
        """Orders that the hub acknowledged since the start."""

        self.followed = 0
        """Statuses received from the hub."""

        self.failures = 0
        """Tries that failed."""

    async def probe(self) -> None:
        """Ask the hub whether it takes orders, and report what it says: sooner known than by what waits for it."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                found = await self.js.get_last_msg(f"KV_{POLICY_BUCKET}", f"$KV.{POLICY_BUCKET}.{DRAINING_KEY}")
        except NotFoundError:
            self.is_draining = False
            self.report_up()
        except (NatsError, TimeoutError, OSError) as error:
            self.report_down(error)
        else:
            self.is_draining = found.data == b"true"
            self.report_up()

    def report_up(self) -> None:
        """Something on the hub answered."""
        if self.is_up is not True:
            after_s = round(time.monotonic() - self._since_s, 1)
            log.info("hub_reached", region=self.region, after_s=after_s)
            self._turn(True, "")

    def report_down(self, error: BaseException) -> None:
        """Something on the hub did not answer."""
        self.failures += 1
        if self.is_up is not False:
            log.warning("hub_unreachable", region=self.region, error=repr(error))
            self._turn(False, str(error) or type(error).__name__)

    def _turn(self, is_up: bool, detail: str) -> None:
        self.is_up, self.detail, self._since_s = is_up, detail, time.monotonic()
        self.away_since = None if is_up else time.time()
