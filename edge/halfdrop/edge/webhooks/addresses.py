"""Where a webhook may lead: what an address may be, and which IP addresses may be connected to. Pure.

A webhook makes this edge connect to where a client says. So the address is judged twice: its text when it is ordered,
and what its name resolves to whenever a connection is made.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

import msgspec

from halfdrop.contracts.errors import InvalidInput

FIELD = "webhook"
URL_MAX_CHARS = 2_000

_NAME = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PORT = (
    "(?::(?:80|443|102[4-9]|10[3-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}"
    "|655[0-2][0-9]|6553[0-5]))?"
)
"""80, 443 and what needs no privilege: below 1024 live mail, SSH and the like, which a request could be mistaken by."""

_REST = r"(?:[/?][!-\"$-~]*)?"
HTTPS_PATTERN = f"^https://{_NAME}{_PORT}{_REST}$"
"""What any edge takes, for its description. No name and password, which would end up in logs; no fragment."""

_URL_PATTERN = re.compile(rf"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]){_PORT}{_REST}")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOCAL_NAMES = ("localhost", "local", "internal")
"""Last labels that name nothing public: RFC 6761, RFC 6762, and ICANN's for private use."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All that IPv6 gives to public servers; outside it lie local addresses, and IPv4 ones in forms long out of use."""

_METADATA = (ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("100.100.100.200"))
"""What clouds tell their machines from, at addresses that look public or are shared: Azure, Alibaba."""


class AddressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Where this edge delivers to, beside public addresses over https."""

    is_private_allowed: bool = False
    """Anywhere, as in a closed network whose tenants are trusted with it."""

    is_loopback_allowed: bool = False
    """To this machine, over http too: on an open edge, where whoever orders is on it already."""

    is_http_allowed: bool = False

    def admits(self, address: IPAddress) -> bool:
        """True if a connection to `address` may be made."""
        if self.is_private_allowed:
            return not (address.is_multicast or address.is_unspecified)
        return is_public(address) or (self.is_loopback_allowed and _unwrap(address).is_loopback)


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """What fails together: a server, as one tenant sees it."""

    tenant: str
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        """The address without its path, in which there may be a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def check_address(url: str, policy: AddressPolicy, *, field: str = FIELD) -> str:
    """Return `url` if it may be ordered. Raises InvalidInput.

    What its name resolves to is looked at when it is connected to.
    """
    allowed = f"an https address of a public server, port 80, 443 or above 1023, up to {URL_MAX_CHARS} characters"
    if len(url) > URL_MAX_CHARS or not _URL_PATTERN.fullmatch(url):
        raise InvalidInput(field, got=url, allowed=allowed)
    parts = urlsplit(url)
    literal = _read_literal(parts.hostname or "")
    is_loopback = _is_loopback(parts.hostname or "", literal)
    if literal is None and not is_loopback and not _is_public_name(parts.hostname or "", policy):
        raise InvalidInput(field, got=url, allowed=allowed)
    if (literal is not None and not policy.admits(literal)) or (literal is None and not _may_name(is_loopback, policy)):
        raise InvalidInput(field, got=url, allowed=f"{allowed}; this one is private")
    if parts.scheme == "http" and not (policy.is_http_allowed or (is_loopback and policy.is_loopback_allowed)):
        raise InvalidInput(field, got=url, allowed=f"{allowed}; http only where HALFDROP_EDGE_WEBHOOK_HTTP allows it")
    return url


def endpoint_of(tenant: str, url: str) -> Endpoint:
    """Return the server that `url`, which was checked, leads to."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Endpoint(tenant, parts.scheme, (parts.hostname or "").lower(), port)


def is_public(address: IPAddress) -> bool:
    """True if `address` is somebody's server on the internet, and so is every address that hides in it."""
    inner = _unwrap(address)
    if inner != address and not is_public(inner):
        return False
    if inner in _METADATA or (inner.version == 6 and inner not in _UNICAST):
        return False
    # is_global knows the registries of special addresses: loopback, private, link-local, shared (CGNAT), documentation.
    return inner.is_global and not (inner.is_multicast or inner.is_reserved or inner.is_unspecified)


def _unwrap(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one leads to: mapped, NAT64, 6to4, Teredo; else the address itself."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def _read_literal(host: str) -> IPAddress | None:
    """Return the address that `host` writes, in the forms that resolvers take, too: 127.1, 0x7f000001, 2130706433."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _is_loopback(host: str, literal: IPAddress | None) -> bool:
    if literal is not None:
        return _unwrap(literal).is_loopback
    return host.rpartition(".")[2].lower() == "localhost"


def _is_public_name(host: str, policy: AddressPolicy) -> bool:
    return bool(re.fullmatch(_NAME, host)) and (
        policy.is_private_allowed or host.rpartition(".")[2].lower() not in _LOCAL_NAMES
    )


def _may_name(is_loopback: bool, policy: AddressPolicy) -> bool:
    return not is_loopback or policy.is_loopback_allowed or policy.is_private_allowed
