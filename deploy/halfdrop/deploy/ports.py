"""Loopback ports for the embedded servers."""

import random
import socket

from halfdrop.contracts.errors import PermanentError

LOOPBACK = "127.0.0.1"

PORT_MIN, PORT_MAX = 20_000, 32_700
"""Below Linux's ephemeral range (32768 up), so that no outgoing connection takes the port of a server that is
down for a moment."""

TRIES = 100


def choose_port() -> int:
    """Return a port of the loopback address on which nothing listens. Raises PermanentError(no-port)."""
    for _ in range(TRIES):
        port = random.randint(PORT_MIN, PORT_MAX)  # noqa: S311  # spread, not secrecy
        if is_free(port):
            return port
    raise PermanentError(f"no free port found between {PORT_MIN} and {PORT_MAX}", code="no-port")


def is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """True if a server could listen on `port` of `host` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True
