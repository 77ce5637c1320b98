"""Addresses that open one thing for a while without a key: `/p/KEY.webp?px=256&tenant=…&expires=…&signature=…`.

The signature is HMAC-SHA256 over tenant, expiry, path and whatever else stands in the query, so it fits this address
and no other. It says nothing about a method: the front asks for it where something is fetched only. Nothing is looked
up before it is right, so a refusal tells nobody what exists. See docs/adr/0012.
"""

import base64
import hmac
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.edge.keys import TENANT_PATTERN
from halfdrop.edge.signing_keys import SigningKey, choose_signing_key, verifies_until

MARK = b"signature="
"""In the query of every signed address, and of no other."""

_PURPOSE = b"halfdrop.address.v1"
"""Signed as well, so that nothing signed for another purpose can pass for an address."""

SIGNATURE_FIELDS = ("tenant", "expires", "signature")
_FIELDS = tuple(name.encode() for name in SIGNATURE_FIELDS)
_TENANT = re.compile(TENANT_PATTERN.encode().removesuffix(b"$") + rb"\Z")
_EXPIRES = re.compile(rb"[0-9]{1,11}\Z")


class AddressRefused(PermanentError):
    """A signature that opens nothing (any more)."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """An address whose signature is right."""

    tenant: str
    expires_at: int
    """Unix seconds."""


class Signer:
    """Signs and verifies with the keys of a region."""

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self.ttl_s = ttl_s
        self._clock = clock
        self._keys: Sequence[SigningKey] = ()

    def replace(self, keys: Sequence[SigningKey]) -> None:
        """Take these keys, oldest first, in place of those known."""
        self._keys = keys

    def sign(self, address: str, tenant: str) -> str:
        """Return `address`, a path or a whole URL, with what lets in whoever has it until it expires."""
        now = self._clock()
        key, expires = choose_signing_key(self._keys, now), math.floor(now + self.ttl_s)
        parts = urlsplit(address)
        signature = _sign(key, parts.path, parts.query.encode(), tenant.encode(), b"%d" % expires)
        joint = "&" if parts.query else "?"
        return f"{address}{joint}tenant={tenant}&expires={expires}&signature={signature.decode()}"

    def verify(self, path: str, query: bytes) -> Signed:
        """Return what was signed. Raises AddressRefused for anything but an address as `sign` made it, in its time."""
        tenant, expires, signature, rest = _take_apart(query)
        now = self._clock()
        candidates = [key for index, key in enumerate(self._keys) if now <= verifies_until(self._keys, index)]
        # Each is compared, and each comparison takes as long however much of it is right.
        matches = [hmac.compare_digest(_sign(key, path, rest, tenant, expires), signature) for key in candidates]
        if not any(matches):
            raise AddressRefused(
                "signature: it does not fit this address; allowed: an address as the edge gave it, or an API key",
                code="bad-signature",
            )
        if now >= int(expires):
            expired = datetime.fromtimestamp(int(expires), UTC).isoformat().replace("+00:00", "Z")
            raise AddressRefused(
                f"expires: this address was good until {expired}; ask again for the preview or the prediction, "
                "whose answer has a new one, or send an API key",
                code="address-expired",
            )
        return Signed(tenant=tenant.decode(), expires_at=int(expires))

    def seconds_left(self, signed: Signed) -> int:
        """Return how long the address is good for, rounded down."""
        return max(0, math.floor(signed.expires_at - self._clock()))


def without_signature(query: bytes) -> bytes:
    """Return the query of an address as it was before it was signed."""
    return b"&".join(pair for pair in query.split(b"&") if pair.partition(b"=")[0] not in _FIELDS)


def _sign(key: SigningKey, path: str, query: bytes, tenant: bytes, expires: bytes) -> bytes:
    # The path comes last: it alone could hold a line's end.
    signed = b"\n".join((_PURPOSE, tenant, expires, query, path.encode("utf-8", "surrogateescape")))
    digest = hmac.digest(key.secret, signed, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _take_apart(query: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return tenant, expiry, signature and the rest of the query, in its order. Raises AddressRefused."""
    found: dict[bytes, bytes] = {}
    rest = []
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name not in _FIELDS:
            rest.append(pair)
        elif name in found:
            raise AddressRefused(f"{name.decode()}: got two; allowed: one", code="bad-signature")
        else:
            found[name] = value
    tenant, expires, signature = (found.get(name, b"") for name in _FIELDS)
    if not _TENANT.match(tenant) or not _EXPIRES.match(expires):
        raise AddressRefused(
            "signature: got one without a tenant and an expiry; allowed: an address as the edge gave it, or an API key",
            code="bad-signature",
        )
    return tenant, expires, signature, b"&".join(rest)
