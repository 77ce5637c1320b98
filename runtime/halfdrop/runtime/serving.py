"""An HTTP server inside this process and loop, so that no worker can outlive us: the port, the start and the end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from halfdrop.contracts.errors import PermanentError, Unavailable

if TYPE_CHECKING:
    from granian.server.embed import Server

log = structlog.get_logger()

READY_TIMEOUT_S = 10.0
LOOK_S = 0.01


def claim_port(host: str, port: int, *, choose: str) -> int:
    """Return `port`, or a free one for 0. Raises PermanentError(port-taken) when somebody listens there.

    granian lets several processes share a port, which would hide a second one of us; a plain bind finds it.
    choose: what another port is chosen by, for the error.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            detail = f"cannot listen on {host} port {port}: {error.strerror}; choose another {choose}"
            raise PermanentError(detail, code="port-taken") from error
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(
    server: "Server", work: Coroutine[Any, Any, None], *, host: str, port: int, grace_s: float
) -> AsyncIterator[None]:
    """Run `work`, which serves, inside the block; on leaving, finish requests in flight within `grace_s` seconds.

    Raises Unavailable when the server does not come up.
    """
    task = asyncio.ensure_future(work)
    try:
        await _wait_until_open(task, host, port)
        yield
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(grace_s):
                await task
        except TimeoutError:
            log.warning("requests_cut_off", grace_s=grace_s)


async def _wait_until_open(task: "asyncio.Future[None]", host: str, port: int) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                if task.done():
                    task.result()
                    raise Unavailable(f"the HTTP server ended before it listened on {host} port {port}")
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(LOOK_S)
                    continue
                writer.close()
                return
    except TimeoutError as error:
        raise Unavailable(f"the HTTP server does not answer on {host} port {port}") from error
