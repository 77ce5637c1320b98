"""Which servers know each other: whether an edge's leaf node reaches the hub's JetStream."""

import asyncio

import nats
import nats.errors
from nats.aio.client import Client

from halfdrop.contracts.errors import Unavailable

LINK_TIMEOUT_S = 15.0
"""A leaf node tries again each second; one or two tries are the rule."""

ASK_TIMEOUT_S = 0.5
ASK_AGAIN_S = 0.02


async def wait_until_linked(url: str, *, domain: str, timeout_s: float = LINK_TIMEOUT_S) -> None:
    """Wait until the server at `url` reaches the JetStream of `domain`. Raises Unavailable after `timeout_s`."""
    client = await nats.connect(url, name="link probe", allow_reconnect=False)
    try:
        async with asyncio.timeout(timeout_s):
            while not await _reaches(client, domain):  # noqa: ASYNC110  # nothing tells us but asking
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError as error:
        raise Unavailable(f"{url} does not reach the JetStream of {domain!r}") from error
    finally:
        await client.close()


async def _reaches(client: Client, domain: str) -> bool:
    try:
        await client.request(f"$JS.{domain}.API.INFO", b"", timeout=ASK_TIMEOUT_S)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        return False
    return True
