"""One attempt at a delivery: a POST to an address that was checked, within 20 s, of whose answer little is read.

The pool connects through `CheckedBackend`, which resolves a name, refuses it unless every address it has may be
connected to, and connects to one of just those: what is connected to is what was checked, whatever the name says a
moment later. TLS and the Host field go on with the name. There are no redirects, proxies, cookies or decompression
here, because httpcore, the engine under httpx, has none.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore
import msgspec

from halfdrop.edge.webhooks.addresses import AddressPolicy, IPAddress
from halfdrop.edge.webhooks.schedule import IN_FLIGHT_MAX
from halfdrop.edge.webhooks.timing import read_retry_after

TOTAL_S = 20.0
"""An attempt, from the look-up of its name to the answer's head: Standard Webhooks says 15 to 30."""

CONNECT_S, READ_S = 10.0, 20.0

ANSWER_MAX_BYTES = 8 * 1024
ANSWER_S = 1.0
"""What is read of an answer's body, and how long, so that its connection can be used again; then it is closed."""

IDLE_S = 30.0
"""How long a connection is kept for the next delivery."""

RESOLVERS_MAX = 32
"""Names looked up at once that were not found last time, and as many that were. A look-up cannot be ended and a name
server that hangs keeps its thread longer than an attempt lasts: so unknown names have threads of their own."""

NAMES_MAX = 10_000
"""Names remembered as found."""

ADDRESSES_TRIED = 2

GONE = 410
TOO_MANY, UNAVAILABLE = 429, 503

Resolve = Callable[[str, int], Awaitable[list[IPAddress]]]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    code: str
    """delivered, gone, status-3xx, status-4xx, status-5xx, private, dns, connect, tls, timeout, protocol."""

    detail: str = ""
    status: int = 0
    retry_after_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def is_delivered(self) -> bool:
        return self.code == "delivered"

    @property
    def is_permanent(self) -> bool:
        """True if trying again would change nothing, or must not be done."""
        return self.code in ("gone", "private")


class AddressForbidden(Exception):
    """A name has an address that may not be connected to."""


class NameUnknown(Exception):
    """A name has no address."""


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to a name."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the interface's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the addresses of `host`. Raises AddressForbidden, NameUnknown, httpcore's errors."""
        addresses = await self._resolve(host, port)
        if forbidden := [address for address in addresses if not self._policy.admits(address)]:
            raise AddressForbidden(f"{host} is at {forbidden[0]}, which is not a public address")
        error: Exception = NameUnknown(f"{host} has no address")
        for address in addresses[:ADDRESSES_TRIED]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, (timeout or CONNECT_S) / ADDRESSES_TRIED, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def sleep(self, seconds: float) -> None:
        """Sleep; httpcore's, between connection attempts of its own."""
        await self._inner.sleep(seconds)


class Sender:
    """Sends deliveries over a pool of connections; close it."""

    def __init__(
        self, policy: AddressPolicy, *, resolve: Resolve | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._found: OrderedDict[str, None] = OrderedDict()
        self._threads = ThreadPoolExecutor(RESOLVERS_MAX, thread_name_prefix="webhook-names")
        self._threads_for_unknown = ThreadPoolExecutor(RESOLVERS_MAX, thread_name_prefix="webhook-unknown-names")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=IN_FLIGHT_MAX + 8,  # the test deliveries
            max_keepalive_connections=IN_FLIGHT_MAX,
            keepalive_expiry=IDLE_S,
            network_backend=CheckedBackend(policy, resolve or self._look_up),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()
        for threads in (self._threads, self._threads_for_unknown):
            threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST `body` once and return how it went; raises nothing but what cancels it."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(TOTAL_S):
                outcome = await self._post(url, headers, body)
        except Exception as error:  # whatever a stranger's server makes our library raise is that delivery's failure
            outcome = _translate(error)
        return msgspec.structs.replace(outcome, elapsed_s=time.monotonic() - began_s)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        fields = {"content-type": "application/json", "user-agent": "Halfdrop-Webhooks/1", **headers}
        limits = {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": TOTAL_S}
        async with self._pool.stream(
            "POST", url, headers=list(fields.items()), content=body, extensions={"timeout": limits}
        ) as response:
            await _read_a_little(response)
            return _judge(response)

    async def _look_up(self, host: str, port: int) -> list[IPAddress]:
        was_found = self._found.pop(host, 0) is None  # until it is found again
        threads = self._threads if was_found else self._threads_for_unknown
        try:
            found = await asyncio.get_running_loop().run_in_executor(threads, _resolve, host, port)
        except (OSError, UnicodeError) as error:
            raise NameUnknown(f"{host} has no address ({error})") from error
        self._found[host] = None
        while len(self._found) > NAMES_MAX:
            self._found.popitem(last=False)
        return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def _resolve(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _read_a_little(response: httpcore.Response) -> None:
    """Read the body if it is short and comes at once; else leave it, and the connection is closed with it."""
    size_bytes = 0
    try:
        async with asyncio.timeout(ANSWER_S):
            async for chunk in response.aiter_stream():
                size_bytes += len(chunk)
                if size_bytes > ANSWER_MAX_BYTES:
                    return
    except (TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        return  # its status has come, and that is the answer


def _judge(response: httpcore.Response) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Outcome(code="delivered", status=status)
    if status == GONE:
        return Outcome(code="gone", status=status, detail="answered 410: it wants no deliveries any more")
    retry_after_s = 0.0
    if status in (TOO_MANY, UNAVAILABLE):
        fields = {name.lower(): value for name, value in response.headers}
        retry_after_s = read_retry_after(fields.get(b"retry-after", b"").decode("latin-1"), time.time())
    kind = f"status-{status // 100}xx" if 300 <= status < 600 else "protocol"
    detail = f"answered {status}" + (", a redirect, which is not followed" if kind == "status-3xx" else "")
    return Outcome(code=kind, status=status, detail=detail, retry_after_s=retry_after_s)


def _translate(error: Exception) -> Outcome:
    if isinstance(error, AddressForbidden):
        return Outcome(code="private", detail=str(error))
    if isinstance(error, NameUnknown):
        return Outcome(code="dns", detail=str(error))
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return Outcome(code="timeout", detail=f"no answer within {TOTAL_S:g} s")
    if isinstance(error, ssl.SSLError) or isinstance(error.__context__, ssl.SSLError):
        return Outcome(code="tls", detail=_say(error))
    if isinstance(error, httpcore.ConnectError):
        return Outcome(code="connect", detail=_say(error))
    return Outcome(code="protocol", detail=_say(error))


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
