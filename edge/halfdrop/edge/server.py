"""The edge's HTTP server: granian, hits first, everything else through Litestar."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from halfdrop.edge.front import Front
from halfdrop.edge.hits_first import HitsFirst, spawn_worker
from halfdrop.edge.rsgi_bridge import run_asgi
from halfdrop.runtime.serving import serving

BACKLOG = 1024


@asynccontextmanager
async def serve(app: Front, *, host: str, port: int, grace_s: float) -> AsyncIterator[None]:
    """Serve `app` inside the block; on leaving, finish the requests in flight within `grace_s` seconds.

    Raises Unavailable when the server does not come up.
    """
    server = Server(
        HitsFirst(try_hit=app.try_hit, serve=partial(run_asgi, app)),
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
    )
    async with serving(server, server.serve(spawn_worker), host=host, port=port, grace_s=grace_s):
        yield
