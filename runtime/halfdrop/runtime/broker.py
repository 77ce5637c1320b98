"""A connection to NATS with JetStream: opened once, closed in order, version checked, reconnecting for ever."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext

from halfdrop.contracts.errors import InvalidInput, PermanentError, Unavailable

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 5.0
"""A JetStream request that takes longer is an outage for our purposes."""

RECONNECT_WAIT_S = 0.5
AUTHORITY = "?ca="
"""Behind a tls:// URL: the file of the authority that the server's certificate is of, in place of the system's. Not
SSL_CERT_FILE, for that speaks to every library: the object store would be believed by that authority alone."""

VERSION_MIN = (2, 14)
"""Older servers accept per-message TTLs, schedules and priorities and silently ignore them."""


class Broker:
    """An open connection and the JetStream of its default domain."""

    def __init__(self, nc: Client, domain: str | None) -> None:
        self.nc = nc
        self.domain = domain
        self.js = self.jetstream(domain)

    def jetstream(self, domain: str | None) -> JetStreamContext:
        """Return the JetStream of `domain`, such as the hub's as seen through an edge's leaf node."""
        return self.nc.jetstream(domain=domain, timeout=REQUEST_TIMEOUT_S)

    @property
    def is_connected(self) -> bool:
        return self.nc.is_connected


@asynccontextmanager
async def open_broker(url: str, *, name: str, domain: str | None = None) -> AsyncIterator[Broker]:
    """Connect to the NATS server at `url`, such as tls://user:word@host:4222?ca=/ca.crt; on leaving, flush and close.

    Raises Unavailable when nothing answers within 5 s, PermanentError(old-server) below version 2.14. Afterwards the
    client reconnects for ever: an outage later shows as failing requests, and ends by itself.
    """
    nc = await _connect(url, name)
    try:
        _check_version(nc)
        yield Broker(nc, domain)
    finally:
        await _close(nc)


async def _connect(url: str, name: str) -> Client:
    nc: Client | None = None
    url, context = read_authority(url)
    shown = without_password(url)

    async def on_error(error: Exception) -> None:
        log.debug("nats_error", error=repr(error))

    async def on_disconnect() -> None:
        if nc is None or not nc.is_closed:  # closing it ourselves is no news
            log.warning("nats_disconnected", url=shown)

    async def on_reconnect() -> None:
        log.info("nats_reconnected", url=shown)

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            nc = await nats.connect(
                url,
                tls=context,
                name=name,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,
                # Fail a publish at once while disconnected: our own streams and retries hold the data, not a buffer.
                pending_size=-1,
            )
            return nc
    except (OSError, TimeoutError, NoServersError, NatsError) as error:
        raise Unavailable(f"NATS at {shown} does not answer: {str(error) or type(error).__name__}") from error


def read_authority(url: str) -> tuple[str, ssl.SSLContext | None]:
    """Return the URL as the library takes it, and whom to believe where the URL says that.

    Raises InvalidInput where the file is none of certificates.
    """
    plain, _, path = url.partition(AUTHORITY)
    if not path:
        return url, None
    allowed = f"tls://… and, behind {AUTHORITY}, a file with certificates in PEM"
    if not plain.startswith("tls://"):
        raise InvalidInput("NATS URL", got=without_password(url), allowed=allowed)
    try:
        return plain, ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:  # ssl's own is an OSError, too, but for what it cannot parse
        raise InvalidInput("NATS URL", got=f"{without_password(url)} ({error})", allowed=allowed) from error


def without_password(url: str) -> str:
    """Return the URL, or a comma-separated list of them, as it may be logged: without user and password."""
    parts = [one.rpartition("://") for one in url.split(",")]
    return ",".join(f"{scheme}{separator}{rest.rpartition('@')[2]}" for scheme, separator, rest in parts)


def _check_version(nc: Client) -> None:
    version = str(nc.connected_server_version)
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        raise PermanentError(f"NATS server: got version {version}; allowed: {wanted} or newer", code="old-server")


async def _close(nc: Client) -> None:
    try:
        async with asyncio.timeout(2):
            if nc.is_connected:
                await nc.flush()
            await nc.close()
    except (TimeoutError, NatsError, OSError, RuntimeError) as error:  # RuntimeError: uvloop, gone already
        log.warning("nats_close_failed", error=repr(error))
