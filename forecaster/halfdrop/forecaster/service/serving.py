"""The HTTP server of the forecaster: granian, as the edge has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from halfdrop.runtime.serving import serving


@asynccontextmanager
async def serve(app: Any, *, host: str, port: int, grace_s: float) -> AsyncIterator[None]:
    """Serve the ASGI application inside the block; on leaving, finish requests in flight within `grace_s` seconds.

    Raises Unavailable when the server does not come up.
    """
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    async with serving(server, server.serve(), host=host, port=port, grace_s=grace_s):
        yield
