"""The HTTP server of the forecaster: granian inside this process and loop, as the edge has it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.forecaster.service.settings import PREFIX

log = structlog.get_logger()

READY_TIMEOUT_S = 10.0


def claim_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0. Raises PermanentError(port-taken) when somebody listens there.

    granian lets several processes share a port, which would hide a second forecaster; a plain bind finds it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            detail = f"cannot listen on {host} port {port}: {error.strerror}; choose another --port or {PREFIX}PORT"
            raise PermanentError(detail, code="port-taken") from error
        return int(probe.getsockname()[1])


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
    serving = asyncio.ensure_future(server.serve())
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
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return
    except TimeoutError as error:
        raise Unavailable(f"the HTTP server does not answer on {host} port {port}") from error
