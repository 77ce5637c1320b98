"""The HTTP server: granian inside this process and loop, so that no worker can outlive us."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.edge.front import Front
from halfdrop.edge.hits_first import HitsFirst, spawn_worker
from halfdrop.edge.rsgi_bridge import run_asgi

log = structlog.get_logger()

BACKLOG = 1024
READY_TIMEOUT_S = 5.0


def claim_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0. Raises PermanentError(port-taken) when somebody listens there.

    granian lets several processes share a port, which would hide a second edge; a plain bind finds it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            detail = f"cannot listen on {host} port {port}: {error.strerror}; choose another HALFDROP_EDGE_PORT"
            raise PermanentError(detail, code="port-taken") from error
        return int(probe.getsockname()[1])


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
    serving = asyncio.ensure_future(server.serve(spawn_worker))
    try:
        await _wait_until_open(serving, host, port)
        yield
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(grace_s):
                await serving
        except TimeoutError:
            log.warning("requests_cut_off", grace_s=grace_s)


async def _wait_until_open(serving: "asyncio.Future[None]", host: str, port: int) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                if serving.done():
                    serving.result()
                    raise Unavailable(f"the HTTP server ended before it listened on {host} port {port}")
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                return
    except TimeoutError as error:
        raise Unavailable(f"the HTTP server does not answer on {host} port {port}") from error
